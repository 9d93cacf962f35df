"""The lab's jobs as a table, and one of them as a tree."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from edgeloop.errors import ExitCode
from edgeloop.lab.times import said
from shared.lab import AttemptOutcome, VerdictKind
from shared.lab.messages import AttemptView, HeldBoard, Jobs, JobState, JobView

_VERDICTS: Final = {
    VerdictKind.PASSED: ("✔", "green", ExitCode.OK),
    VerdictKind.FLAKY: ("✔", "yellow", ExitCode.OK),
    VerdictKind.FAILED: ("✘", "bold red", ExitCode.GATE_FAILED),
    VerdictKind.INFRASTRUCTURE: ("✘", "magenta", ExitCode.INFRASTRUCTURE),
}
_STATES: Final = {JobState.WAITING: ("·", "dim"), JobState.RUNNING: ("▶", "cyan"), JobState.ENDED: ("✘", "dim")}


def exit_code_of(job: JobView) -> ExitCode:
    """Return 0 for a pass, flaky or not, 1 for a failed gate, 3 where the model was not judged; 0 until it ends."""
    if job.state is not JobState.ENDED:
        return ExitCode.OK
    return _VERDICTS[job.verdict][2] if job.verdict in _VERDICTS else ExitCode.INFRASTRUCTURE


def job_table(jobs: Jobs) -> Table:
    """Return one line a job, newest first as the desk gives them."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("job", "project", "kind", "state", "age", "starts within", "boards", "attempts", "why"):
        table.add_column(name, no_wrap=name != "why")
    for job in jobs.jobs:
        mark, style = _mark(job)
        table.add_row(
            job.id,
            job.project,
            job.kind,
            Text(f"{mark} {job.verdict or job.state}", style),
            said(job.age_s),
            _bound(job) if job.state is JobState.WAITING else "",
            ", ".join(_boards(job)),
            tally(job.attempts),
            why(job),
        )
    if len(jobs.jobs) > 1 or jobs.waiting > 1:
        table.caption, table.caption_justify = f"{jobs.waiting} waiting in the lab", "left"
    return table


def job_tree(job: JobView) -> Tree:
    """Return everything that is known of one job."""
    mark, style = _mark(job)
    title = Text.assemble((f"{mark} ", style), (job.id, "bold"), f"  {job.kind} of {job.project}  ")
    title.append(job.verdict or job.state, style)
    title.append(f"  {said(job.age_s)} old", "dim")
    tree = Tree(title, guide_style="dim")
    for demand, count in Counter(job.demands).items():
        tree.add(Text(f"needs {'' if count == 1 else f'{count} of '}{demand}", "dim"))
    if job.state is JobState.WAITING:
        tree.add(f"waits: {job.waits_for}" if job.waits_for else "waits")
        tree.add(Text(_promise(job), "dim"))
    for lease in job.held:
        tree.add(lease_line(lease))
    for number, attempt in enumerate(job.attempts, 1):
        tree.add(_attempt_line(number, attempt))
    if job.reason:
        tree.add(Text(job.reason, style))
    return tree


def lease_line(lease: HeldBoard) -> Text:
    """Return what holds a board, and for how long."""
    line = Text.assemble("▶ ", (lease.board, "bold"), f" at {lease.place}, token {lease.token}")
    capped = "" if lease.cap_left_s > lease.left_s else ", the longest that it may last"
    line.append(f"  {said(lease.left_s)} left unless renewed, {said(lease.cap_left_s)} in all{capped}", "dim")
    return line


def tally(attempts: Iterable[AttemptView]) -> str:
    """Return how attempts ended, counted, in the order in which each outcome came first."""
    counts = Counter(attempt.outcome for attempt in attempts)
    return ", ".join(outcome if count == 1 else f"{count} {outcome}" for outcome, count in counts.items())


def why(job: JobView) -> str:
    """Return why a job is where it is, if there is anything to say."""
    if job.state is JobState.WAITING:
        return job.waits_for
    if job.reason or job.state is JobState.RUNNING:
        return job.reason
    return next((attempt.said for attempt in reversed(job.attempts) if attempt.said), "")


def _boards(job: JobView) -> Sequence[str]:
    if job.held:
        return [lease.board for lease in job.held]
    return list(dict.fromkeys(attempt.board for attempt in job.attempts))


def _mark(job: JobView) -> tuple[str, str]:
    if job.verdict in _VERDICTS:
        mark, style, _ = _VERDICTS[job.verdict]
        return mark, style
    return _STATES[job.state]


def _bound(job: JobView) -> str:
    return "no live board" if job.bound_s is None else said(job.bound_s - job.age_s)


def _promise(job: JobView) -> str:
    if job.bound_s is None:
        return "no live board can serve it: `edgeloop lab boards` shows why"
    return f"starts within {said(job.bound_s - job.age_s)}, whatever others submit"


def _attempt_line(number: int, attempt: AttemptView) -> Text:
    good = attempt.outcome is AttemptOutcome.PASSED
    line = Text.assemble((f"{'✔' if good else '✘'} ", "green" if good else "red"), f"{number}. {attempt.board}: ")
    line.append(attempt.outcome)
    if attempt.canary_passed is not None:
        found = "in good health afterwards" if attempt.canary_passed else "its canary failed too: the board's fault"
        line.append(f", {found}", "dim")
    if attempt.said:
        line.append(f"  {attempt.said}", "dim")
    return line
