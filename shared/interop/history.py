"""History of instruction counts: series, trends, and the gate against regressions.

Counts compare only where they count the same thing: one project, one board, one rounding family, one toolchain. A
change of any of them starts a series of its own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from shared.events import Check, CheckOutcome
from shared.events.lab import BoardClass, Numerics
from shared.interop.results import JobResult

TOLERANCE: Final = 0.001
"""Emulators count within 5/8 of an instruction; ±0.1 % leaves room for inputs whose branches differ."""


class SeriesKey(NamedTuple):
    """What the results of one series have in common."""

    project: str
    board: str
    board_class: BoardClass
    numerics: Numerics
    toolchain: str


@dataclass(frozen=True, slots=True)
class Trend:
    """How a series went. Changes are fractions: 0.01 is one per cent more instructions.

    Attributes:
        step: From the accepted result before the last to the last; None with one result.
        since_first: What many small steps, each inside the tolerance, add up to.
    """

    key: SeriesKey
    counts: tuple[int, ...]
    step: float | None
    since_first: float


def key_of(result: JobResult) -> SeriesKey:
    """Return the series that a result belongs to."""
    return SeriesKey(result.project, result.board, result.board_class, result.numerics, result.toolchain)


def series(history: Iterable[JobResult]) -> dict[SeriesKey, tuple[JobResult, ...]]:
    """Sort what was accepted and counted into series, oldest first, whatever order it came in."""
    found: dict[SeriesKey, list[JobResult]] = {}
    for result in history:
        if result.verdict.accepted and result.instructions is not None:
            found.setdefault(key_of(result), []).append(result)
    return {key: tuple(sorted(results, key=_age)) for key, results in found.items()}


def baseline(history: Iterable[JobResult], candidate: JobResult) -> JobResult | None:
    """Return the last accepted result of the candidate's series that is older than the candidate."""
    older = [
        result
        for result in series(history).get(key_of(candidate), ())
        if _age(result) < _age(candidate) and result.job != candidate.job
    ]
    return older[-1] if older else None


def judge_instructions(history: Sequence[JobResult], candidate: JobResult, tolerance: float = TOLERANCE) -> Check:
    """Return the gate's answer: more instructions than the baseline's, by more than the tolerance, fail.

    Fewer pass and become the next baseline. The first of a series passes: there is nothing to hold it against.
    """
    before = baseline(history, candidate)
    if candidate.instructions is None:
        return _check(CheckOutcome.INSUFFICIENT_EVIDENCE, "nothing was counted", "a counted inference")
    found = f"{candidate.instructions:,} instructions"
    if before is None or before.instructions is None:
        said = f"{found}, the first with {candidate.toolchain} on {candidate.board}"
        return _check(CheckOutcome.PASSED, said, "any count begins a series")
    more = change(before.instructions, candidate.instructions)
    allowed = f"{before.instructions:,} {tolerance:+.1%} (job {before.job})"
    # Compared as whole numbers, so that a count exactly at the limit does not hang on rounding.
    passed = candidate.instructions - before.instructions <= round(before.instructions * tolerance)
    outcome = CheckOutcome.PASSED if passed else CheckOutcome.FAILED
    return _check(outcome, f"{found} ({more:+.3%})", allowed)


def trends(history: Iterable[JobResult]) -> tuple[Trend, ...]:
    """Return how every series went, sorted by its key."""
    return tuple(_trend(key, results) for key, results in sorted(series(history).items()))


def _trend(key: SeriesKey, results: Sequence[JobResult]) -> Trend:
    counts = tuple(result.instructions for result in results if result.instructions is not None)
    step = change(counts[-2], counts[-1]) if len(counts) > 1 else None
    return Trend(key, counts, step, change(counts[0], counts[-1]))


def change(before: int, after: int) -> float:
    """Return how many more instructions it takes, as a fraction of those before."""
    if before == after:
        return 0.0
    return (after - before) / before if before else float("inf")


def _age(result: JobResult) -> tuple[float, str]:
    return result.finished.timestamp(), result.job


def _check(outcome: CheckOutcome, observed: str, allowed: str) -> Check:
    detail = "compare the two builds' `report.json` by layer" if outcome is CheckOutcome.FAILED else ""
    return Check(name="instructions-history", outcome=outcome, observed=observed, allowed=allowed, detail=detail)
