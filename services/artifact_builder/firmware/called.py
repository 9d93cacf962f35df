"""Which C files a model calls. The linker would throw the others away, after each had cost a start of the compiler."""

import re
from collections.abc import Sequence
from pathlib import Path

_NAME = re.compile(r"\bel_\w+")
_DEFINITION = re.compile(r"^(?!static)\w[\w *]*\b(el_\w+)\(", re.MULTILINE)
"""Kernels have what they return and their names on one line, and their prototypes in headers."""


def called_files(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the files without kernels, those with kernels that they call, those with kernels that these call, …

    Args:
        folder: where the files are.
        names: of every C file, headers left out: what is inline there calls no kernel.
    """
    texts = {name: (folder / name).read_text("utf-8") for name in names}
    kernels = {name: _DEFINITION.findall(text) for name, text in texts.items()}
    defined_in = {kernel: name for name, found in kernels.items() for kernel in found}
    called: set[str] = set()
    to_visit = {name for name, found in kernels.items() if not found}
    while to_visit:
        name = to_visit.pop()
        called.add(name)
        to_visit |= {defined_in[kernel] for kernel in _NAME.findall(texts[name]) if kernel in defined_in} - called
    return sorted(called)
