"""``edgeloop bench mlperf-tiny``: what a model is worth and what it costs on a board."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from edgeloop.errors import UsageError
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal, print_error
from edgeloop.writing import require_writable
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.emulation.emulators import Emulator
from shared.events.lab import Numerics
from shared.mlperf_tiny.session import Loading

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
        typer.Option(
            "--inputs", help="Folder of .bin or .npy files, an int8 input tensor each, or one .npy.", exists=True
        ),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="FILE,CLASSES,LABEL lines, as MLPerf Tiny's y_labels.csv, or .npy. Default: names end in _LABEL.bin.",
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
    port: Annotated[
        str | None,
        typer.Option("--port", help="A real board that speaks the protocol, as pyserial URL; nothing is flashed."),
    ] = None,
    baud: Annotated[int, typer.Option("--baud", help="Of --port.", min=300)] = 115_200,
    loading: Annotated[
        Loading, typer.Option("--loading", help="With --port: hex for any firmware, binary for Edgeloop's.")
    ] = Loading.HEX,
    window_s: Annotated[
        float, typer.Option("--window-s", help="With --port: least seconds of each of the five windows.", min=0.01)
    ] = 10.0,
    energy: Annotated[
        str | None,
        typer.Option("--energy", help="With --port: the instrument, such as ppk2:/dev/ttyACM1.", metavar="METER"),
    ] = None,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Run every input on an emulated board, or on that at --port: accuracy, parity, instructions, latency, energy.

    Every latency and energy says whether it is modelled or measured, and on which basis. Exit code 1 when an output
    vector differs from the reference's.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and the builder: only this command needs them
    from edgeloop.bench import mlperf_tiny as bench  # noqa: PLC0415 - as above
    from edgeloop.bench.output_files import write_outputs  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    if energy is not None and port is None:
        raise UsageError(
            "--energy: nothing can be measured of an emulated board", next_step="name the real one with --port"
        )
    if outputs is not None:
        require_writable("--outputs", outputs)
    case = bench.prepare(model, inputs=inputs, labels=labels, numerics=numerics)
    target = compiling.board_of(board)
    if port is None:
        benchmark = bench.run_emulated(case, target, toolchain=toolchain, emulator=emulator, boards=boards, data=data)
    else:
        from edgeloop.bench.at_port import run_at_port  # noqa: PLC0415 - as above

        benchmark = run_at_port(case, target, port=port, baud=baud, loading=loading, window_s=window_s, meter=energy)
    if outputs is not None:
        write_outputs(benchmark, outputs)
        terminal.note(f"wrote {len(benchmark.outputs)} output vectors to {outputs}")
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, text in bench.summary(benchmark):
        table.add_row(name, Text(text))
    terminal.result(dict(benchmark.figures), table)
    if problem := bench.mismatch_of(benchmark):
        # Not raised: with --json stdout is one object, and that is the result.
        print_error(problem, as_json=False)
        raise typer.Exit(problem.exit_code)
