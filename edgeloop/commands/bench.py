"""``edgeloop bench mlperf-tiny``: what a model is worth and what it costs on a board."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal
from services.artifact_builder.firmware.compiling import Toolchain
from shared.events.lab import Numerics
from shared.procedures.rig import Emulator

app = typer.Typer(help="Benchmark a model on a board, without a bus.", no_args_is_help=True)


@app.command(
    "mlperf-tiny",
    epilog="Example: edgeloop bench mlperf-tiny --model kws.tflite --board cortex-m4 --inputs kws01 "
    "--labels kws01/y_labels.csv",
)
def mlperf_tiny(
    *,
    model: Annotated[Path, typer.Option("--model", help="A full-int8 .tflite.", exists=True, dir_okay=False)],
    board: Annotated[str, typer.Option("--board", help="An emulated board of the catalogue.")],
    inputs: Annotated[
        Path,
        typer.Option("--inputs", help="Folder of .bin files, an int8 input tensor each.", exists=True, file_okay=False),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="FILE,CLASSES,LABEL lines, as MLPerf Tiny's y_labels.csv. Default: names end in _LABEL.bin.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    outputs: Annotated[
        Path | None,
        typer.Option(
            "--outputs",
            help="Where every input's output vector goes: JSON lines, or as .json, .csv, .npy says.",
            dir_okay=False,
        ),
    ] = None,
    numerics: Annotated[
        Numerics, typer.Option("--numerics", help="Whose bits the firmware gives: TFLM's or LiteRT's.")
    ] = Numerics.TFLM,
    toolchain: Annotated[Toolchain, typer.Option("--toolchain", help="Which compiler.")] = Toolchain.ZIG,
    emulator: Annotated[Emulator, typer.Option("--emulator", help="What stands for the board.")] = Emulator.UNICORN,
    boards: Annotated[
        int | None, typer.Option("--boards", help="Emulated boards at once. Default: one a processor.", min=1)
    ] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Compile a model, run every input on the emulated board, and say accuracy, parity, instructions, latency, energy.

    Latency and energy are modelled from counted instructions; the result says so, and on which basis. Exit code 1 when
    an output vector differs from the reference's.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and the builder: only this command needs them
    from edgeloop.bench import mlperf_tiny as bench  # noqa: PLC0415 - as above
    from edgeloop.bench.output_files import write_outputs  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    benchmark = bench.run(
        model,
        compiling.board_of(board),
        inputs=inputs,
        labels=labels,
        numerics=numerics,
        toolchain=toolchain,
        emulator=emulator,
        boards=boards,
        data=data,
    )
    if outputs is not None:
        write_outputs(benchmark, outputs)
        terminal.note(f"wrote {len(benchmark.outputs)} output vectors to {outputs}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in bench.summary(benchmark):
        table.add_row(name, Text(text))
    terminal.result(dict(benchmark.figures), table)
    if problem := bench.mismatch_of(benchmark):
        raise problem
