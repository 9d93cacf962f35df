"""``edgeloop compile``: from one int8 model file to a signed image, or to a library, without a repository."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.events.lab import Numerics

if TYPE_CHECKING:
    from shared.artifacts.compilation import CompileReport, LibraryReport, Report
    from shared.boards.modelling import Figure


def compile_(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL.tflite", help="A full-int8 .tflite.", exists=True, dir_okay=False)
    ],
    *,
    board: Annotated[str, typer.Option("--board", help="A board of the catalogue.")],
    out: Annotated[Path, typer.Option("--out", help="Where everything is written.", file_okay=False)],
    numerics: Annotated[
        Numerics, typer.Option("--numerics", help="Whose bits the firmware gives: TFLM's or LiteRT's.")
    ] = Numerics.TFLM,
    toolchain: Annotated[Toolchain, typer.Option("--toolchain", help="Which compiler.")] = Toolchain.ZIG,
    release: Annotated[str, typer.Option("--release", help="Version of the image.", metavar="X.Y.Z")] = "1.0.0",
    key: Annotated[
        Path | None,
        typer.Option("--key", help="Private key, PEM; without it, that of --data.", exists=True, dir_okay=False),
    ] = None,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs", help="Folder of .bin files, an int8 input each, to compare on.", exists=True, file_okay=False
        ),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Generate C, compile, sign, run the image on its emulated core, and compare its bits with the reference's.

    Boards whose tools are in no package registry get their library instead, with a self-test.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and Unicorn: half a second only this command needs

    terminal = Terminal(as_json)
    compiling.require_replaceable(out)
    compilation = compiling.compile_file(
        model,
        compiling.board_of(board),
        numerics=numerics,
        toolchain=toolchain,
        release=release,
        key=key,
        inputs=inputs,
        data=data,
    )
    names = compiling.write_files(compilation, out)
    terminal.result(compilation.report.model_dump(mode="json"), _table(compilation.report))
    terminal.note(f"wrote {len(names)} files to {out}: C, {_made(compilation.report)}, report.json")
    terminal.note(f"check them anywhere, offline: `edgeloop artifact verify {out}{_trusting(key, data)}`")
    if problem := compiling.mismatch_of(compilation):
        raise problem


def _made(report: "Report") -> str:
    if report.kind == "image":
        return "linker script, firmware.elf, firmware.img"
    return ", ".join(library.archive for library in report.libraries)


def _trusting(key: Path | None, data: Path) -> str:
    """Return the option by which `artifact verify` trusts the key that signed."""
    if key is not None:
        return " --key PUBLIC.pem"
    return "" if data == DEFAULT_DATA else f" --data {data}"


def _table(report: "Report") -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    rows = _image_rows(report) if report.kind == "image" else _library_rows(report)
    for name, value in (*rows, ("operators", ", ".join(f"{name} {count}" for name, count in report.operators.items()))):
        table.add_row(name, value)
    return table


def _image_rows(report: "CompileReport") -> tuple[tuple[str, str], ...]:
    same = "bit-exact" if report.mismatches == 0 else f"{report.mismatches} differ"
    return (
        ("board", f"{report.board} ({report.core}), {report.toolchain}"),
        ("flash", f"{report.flash_bytes:,} B, of it model and kernels {report.model_flash_bytes:,} B"),
        ("constants", f"{report.weights_bytes:,} B of these"),
        ("RAM", f"{report.ram_bytes:,} B, arena {report.arena_bytes:,} B; stack {report.stack_bytes:,} B"),
        ("instructions", f"{report.instructions:,} for {report.macs:,} MACs, counted on {report.counted_on}"),
        ("latency, energy", f"{_said(report.latency, 'ms')}, {_said(report.energy, 'µJ')}; report.json says from what"),
        (f"as {report.numerics}", f"{same} on {report.inputs} inputs"),
    )


def _said(figure: "Figure | None", unit: str) -> str:
    if figure is None or figure.value is None:
        return f"no {unit}: {figure.basis if figure else 'not in this report'}"
    return f"{figure.value:.4g} {unit} ({figure.origin})"


def _library_rows(report: "LibraryReport") -> tuple[tuple[str, str], ...]:
    flash, ram = (
        "not measured" if size is None else f"{size:,} B, model and kernels alone"
        for size in (report.flash_bytes, report.ram_bytes)
    )
    return (
        ("board", f"{report.board} ({report.core}) gets a library: {report.reason}"),
        *((f"{library.kind}", library.how_to_build) for library in report.libraries),
        ("flash", f"{flash}; weights {report.weights_bytes:,} B"),
        ("RAM", f"{ram}; arena {report.arena_bytes:,} B"),
        ("instructions", f"not counted. {report.not_measured}"),
    )
