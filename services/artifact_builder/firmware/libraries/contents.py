"""What every kind of library is made of: the kernels, the model, a wrapper with a self-test, a README. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from services.artifact_builder.codegen import GeneratedModel, UnsupportedModelError
from services.artifact_builder.codegen.graph import ElementType
from services.artifact_builder.firmware.compiling import ModelSizes
from shared.boards import LibraryBoard, LibraryTarget
from shared.events.device import GoldenVector

PUBLIC_HEADERS = ("edgeloop.h", "edgeloop_facts.h")
_BYTES_PER_LINE = 24
_PLACEHOLDER = re.compile(r"@([A-Z_]+)@")


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a library says of its model, beyond the generated C."""

    name: str
    """A slug: the project's."""
    version: str
    """``major.minor.revision``."""
    digest: str
    """``sha256:<hex>`` of the int8 .tflite."""
    golden: GoldenVector
    labels: tuple[str, ...] = ()
    """Names of the outputs; none when nobody said."""
    shape: tuple[int, ...] = ()
    """Of one input, channels last; none when nobody said."""
    channels: tuple[str, ...] = ()
    """Names of the input's last axis."""
    licence: str = ""
    """SPDX expression of the model, where there is one."""
    repository: str = ""
    """Where the model comes from, where that is a web address."""

    @property
    def identifier(self) -> str:
        """The name as one word: ``exercise-recognition`` is ``EdgeloopExerciseRecognition``."""
        return "Edgeloop" + "".join(word.capitalize() for word in re.split(r"[^A-Za-z0-9]+", self.name))


@dataclass(frozen=True, slots=True)
class LibraryOrder:
    """One library to write: which model, for which of a board's targets, and what was measured."""

    model: GeneratedModel
    facts: ModelFacts
    board: LibraryBoard
    target: LibraryTarget
    sizes: ModelSizes | None
    """None when there is no compiler for the core here."""


def sources_of(model: GeneratedModel, facts: ModelFacts) -> Mapping[str, str]:
    """Return every C file of a library by name; they include each other as if they lay in one folder.

    Raises:
        UnsupportedModelError: an input or output is not int8.
        ValueError: the golden vector or the labels are not this model's.
    """
    for tensor in (*model.inputs, *model.outputs):
        if tensor.type is not ElementType.INT8:
            raise UnsupportedModelError(
                f"a library takes and gives int8, and {tensor.name!r} is {tensor.type.name.lower()}. "
                "Next: convert the model with int8 inputs and outputs, or drop the boards that get a library"
            )
    golden = facts.golden
    if (len(golden.input), len(golden.output)) != (model.input_bytes, model.output_bytes):
        raise ValueError(
            f"the golden vector has {len(golden.input)} and {len(golden.output)} bytes; "
            f"the model takes {model.input_bytes} and gives {model.output_bytes}"
        )
    if facts.labels and len(facts.labels) != model.output_bytes:
        raise ValueError(f"there are {len(facts.labels)} labels for {model.output_bytes} outputs")
    kernels = resources.files("firmware").joinpath("kernels")
    return {
        **{file.name: file.read_text("utf-8") for file in kernels.iterdir() if file.name.endswith((".c", ".h"))},
        **model.sources,
        "edgeloop.h": filled("edgeloop.h", {}),
        "edgeloop.c": filled("edgeloop.c", {}),
        "edgeloop_facts.h": _facts_header(model, facts),
        "edgeloop_golden.h": _golden_header(golden),
    }


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template of `firmware/library` with its ``@NAMES@`` replaced."""
    text = resources.files("firmware").joinpath("library", *f"{template}.in".split("/")).read_text("utf-8")
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def common_values(order: LibraryOrder) -> dict[str, str]:
    """Return what templates of all kinds may name."""
    facts = order.facts
    return {
        "NAME": facts.name,
        "SLUG": re.sub(r"[^a-z0-9]+", "_", f"edgeloop_{facts.name}".lower()),
        "IDENTIFIER": facts.identifier,
        "IDENTIFIER_UPPER": facts.identifier.upper(),
        "VERSION": facts.version,
        "MODEL_DIGEST": facts.digest,
        "BOARD_TITLE": order.board.title,
        "TARGET": order.target.target,
        "URL": facts.repository,
    }


def readme(order: LibraryOrder, how_to_build: str, header: str) -> str:
    """Return the library's README.

    Args:
        order: what the library is.
        how_to_build: the commands, in Markdown.
        header: path of ``edgeloop.h`` inside the library.
    """
    model, facts, sizes = order.model, order.facts, order.sizes
    return filled(
        "README.md",
        {
            **common_values(order),
            "INPUT_BYTES": str(model.input_bytes),
            "INPUT_SHAPE": f" of shape {'x'.join(map(str, facts.shape))}" if facts.shape else "",
            "INPUT_SCALE": repr(model.input.scale),
            "INPUT_ZERO_POINT": str(model.input.zero_point),
            "OUTPUT_BYTES": str(model.output_bytes),
            "LABEL_NAMES": f": {', '.join(facts.labels)}" if facts.labels else "",
            "ARENA_BYTES": f"{model.arena_bytes:,}",
            "SIZES": f"{sizes.flash_bytes:,} bytes of flash, {sizes.ram_bytes:,} of RAM" if sizes else "not measured",
            "MODEL_LICENCE": facts.licence or "not stated",
            "BUILT": _what_was_built(order),
            "REASON": order.board.reason,
            "HOW_TO_BUILD": how_to_build,
            "HEADER": header,
        },
    )


def _what_was_built(order: LibraryOrder) -> str:
    core, sizes = order.board.core, order.sizes
    if sizes is None:
        return (
            f"Nothing was compiled for {core}: Zig's clang, which builds releases, cannot generate code for it. "
            "Edgeloop's own tests compile the same C for ARC EM and for Xtensa LX106 with Debian's GCC."
        )
    return (
        f"Every C file was compiled for {core} with {sizes.toolchain}; the sizes above are those of model and kernels "
        "linked alone, without sample, board support and C library."
    )


def _facts_header(model: GeneratedModel, facts: ModelFacts) -> str:
    labels = facts.labels or ("",) * model.output_bytes
    macros = {
        "EDGELOOP_MODEL_DIGEST": c_string(facts.digest),
        "EDGELOOP_INPUT_BYTES": str(model.input_bytes),
        "EDGELOOP_INPUT_SCALE": repr(model.input.scale),
        "EDGELOOP_INPUT_ZERO_POINT": f"({model.input.zero_point})",
        "EDGELOOP_OUTPUT_BYTES": str(model.output_bytes),
        "EDGELOOP_OUTPUT_SCALE": repr(model.output.scale),
        "EDGELOOP_OUTPUT_ZERO_POINT": f"({model.output.zero_point})",
        "EDGELOOP_LABELS": ", ".join(map(c_string, labels)),
    }
    defines = "".join(f"#define {name} {value}\n" for name, value in macros.items())
    guard = "#ifndef EDGELOOP_FACTS_H\n#define EDGELOOP_FACTS_H"
    return f"/* Generated: the model's facts. */\n{guard}\n\n{defines}\n#endif\n"


def _golden_header(golden: GoldenVector) -> str:
    arrays = (("input", golden.input), ("output", golden.output))
    return (
        "/* Generated: one input, and the bits that the reference gives for it. */\n#include <stdint.h>\n\n"
        + "\n".join(
            f"static const int8_t edgeloop_golden_{name}[{len(data)}] = {{\n{_rows(data)}}};\n" for name, data in arrays
        )
    )


def _rows(data: bytes) -> str:
    values = [str(byte - 256 if byte > 127 else byte) for byte in data]
    lines = (values[at : at + _BYTES_PER_LINE] for at in range(0, len(values), _BYTES_PER_LINE))
    return "".join(f"    {', '.join(line)},\n" for line in lines)


def c_string(text: str) -> str:
    """Return `text` as a C string literal. Whatever is not plain ASCII becomes an octal escape of three digits."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'
