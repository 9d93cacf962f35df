"""``edgeloop lab submit``: one of the lab's tests, on boards that are shared."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.text import Text

from edgeloop.commands.lab_asking import CountOption, NeedOption, PriorityOption
from edgeloop.commands.lab_looking import job_view, with_lab
from edgeloop.commands.lab_testing import AccuracyOption, ProcedureName, RowsOption
from edgeloop.errors import ExitCode, UsageError
from edgeloop.lab import reserving
from edgeloop.lab.asking import LabClient
from edgeloop.lab.jobs_view import exit_code_of, job_tree
from edgeloop.lab.watching import watch
from edgeloop.layout import bus_url
from edgeloop.options import DEFAULT_DATA, DataOption, JsonOption, NatsUrlOption
from edgeloop.projects import require_project
from edgeloop.terminal import Terminal
from services.artifact_builder.firmware.toolchains import Toolchain
from shared.lab import JobKind
from shared.lab.messages import Submit


def submit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE|MODEL|IMAGE|PATH",
            help="A release's digest, a full-int8 .tflite, a signed image with --model, or a repository.",
        ),
    ],
    *,
    procedure: Annotated[ProcedureName, typer.Option("--procedure", help="Which test.")] = ProcedureName.SMOKE,
    board: Annotated[
        str | None, typer.Option("--board", help="Its name in the catalogue; needed unless a release leaves no choice.")
    ] = None,
    need: NeedOption = None,
    count: CountOption = 1,
    priority: PriorityOption = 0,
    limit: Annotated[str, typer.Option("--limit", help="The longest that it may run, such as 10m.")] = "10m",
    project: Annotated[
        str | None, typer.Option("--project", help="Whose share of the lab it takes. Default: the release's.")
    ] = None,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="It may be made to leave for other jobs, and then waits again.")
    ] = False,
    job_id: Annotated[
        str | None, typer.Option("--id", help="The job's id: submitting it again gives the job that is there.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it, and exit by its verdict.")] = False,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="Of an image: the .tflite it was made of.", exists=True, dir_okay=False),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option("--inputs", help="Of a model, as in `edgeloop lab test`.", exists=True)
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Their classes, as there.", exists=True, dir_okay=False)
    ] = None,
    accuracy: AccuracyOption = None,
    rows: RowsOption = None,
    inferences: Annotated[int, typer.Option("--inferences", help="Endurance: how many.", min=1)] = 1000,
    data: DataOption = DEFAULT_DATA,
    nats_url: NatsUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue one of the lab's tests on shared boards.

    With --wait the exit code is the verdict's: 0 passed or flaky, 1 failed, 3 infrastructure, which says nothing
    about the model. Ctrl-C leaves the job queued.
    """
    from edgeloop import compiling  # noqa: PLC0415 - numpy and the builder: a second only this command needs
    from edgeloop.lab import submitting  # noqa: PLC0415 - as above
    from edgeloop.lab.boards_view import requirement_of  # noqa: PLC0415 - as above
    from edgeloop.lab.subject import Wish  # noqa: PLC0415 - as above
    from shared.procedures import Effort  # noqa: PLC0415 - as above

    terminal, bus = Terminal(as_json), bus_url(nats_url, data)
    limit_s, needs = reserving.seconds_of(limit, "--limit"), need or []
    named = None if job_id is None else submitting.require_job_id(job_id)
    read = [requirement_of(each) for each in needs]
    release = asyncio.run(submitting.fetched(bus, target)) if target.startswith("sha256:") else None
    if board is not None:
        chosen = compiling.board_of(board)
    elif release is not None:
        chosen = submitting.board_for(release[0], read)
    else:
        raise UsageError(f"{target}: for which board?", next_step="name it with --board cortex-m4")
    demands = submitting.demands_on(chosen, needs, count)
    wish = Wish(
        board=chosen,
        procedure=procedure,
        toolchain=Toolchain.ZIG,
        data=data,
        inputs=inputs,
        labels=labels,
        accuracy=accuracy,
        rows=rows,
    )
    subject = submitting.subject_of(target, wish, model=model, contents=release, told=terminal.note)
    order = Submit(
        id=named or reserving.new_job_id(procedure),
        project=require_project(project or subject.project),
        kind=JobKind.BENCHMARK if benchmark else JobKind.TEST,
        demands=demands,
        priority=priority,
        limit_s=limit_s,
    )
    windows = subject.windows if procedure is ProcedureName.VARIABILITY else None
    effort = Effort(inferences=inferences, windows=windows)

    async def run(lab: LabClient) -> ExitCode:
        job = await submitting.queue(lab, order, subject, procedure, effort)
        if not wait:
            follow = Text(f"`edgeloop lab jobs {job.id} --watch` follows it", "dim")
            terminal.result(job.model_dump(mode="json"), Group(job_tree(job), follow))
            return ExitCode.OK
        terminal.note(f"queued as {job.id}; Ctrl-C leaves it queued, `edgeloop lab release {job.id}` ends it")
        job = await watch(job_view(lab, job.id), terminal, quietly=True)
        terminal.result(job.model_dump(mode="json"), job_tree(job))
        return exit_code_of(job)

    raise typer.Exit(with_lab(bus, run))
