"""``edgeloop lab test``: one of the lab's procedures on this machine's emulated boards, without a bus."""

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeloop.errors import ExitCode, UsageError
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption
from edgeloop.terminal import Terminal
from edgeloop.writing import require_writable
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.emulation.emulators import Emulator
from shared.events.lab import Numerics

if TYPE_CHECKING:
    from edgeloop.lab.testing import Tested


class ProcedureName(StrEnum):
    """The names in `shared.procedures.table`, which takes numpy to load."""

    SMOKE = "smoke"
    ACCEPTANCE = "acceptance"
    PARITY = "parity"
    PLAYBACK = "playback"
    VARIABILITY = "variability"
    ENDURANCE = "endurance"


AccuracyOption = Annotated[
    float | None, typer.Option("--accuracy", help="Of a model: what is asked of it at least.", min=0, max=1)
]
RowsOption = Annotated[int | None, typer.Option("--rows", help="Inputs at most, spread over those there are.", min=1)]


def run_test(
    subject: Annotated[
        Path,
        typer.Argument(
            metavar="PATH|MODEL", help="A repository with edgeloop.yaml, or a full-int8 .tflite.", exists=True
        ),
    ],
    *,
    board: Annotated[str, typer.Option("--board", help="An emulated board of the catalogue.")],
    procedure: Annotated[ProcedureName, typer.Option("--procedure", help="Which test.")] = ProcedureName.SMOKE,
    inputs: Annotated[
        Path | None,
        typer.Option(
            "--inputs",
            help="Of a model: folder of .bin or .npy files, an int8 input each, or one .npy. Default: random ones.",
            exists=True,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Their classes: FILE,CLASSES,LABEL lines, or .npy. Default: names end in _LABEL.bin.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    accuracy: AccuracyOption = None,
    rows: RowsOption = None,
    sensor: Annotated[
        list[str] | None,
        typer.Option(
            "--sensor", metavar="NAME=CHANNEL,…", help="Whose channels vary together; may be repeated. Default: all."
        ),
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option("--hop", help="Playback: inputs are one trace; bytes from one window to the next.", min=1),
    ] = None,
    inferences: Annotated[int, typer.Option("--inferences", help="Endurance: how many.", min=1)] = 1000,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="Endurance: end then at the latest.", min=0.1)
    ] = None,
    reset_every: Annotated[
        int, typer.Option("--reset-every", help="Endurance: inferences between resets.", min=1)
    ] = 100,
    seed: Annotated[int, typer.Option("--seed", help="Variability: of its noise.", min=0)] = 0,
    curves: Annotated[
        Path | None,
        typer.Option("--curves", help="Variability: folder for SENSOR.csv and SENSOR.svg.", file_okay=False),
    ] = None,
    junit: Annotated[
        Path | None, typer.Option("--junit", help="Write the checks as JUnit XML.", dir_okay=False)
    ] = None,
    result: Annotated[
        Path | None, typer.Option("--result", help="Write the result, signed with the key of --data.", dir_okay=False)
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            help="An earlier signed result: over 0.1 % more instructions fail; may be repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A public key that may have signed --against, PEM. Default: the key of --data."),
    ] = None,
    numerics: Annotated[
        Numerics | None, typer.Option("--numerics", help="Of a model: whose bits it gives. Default: tflm.")
    ] = None,
    toolchain: Annotated[Toolchain, typer.Option("--toolchain", help="Which compiler.")] = Toolchain.ZIG,
    emulator: Annotated[Emulator, typer.Option("--emulator", help="What stands for the board.")] = Emulator.UNICORN,
    data: DataOption = DEFAULT_DATA,
    as_json: JsonOption = False,
) -> None:
    """Run one of the lab's tests on an emulated board of this machine.

    A repository is built first, as `edgeloop check` does, and tested on its own test set. Exit code 1 if a check did
    not pass, insufficient evidence included.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and the builder: a second only this command needs
    from edgeloop.lab import from_model, from_repository, results, testing, view  # noqa: PLC0415 - as above
    from edgeloop.lab.subject import Wish, sensors_of  # noqa: PLC0415 - as above
    from shared.interop.history import judge_instructions  # noqa: PLC0415 - as above
    from shared.procedures import Effort  # noqa: PLC0415 - as above

    terminal = Terminal(as_json)
    if curves is not None and procedure is not ProcedureName.VARIABILITY:
        raise UsageError(
            f"--curves: a {procedure} test has none", next_step="give it --procedure variability, or leave it out"
        )
    for option, file in (("--junit", junit), ("--result", result)):
        if file is not None:
            require_writable(option, file)
    history = results.verified_results(against, key or (), data) if against else ()
    wish = Wish(
        board=compiling.board_of(board),
        procedure=procedure,
        toolchain=toolchain,
        data=data,
        numerics=numerics,
        inputs=inputs,
        labels=labels,
        accuracy=accuracy,
        rows=rows,
        hop=hop,
        sensors=sensors_of(sensor or ()),
    )
    if subject.is_dir():
        found = from_repository.of_repository(subject, wish, terminal.note)
    else:
        found = from_model.of_model(subject, wish)
    effort = Effort(inferences=inferences, seconds=seconds, reset_every=reset_every, hop_bytes=hop, seed=seed)
    tested = testing.run(found, procedure, effort, emulator)
    if history:
        tested = testing.with_check(tested, judge_instructions(history, tested.result))
        for other in results.strangers(history, tested.result):
            terminal.note(f"--against: no accepted result of this series among those given, but {other}")
    terminal.result(view.plain(tested), view.shown(tested))
    for file in _written(tested, curves=curves, junit=junit, result=result, data=data):
        terminal.note(f"wrote {file}")
    if not tested.report.passed:
        raise typer.Exit(ExitCode.GATE_FAILED)


def _written(
    tested: "Tested", *, curves: Path | None, junit: Path | None, result: Path | None, data: Path
) -> Iterator[Path]:
    from edgeloop.lab.curves import write_curves  # noqa: PLC0415 - as above
    from edgeloop.lab.results import sign  # noqa: PLC0415 - as above
    from shared.interop.junit import junit_xml  # noqa: PLC0415 - as above

    if curves is not None:
        yield from write_curves(tested.report, curves)
    if junit is not None:
        junit.write_bytes(junit_xml([tested.result]))
        yield junit
    if result is not None:
        result.write_bytes(sign(tested.result, data))
        yield result
