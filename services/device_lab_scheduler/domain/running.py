"""What becomes of a job: tried on boards, judged, tried again elsewhere, ended once.

A job's demands are tried together. When all of its tries are settled they are judged: whoever misbehaved waits for what
the canary says of the board. Functions change the ledger and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from services.device_lab_scheduler.domain.health import CLOSED, Seen, seen_in
from services.device_lab_scheduler.domain.ledger import Ledger
from services.device_lab_scheduler.domain.records import BoardRecord, JobRecord, Try
from services.device_lab_scheduler.domain.rules import Rules
from shared.events.lab import BoardClass
from shared.lab import Attempt, AttemptOutcome, Verdict, VerdictKind, judge
from shared.lab.messages import JobState
from shared.lab.verdict import MISBEHAVIOUR

_WORST_FIRST: Final = (VerdictKind.FAILED, VerdictKind.INFRASTRUCTURE, VerdictKind.FLAKY, VerdictKind.PASSED)
_UNTOUCHED: Final = frozenset({AttemptOutcome.LAB, AttemptOutcome.LEASE_LOST})
"""Outcomes of a canary that say nothing of the board."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How it ended: for the judge, for people, and what the procedure found."""

    outcome: AttemptOutcome
    said: str = ""
    report: bytes = b""


def ended_on(
    ledger: Ledger, rules: Rules, name: str, ending: Ending, now_s: float, *, fence_is_shut: bool = False
) -> None:
    """Note that what went on at a board under its lease has ended.

    Args:
        ledger: is changed.
        rules: the lab's.
        name: the board.
        ending: how.
        now_s: the time.
        fence_is_shut: the token is known to admit nobody any more, so that the board is free at once.
    """
    board = ledger.boards[name]
    held = board.held
    if held is None or held.over:
        return
    ledger.put_board(replace(board, held=None if fence_is_shut else held.ended()))
    if held.canary:
        _canary_ended(ledger, rules, name, ending, now_s)
        return
    asks_canary = ending.outcome in MISBEHAVIOUR and board.kind in rules.canaries
    ledger.put_board(ledger.boards[name].seen(seen_in(ending.outcome), now_s, rules.health, ending.said))
    job = ledger.running[held.lease.job]
    (attempt,) = (one for one in job.now if one.board == name and one.token == held.lease.token)
    ended = replace(
        attempt,
        outcome=ending.outcome,
        asks_canary=asks_canary,
        said=ending.said,
        report=ending.report,
        ended_s=now_s,
    )
    settle(ledger, ledger.put_try(job, ended), now_s)


def _canary_ended(ledger: Ledger, rules: Rules, name: str, ending: Ending, now_s: float) -> None:
    board = ledger.boards[name]
    if ending.outcome in _UNTOUCHED:
        ledger.put_board(replace(board, canary_not_before_s=now_s + rules.canary_retry_s))
        return
    passed = ending.outcome is AttemptOutcome.PASSED
    seen = seen_in(ending.outcome)
    if seen is not Seen.UNTRUE:
        seen = Seen.CANARY_PASSED if passed else Seen.CANARY_FAILED
    ledger.put_board(
        board.seen(seen, now_s, rules.health, "" if passed else f"canary: {ending.said or ending.outcome}")
    )
    tell_waiting(ledger, name, passed=passed, now_s=now_s)


def tell_waiting(ledger: Ledger, board: str, *, passed: bool | None, now_s: float) -> None:
    """Tell jobs that misbehaved on a board what its canary said; None: it will never say."""
    for job in list(ledger.running.values()):
        for attempt in job.now:
            if attempt.board == board and attempt.asks_canary:
                known = ledger.put_try(job, replace(attempt, asks_canary=False, canary_passed=passed))
                settle(ledger, known, now_s)
                break


def settle(ledger: Ledger, job: JobRecord, now_s: float) -> None:
    """Judge a job whose tries are all settled: it ends, or waits for other boards."""
    if not all(attempt.settled for attempt in job.now):
        return
    tries = (*job.tries, *job.now)
    verdict = _judged(ledger, job, tries)
    if verdict.kind is None:
        again = replace(job.job, avoid=job.job.avoid | verdict.avoid)
        ledger.put_job(replace(job, job=again, state=JobState.WAITING, now=(), tries=tries))
        return
    end(ledger, replace(job, now=(), tries=tries), verdict.kind, _why(verdict.kind, tries), now_s)


def _judged(ledger: Ledger, job: JobRecord, tries: Sequence[Try]) -> Verdict:
    """Return the worst of what its demands come to; the job is tried again as long as one of them is to be."""
    by_demand = [[one for one in tries if one.demand == demand] for demand in range(len(job.job.demands))]
    if not job.work:
        kept = all(one.outcome is AttemptOutcome.PASSED for one in tries)
        return Verdict(VerdictKind.PASSED if kept else VerdictKind.INFRASTRUCTURE)
    found = [
        judge(
            [_attempt(one) for one in those],
            repeatable=all(_class(ledger, one.board) is BoardClass.EMULATED for one in those),
        )
        for those in by_demand
    ]
    if again := [verdict for verdict in found if verdict.kind is None]:
        # What has failed for certain need not be tried again with its companions.
        if any(verdict.kind is VerdictKind.FAILED for verdict in found):
            return Verdict(VerdictKind.FAILED)
        return Verdict(None, frozenset().union(*(verdict.avoid for verdict in again)))
    kinds = {verdict.kind for verdict in found}
    return Verdict(next(kind for kind in _WORST_FIRST if kind in kinds))


def _attempt(one: Try) -> Attempt:
    assert one.outcome is not None, "only settled tries are judged"
    return Attempt(one.board, one.outcome, one.canary_passed)


def _class(ledger: Ledger, board: str) -> BoardClass | None:
    return ledger.boards[board].board_class if board in ledger.boards else None


def _why(kind: VerdictKind, tries: Sequence[Try]) -> str:
    if kind is VerdictKind.PASSED:
        return ""
    against = [one for one in tries if one.outcome is not AttemptOutcome.PASSED]
    return "; ".join(f"{one.board}: {one.outcome}{f', {one.said}' if one.said else ''}" for one in against)


def end(ledger: Ledger, job: JobRecord, kind: VerdictKind, reason: str, now_s: float) -> None:
    """End a job. Its boards are given back."""
    give_back(ledger, job)
    ledger.put_job(replace(job, state=JobState.ENDED, verdict=kind, reason=reason, ended_s=now_s))


def give_back(ledger: Ledger, job: JobRecord) -> None:
    """Let go of every board that the job holds."""
    for attempt in job.now:
        board = ledger.boards.get(attempt.board)
        if board is not None and board.held is not None and board.held.lease.token == attempt.token:
            ledger.put_board(replace(board, held=board.held.ended()))


def preempt(ledger: Ledger, job: JobRecord) -> None:
    """Make a benchmark leave its boards, and count it."""
    wait_again(ledger, replace(job, job=replace(job.job, preempted=job.job.preempted + 1)))


def wait_again(ledger: Ledger, job: JobRecord) -> None:
    """Make a job leave its boards and wait again, with its old age. It was no try."""
    give_back(ledger, job)
    ledger.put_job(replace(job, state=JobState.WAITING, now=()))


def give_up_on_silent_canaries(ledger: Ledger, live: frozenset[str], now_s: float) -> None:
    """Settle tries whose board's canary will not be run: somebody took it out, or its place is gone."""
    for job in list(ledger.running.values()):
        for attempt in job.now:
            board = ledger.boards.get(attempt.board)
            gone = board is None or board.record.health in CLOSED or board.place not in live or not board.present
            if attempt.asks_canary and gone:
                tell_waiting(ledger, attempt.board, passed=None, now_s=now_s)


def board_of(ledger: Ledger, name: str, token: int) -> BoardRecord | None:
    """Return a board as long as that token holds it."""
    board = ledger.boards.get(name)
    return board if board is not None and board.held is not None and board.held.lease.token == token else None
