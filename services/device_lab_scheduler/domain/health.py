"""How far a board is trusted: a state machine, driven by what was seen and decided by the canary.

The canary is a known firmware with a known output. It runs before a board's first job, every so many jobs or hours, and
after anything odd: what misbehaved on a board that then passes the canary was the firmware, not the board.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from shared.lab import AttemptOutcome, Health
from shared.lab.verdict import MISBEHAVIOUR


class Seen(StrEnum):
    """What happened to a board."""

    CANARY_PASSED = "canary-passed"
    CANARY_FAILED = "canary-failed"
    JOB_ENDED = "job-ended"
    MISBEHAVED = "misbehaved"
    """Garbage, a hang, a reset loop: the firmware's fault or the board's."""
    UNTRUE = "untrue"
    """It disappeared, or is another board than it was."""
    LEFT_ALONE = "left-alone"
    """Its holder vanished, so that nobody knows what is on it."""
    TAKEN_OUT = "taken-out"
    BROUGHT_BACK = "brought-back"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """What an operator may turn.

    Attributes:
        canary_jobs: Jobs after which the canary is due.
        canary_s: Seconds after which it is due.
        probation_passes: Canaries to pass in a row before a board is good.
        strikes: Misbehaviours in `canary_jobs` jobs that quarantine a board, though the canary passes: it may be flaky.
    """

    canary_jobs: int = 50
    canary_s: float = 6 * 3600.0
    probation_passes: int = 1
    strikes: int = 3


@dataclass(frozen=True, slots=True)
class Record:
    """What the lab remembers of a board's health.

    Attributes:
        jobs: Since the last canary.
        passes: Canaries passed in a row during probation.
        strikes: Misbehaviours since the board was last good for `canary_jobs` jobs.
        canary_s: When it last passed the canary; None before the first time.
        reason: Why it is where it is, for people.
    """

    health: Health = Health.PROBATION
    jobs: int = 0
    passes: int = 0
    strikes: int = 0
    canary_s: float | None = None
    reason: str = "new"


NEW: Final = Record()
_BY_PEOPLE: Final = frozenset({Seen.TAKEN_OUT, Seen.BROUGHT_BACK, Seen.RETIRED})
CLOSED: Final = frozenset({Health.QUARANTINED, Health.MAINTENANCE, Health.RETIRED})
"""States that only people end: whatever still arrives from a job changes nothing."""


def after(record: Record, seen: Seen, now_s: float, policy: HealthPolicy, reason: str = "") -> Record:
    """Return the record after something was seen. Anything but a way out leaves a closed state as it is."""
    if seen in _BY_PEOPLE:
        return _moved(record, seen, reason)
    if record.health in CLOSED:
        return record
    if seen is Seen.JOB_ENDED:
        return replace(record, jobs=record.jobs + 1)
    if seen is Seen.CANARY_PASSED:
        return _passed(record, now_s, policy)
    if seen is Seen.MISBEHAVED:
        return _struck(record, policy, reason)
    health = _at_most_suspect(record) if seen is Seen.LEFT_ALONE else Health.QUARANTINED
    return replace(record, health=health, passes=0, reason=reason or seen)


def _moved(record: Record, seen: Seen, reason: str) -> Record:
    if record.health is Health.RETIRED:
        return record
    if seen is Seen.BROUGHT_BACK:
        return _back(record, reason)
    health = Health.RETIRED if seen is Seen.RETIRED else Health.MAINTENANCE
    return replace(record, health=health, reason=reason or seen)


def _back(record: Record, reason: str) -> Record:
    if record.health not in (Health.QUARANTINED, Health.MAINTENANCE):
        return record
    return Record(Health.PROBATION, canary_s=record.canary_s, reason=reason or "brought back")


def _passed(record: Record, now_s: float, policy: HealthPolicy) -> Record:
    passes = record.passes + 1 if record.health is Health.PROBATION else record.passes
    if record.health is Health.PROBATION and passes < policy.probation_passes:
        return replace(record, passes=passes, canary_s=now_s)
    forgiven = 0 if record.jobs >= policy.canary_jobs else record.strikes
    return Record(Health.GOOD, strikes=forgiven, canary_s=now_s, reason="")


def _struck(record: Record, policy: HealthPolicy, reason: str) -> Record:
    strikes = record.strikes + 1
    if strikes >= policy.strikes:
        said = f"misbehaved {strikes} times, last: {reason or 'unknown'}"
        return replace(record, health=Health.QUARANTINED, strikes=strikes, reason=said)
    return replace(record, health=_at_most_suspect(record), strikes=strikes, reason=reason or "misbehaved")


def _at_most_suspect(record: Record) -> Health:
    return Health.PROBATION if record.health is Health.PROBATION else Health.SUSPECT


def canary_due(record: Record, now_s: float, policy: HealthPolicy) -> bool:
    """Tell whether the canary has to run before the next job."""
    if record.health in CLOSED:
        return False
    if record.health is not Health.GOOD or record.canary_s is None:
        return True
    return record.jobs >= policy.canary_jobs or now_s - record.canary_s >= policy.canary_s


def seen_in(outcome: AttemptOutcome) -> Seen:
    """Return what an attempt's outcome says of its board. A failed gate says nothing against it."""
    if outcome in MISBEHAVIOUR:
        return Seen.MISBEHAVED
    if outcome in (AttemptOutcome.DISAPPEARED, AttemptOutcome.SWAPPED):
        return Seen.UNTRUE
    return Seen.LEFT_ALONE if outcome is AttemptOutcome.LEASE_LOST else Seen.JOB_ENDED


def identity_trouble(expected: str, found: str) -> AttemptOutcome | None:
    """Return what is wrong with the board that answers, before anything is written to it."""
    if not found:
        return AttemptOutcome.DISAPPEARED
    return AttemptOutcome.SWAPPED if expected and found != expected else None
