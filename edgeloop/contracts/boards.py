"""The reference of the board catalogue, in Markdown."""

from collections.abc import Iterator
from typing import Final

from edgeloop.contracts.tables import NOTICE, markdown_table
from shared.boards import Board, ImageBoard, LibraryBoard, catalogue

_INTRODUCTION: Final = """\
What `boards:` in `edgeloop.yaml` may name. One TOML file a board in
[`shared/boards/catalogue`](../../shared/boards/catalogue) says all of this.
"""
_FACTS: Final = ("board", "microcontroller", "core", "clock", "flash", "RAM", "built as")
_WHOLE: Final = """\
## Built whole

A signed MCUboot image, tested on the emulated board. The slot holds header, firmware and trailer.
"""
_IMAGE: Final = ("board", "slot", "stack", "class", "QEMU")
_MODELLED: Final = """\
Latency and energy of an inference on these boards are **modelled**, never measured: counted instructions times cycles
an instruction over the clock; times the energy of a cycle that others measured on a part with the same core. Other
parts with the core take up to three times more or less.
"""
_MODEL: Final = ("board", "cycles an instruction", "because", "energy of a cycle", "from")
_AS_LIBRARY: Final = """\
## Built as a library

Sources of the model and its kernels with a sample and a self-test, for the vendor's own tools. The lab does not run
them; the README inside says what was compiled here and what was not.
"""
_LIBRARY: Final = ("board", "library", "for", "program", "data", "class", "flashed by")
_CLASSES: Final = """\
Safety class of an update: **A** two slots, a trial boot that must be confirmed and a checked signature; **B** two
slots; **C** one slot, for the lab only.

## Sensors, radios, power

Power is what the maker publishes of the processor; nothing in this column was measured here.
"""
_SURROUNDINGS: Final = ("board", "sensors", "radios", "power")


def boards_reference() -> str:
    """Return the page about every board of the catalogue."""
    boards = list(catalogue().values())
    images = [board for board in boards if isinstance(board, ImageBoard)]
    libraries = [board for board in boards if isinstance(board, LibraryBoard)]
    parts = (
        f"{NOTICE}\n# Boards\n",
        _INTRODUCTION,
        markdown_table(_FACTS, map(_facts, boards)),
        _WHOLE,
        markdown_table(_IMAGE, map(_image, images)),
        _MODELLED,
        markdown_table(_MODEL, map(_model, images)),
        _AS_LIBRARY,
        markdown_table(_LIBRARY, _library_rows(libraries)),
        "".join(f"* **{board.title}**: {board.reason}.\n" for board in libraries),
        _CLASSES,
        markdown_table(_SURROUNDINGS, map(_surroundings, libraries)),
        "## Sources\n",
        "".join(f"* **{board.name}**: {'; '.join(board.sources)}\n" for board in boards),
    )
    return "\n".join(parts)


def _facts(board: Board) -> tuple[str, ...]:
    kinds = "image" if isinstance(board, ImageBoard) else ", ".join(target.kind for target in board.libraries)
    memory = (_kib(board.flash_bytes), _kib(board.ram_bytes))
    return (f"`{board.name}`", board.mcu, board.core.value, f"{board.clock_hz // 1_000_000} MHz", *memory, kinds)


def _image(board: ImageBoard) -> tuple[str, ...]:
    slot = f"{_kib(board.slot_bytes)} at {board.slot_address:#x}"
    machine = f"`-M {board.emulation.qemu_machine} -cpu {board.emulation.qemu_cpu}`"
    return (f"`{board.name}`", slot, _kib(board.stack_bytes), board.safety_class.upper(), machine)


def _model(board: ImageBoard) -> tuple[str, ...]:
    timing, run = board.timing, board.published_run
    cycles = f"{timing.cycles_per_instruction:g} ± {timing.uncertainty:.0%}"
    if run is None:
        return (f"`{board.name}`", cycles, timing.basis, "", "nothing published: energy is not modelled")
    measured = f"{run.energy_uj:g} µJ in {run.latency_ms:g} ms at {run.clock_hz // 1_000_000} MHz"
    origin = f"{run.part}: {measured}, {run.benchmark} ({run.source})"
    return (f"`{board.name}`", cycles, timing.basis, f"{run.picojoules_per_cycle:.0f} pJ", origin)


def _library_rows(boards: list[LibraryBoard]) -> Iterator[tuple[str, ...]]:
    for board in boards:
        for library in board.libraries:
            memory = (_kib(library.program_bytes), _kib(library.data_bytes))
            update = (library.safety_class.upper(), library.flashing.value)
            yield (f"`{board.name}`", library.kind.value, f"`{library.target}`", *memory, *update)


def _surroundings(board: LibraryBoard) -> tuple[str, ...]:
    power = board.power
    said = f"{power.active_ua_per_mhz:g} µA/MHz, {power.conditions} ({power.source})" if power else ""
    return (f"`{board.name}`", "<br>".join(board.sensors), "<br>".join(board.radios), said)


def _kib(size_bytes: int) -> str:
    return f"{size_bytes / 1024:,.0f} KiB"
