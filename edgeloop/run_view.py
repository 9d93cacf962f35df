"""A pipeline run as a tree in the terminal."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from edgeloop.runs import Outcome, RolloutStage, Run, Stage
from shared.events.lab import BoardResult, Numerics

_MARKS: Final = {
    Outcome.PENDING: ("·", "dim"),
    Outcome.RUNNING: ("▶", "cyan"),
    Outcome.PASSED: ("✔", "green"),
    Outcome.FAILED: ("✘", "bold red"),
    Outcome.SUPERSEDED: ("⤼", "yellow"),
}
_RUNTIMES: Final = {Numerics.TFLM: "TFLM", Numerics.LITERT: "LiteRT"}
_SANDBOXES: Final = {
    "container": "its code ran in a container",
    "bubblewrap": "its code ran in a bubblewrap sandbox",
    "process": "its code ran without a sandbox: the repository is trusted",
}


def run_tree(run: Run, now: datetime) -> Tree:
    """Return the tree of one run; stages that have not ended show how long they have been going on."""
    title = Text.assemble(
        _mark(run.outcome), (f"{run.trigger} ", "bold"), (run.project, "bold"), f"  {short_commit(run.commit)}"
    )
    if run.digest:
        title.append(f"  release {short_digest(run.digest)}", "dim")
    tree = Tree(title, guide_style="dim")
    for stage in run.stages:
        branch = tree.add(_stage_line(stage, now))
        for line in _DETAILS.get(stage.name, _no_details)(run):
            branch.add(line)
    for sequence in run.dead_letters:
        tree.add(Text(f"✘ a service gave up on a message of this run: edgeloop dlq show {sequence}", "red"))
    return tree


def run_table(runs: Iterable[Run]) -> Table:
    """Return one line a run, newest last."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("run", "trigger", "commit", "release", "outcome", "stage", "began", "project"):
        table.add_column(name, no_wrap=name != "project")
    for run in runs:
        current = next((stage for stage in run.stages if not stage.outcome.is_final), run.stages[-1])
        failed = next((stage for stage in run.stages if stage.outcome is Outcome.FAILED), None)
        table.add_row(
            str(run.run_id)[:8],
            run.trigger,
            short_commit(run.commit),
            short_digest(run.digest)[:8],
            Text(run.outcome, _MARKS[run.outcome][1]),
            (failed or current).name,
            run.began_at.strftime("%m-%d %H:%M"),
            run.project,
        )
    return table


def with_reason(run: Run, now: datetime) -> RenderableType:
    """Return the tree of one run, with the reason of a failure below it instead of in it."""
    if not run.reason:
        return run_tree(run, now)
    stages = tuple(
        stage.model_copy(update={"detail": ""}) if stage.detail == run.reason else stage for stage in run.stages
    )
    return Group(run_tree(run.model_copy(update={"stages": stages}), now), Text(reason_of(run), "red"))


def reason_of(run: Run) -> str:
    """Return why a run failed, with the last lines that the failing step printed."""
    return "\n".join((run.reason, *(f"  {line}" for line in run.last_lines)))


def short_commit(commit: str | None) -> str:
    """Return the first digits of a commit, as git shows it."""
    return commit[:8] if commit else "-"


def short_digest(digest: str | None) -> str:
    """Return the first hex digits of a release's digest."""
    return digest.removeprefix("sha256:")[:12] if digest else "-"


def _no_details(_run: Run) -> Iterable[RenderableType]:
    return ()


def _build_details(run: Run) -> Iterable[RenderableType]:
    if run.build_steps:
        yield Text(", ".join(f"{step.stage} {step.seconds:.1f} s" for step in run.build_steps), "dim")
    if run.sandbox:
        yield Text(_SANDBOXES.get(run.sandbox, f"its code ran in {run.sandbox}"), "dim")
    for firmware in run.firmware:
        yield Text(f"{firmware.board}: flash {firmware.flash_bytes:,} B, RAM {firmware.ram_bytes:,} B", "dim")


def _lab_details(run: Run) -> Iterable[RenderableType]:
    for board in run.boards:
        counted = f"{board.instructions:,} instructions, accuracy {board.accuracy:.3f}"
        yield Text(
            f"{board.board}: {counted}, {board.parity} with {_RUNTIMES[board.numerics]} on {board.inputs} inputs", "dim"
        )
        if cost := cost_of(board):
            yield Text(f"{board.board}: {cost}", "dim")


def cost_of(board: BoardResult) -> str:
    """Return latency and energy of an inference, each with what it is; nothing where neither is known."""
    known = (
        (board.latency_ms, "ms", board.latency_class),
        (board.energy_uj, "µJ", board.energy_class),
    )
    return ", ".join(f"{value:.3g} {unit} {origin}" for value, unit, origin in known if value is not None and origin)


def _rollout_details(run: Run) -> Iterable[RenderableType]:
    return map(_rollout_line, run.rollout)


_DETAILS: Final = {"build": _build_details, "lab": _lab_details, "rollout": _rollout_details}


def _stage_line(stage: Stage, now: datetime) -> Text:
    line = Text.assemble(_mark(stage.outcome), stage.name)
    if stage.seconds is not None:
        line.append(f"  {stage.seconds:.1f} s", "dim")
    elif stage.outcome is Outcome.RUNNING and stage.began_at:
        line.append(f"  {max(0.0, (now - stage.began_at).total_seconds()):.0f} s …", "cyan")
    if stage.detail:
        line.append(f"  {stage.detail}", "red" if stage.outcome is Outcome.FAILED else "dim")
    return line


def _rollout_line(stage: RolloutStage) -> RenderableType:
    line = Table.grid(padding=(0, 1))
    counted = f"{stage.verified}/{stage.devices} verified" + (f", {stage.failed} failed" if stage.failed else "")
    took = "" if stage.seconds is None else f"{stage.seconds:.1f} s"
    bar = ProgressBar(total=max(stage.devices, 1), completed=stage.verified, width=20)
    line.add_row(Text.assemble(_mark(stage.outcome), f"{stage.name:<10}"), bar, counted, Text(took, "dim"))
    return line


def _mark(outcome: Outcome) -> tuple[str, str]:
    mark, style = _MARKS[outcome]
    return f"{mark} ", style
