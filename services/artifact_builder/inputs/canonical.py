"""Files as the same bytes every time, so that the same commit gives the same release digest."""

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Final

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest date that a .zip can hold
MAXIMUM_UNPACKED_BYTES: Final = 512 * 2**20
"""Of a model's file: thousands of times what fits a microcontroller, optimiser state included."""
_UNREADABLE: Final = (
    AttributeError,  # metadata that is no object
    TypeError,
    EOFError,
    KeyError,
    OSError,
    RuntimeError,  # an encrypted member, or JSON nested without end
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)
_OBJECT_ID: Final = "shared_object_id"


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return a .zip of `files`, sorted by name and without dates."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def canonical_keras(data: bytes) -> bytes:
    """Return a .keras file without what changes from one run to the next: dates, and addresses in memory.

    Raises:
        ValueError: it is not a .keras file.
    """
    try:
        files = _unpacked(data)
        metadata = json.loads(files["metadata.json"])
        configuration = _renumbered(json.loads(files["config.json"]), {})
        metadata.pop("date_saved", None)
    except _UNREADABLE as error:
        raise ValueError(f"not a file of Keras 3 ({error}); write it with model.save('….keras')") from error
    return zipped(
        files | {"metadata.json": json.dumps(metadata).encode(), "config.json": json.dumps(configuration).encode()}
    )


def _unpacked(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())  # what zipfile reads at most
        if unpacked > MAXIMUM_UNPACKED_BYTES:
            raise ValueError(f"{unpacked:,} bytes unpacked, allowed are {MAXIMUM_UNPACKED_BYTES:,}")
        return {name: archive.read(name) for name in archive.namelist()}


def _renumbered(node: Any, numbers: dict[int, int]) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Replace the addresses that stand for shared objects by 1, 2, 3 in the order of their appearance."""
    if isinstance(node, dict):
        return {
            key: numbers.setdefault(value, len(numbers) + 1)
            if key == _OBJECT_ID and isinstance(value, int)
            else _renumbered(value, numbers)
            for key, value in node.items()
        }
    return [_renumbered(value, numbers) for value in node] if isinstance(node, list) else node
