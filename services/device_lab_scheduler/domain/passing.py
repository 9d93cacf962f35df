"""One pass over the ledger: what ran out ends, canaries and jobs get boards, benchmarks leave those they must.

Tokens and leases are in the ledger before any place is told of them. What a place is to be told follows from the ledger
alone (`telling`), so that a desk that was killed in between says it again.
"""

from collections.abc import Mapping
from dataclasses import replace

from services.device_lab_scheduler.domain.health import CLOSED, Seen
from services.device_lab_scheduler.domain.leasing import grant, run_out
from services.device_lab_scheduler.domain.ledger import LAB, Ledger
from services.device_lab_scheduler.domain.matching import soonest_set
from services.device_lab_scheduler.domain.records import BoardRecord, Held, JobRecord, Try
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.running import (
    Ending,
    ended_on,
    give_up_on_silent_canaries,
    preempt,
    tell_waiting,
)
from services.device_lab_scheduler.domain.scheduling import Lab, Start, schedule
from shared.lab import AttemptOutcome, Job, LabBoard, Place
from shared.lab.messages import JobState, Work


def live_places(seen: Mapping[str, float], rules: Rules, now_s: float) -> frozenset[str]:
    """Return the places that were heard lately."""
    return frozenset(name for name, at_s in seen.items() if now_s - at_s <= rules.policy.place_ttl_s)


def make_pass(ledger: Ledger, rules: Rules, seen: Mapping[str, float], now_s: float) -> None:
    """Bring the ledger up to now.

    Args:
        ledger: is changed.
        rules: the lab's.
        seen: when each place was last heard.
        now_s: the time.
    """
    end_what_ran_out(ledger, rules, now_s)
    live = live_places(seen, rules, now_s)
    give_up_on_silent_canaries(ledger, live, now_s)
    boards = [board.for_schedule(now_s, rules.health) for board in ledger.boards.values()]
    places = [Place(name, at_s) for name, at_s in seen.items()]
    waiting = [_relaxed(record.job, boards, live) for record in ledger.waiting.values()]
    plan = schedule(Lab(boards, places, ledger.leases(), waiting, ledger.turns, rules.policy), now_s)
    ledger.put_turns(plan.turns)
    for job in {lease.job for lease in plan.preempt}:
        preempt(ledger, ledger.running[job])
    for start in plan.starts:
        _start(ledger, rules, start, now_s)
    ledger.replan = False
    for name in plan.canaries:
        _start_canary(ledger, rules, name, now_s)


def needs_pass(ledger: Ledger, rules: Rules, live: frozenset[str], now_s: float) -> bool:
    """Tell whether there is anything to do, without looking at every job that waits."""
    if ledger.replan or run_out(ledger.leases(), now_s, rules.policy):
        return True
    waits = [attempt for job in ledger.running.values() for attempt in job.now if attempt.asks_canary]
    return bool(waits) or any(
        board.held is None
        and board.place in live
        and now_s >= board.canary_not_before_s
        and board.for_schedule(now_s, rules.health).canary_due
        for board in ledger.boards.values()
    )


def end_what_ran_out(ledger: Ledger, rules: Rules, now_s: float) -> None:
    """End leases that nobody renewed. Their fences have shut by themselves."""
    for lease in run_out(ledger.leases(), now_s, rules.policy):
        board = ledger.boards[lease.board]
        assert board.held is not None
        if board.held.over:
            ledger.put_board(replace(board, held=None))
        else:
            ended_on(ledger, rules, board.name, _ran_out(board, board.held), now_s, fence_is_shut=True)


def _ran_out(board: BoardRecord, held: Held) -> Ending:
    if not held.epoch:
        return Ending(AttemptOutcome.LAB, f"place {board.place} never answered")
    capped = "it reached its limit" if held.lease.deadline_s >= held.lease.cap_s else "nobody renewed it in time"
    return Ending(AttemptOutcome.LEASE_LOST, f"its lease ended: {capped}")


def _relaxed(job: Job, boards: list[LabBoard], live: frozenset[str]) -> Job:
    """Let a job have boards that it failed on where the live lab has no others: better than to wait for ever."""
    if not job.avoid:
        return job
    others = [
        board
        for board in boards
        if board.name not in job.avoid and board.traits.place in live and board.health not in CLOSED
    ]
    options = [[board.name for board in others if demand.holds(board.traits)] for demand in job.demands]
    served = soonest_set(options, lambda _name: 0.0) is not None
    return job if served else replace(job, avoid=frozenset())


def _start(ledger: Ledger, rules: Rules, start: Start, now_s: float) -> None:
    record = ledger.waiting[start.job.id]
    leases = grant(start, record.holder, ledger.tokens(), now_s, rules.policy)
    tries = []
    for demand, lease in enumerate(leases):
        board = ledger.boards[lease.board]
        work = _for_board(record, demand, board.identity)
        ledger.put_board(replace(board, token=lease.token, held=Held(lease, work=work)))
        tries.append(Try(demand, lease.board, lease.token, now_s))
    ledger.put_job(replace(record, state=JobState.RUNNING, now=tuple(tries)))


def _for_board(record: JobRecord, demand: int, identity: str) -> Work | None:
    if not record.work:
        return None
    work = record.work[demand]
    return work if work.identity else work.model_copy(update={"identity": identity})


def _start_canary(ledger: Ledger, rules: Rules, name: str, now_s: float) -> None:
    board = ledger.boards[name]
    canary = rules.canaries.get(board.kind)
    if canary is None:
        ledger.put_board(board.seen(Seen.CANARY_PASSED, now_s, rules.health))
        tell_waiting(ledger, name, passed=None, now_s=now_s)
        return
    if now_s < board.canary_not_before_s:
        return
    job = Job(f"canary-{name}-{board.token + 1}", LAB, limit_s=rules.canary_limit_s)
    (lease,) = grant(Start(job, (name,)), "", ledger.tokens(), now_s, rules.policy)
    work = canary.model_copy(update={"identity": board.identity})
    ledger.put_board(replace(board, token=lease.token, held=Held(lease, work=work, canary=True)))
