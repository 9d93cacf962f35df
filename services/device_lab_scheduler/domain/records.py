"""What the desk remembers: of each place, each board, each job. Immutable; times in seconds since the epoch."""

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar
from uuid import UUID

from pydantic import ConfigDict

from services.device_lab_scheduler.domain import health
from services.device_lab_scheduler.domain.health import HealthPolicy, Record, canary_due
from services.device_lab_scheduler.domain.leasing import stop
from shared.boards import UnknownBoardError, board_named
from shared.events.lab import BoardClass
from shared.lab import AttemptOutcome, Health, Job, LabBoard, Lease, VerdictKind
from shared.lab.board import Traits, traits_of
from shared.lab.messages import JobState, OfferedBoard, Work


@dataclass(frozen=True, slots=True)
class PlaceRecord:
    """A place, and the agent that spoke for it last."""

    name: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Held:
    """A lease, and how much of it the board's place knows.

    Attributes:
        epoch: The agent that let the token in; empty: none yet, and the holder is told nothing.
        told_s: The deadline that the fence knows.
        work: What a program does under it; None: a person holds the board.
        begun: The agent took the work.
        over: The job is through with it, and the fence has yet to be told.
        canary: The desk's own check of the board.
    """

    lease: Lease
    epoch: str = ""
    told_s: float = 0.0
    work: Work | None = None
    begun: bool = False
    over: bool = False
    canary: bool = False

    def let_in(self, epoch: str) -> bool:
        """Tell whether the agent of `epoch` knows the token."""
        return self.epoch == epoch != ""

    def ended(self) -> "Held":
        """Return what is left of it: nobody renews it, and the board stays held until the fence knows or it is over."""
        # Its job has left it: there is nobody to be made to leave.
        return replace(self, over=True, lease=replace(stop(self.lease), preemptible=False))


@dataclass(frozen=True, slots=True)
class BoardRecord:
    """One board.

    Attributes:
        kind: Its name in the catalogue.
        identity: What its hardware said when it was first seen, or when somebody brought it back.
        found: What it said last.
        present: Its place has it in hand.
        token: The highest that was ever given.
        canary_not_before_s: The lab could not run the canary: when it tries again.
    """

    name: str
    place: str
    kind: str
    board_class: BoardClass
    identity: str = ""
    found: str = ""
    present: bool = True
    token: int = 0
    record: Record = field(default=health.NEW)
    held: Held | None = None
    canary_not_before_s: float = 0.0

    @property
    def traits(self) -> Traits:
        """What requirements may ask about."""
        return _traits(self.kind, self.place, self.board_class)

    def seen(self, seen: health.Seen, now_s: float, policy: HealthPolicy, reason: str = "") -> "BoardRecord":
        """Return the board after something was seen of it."""
        return replace(self, record=health.after(self.record, seen, now_s, policy, reason))

    def for_schedule(self, now_s: float, policy: HealthPolicy) -> LabBoard:
        """Return what a scheduling pass looks at. A board that its place has not in hand is as good as retired."""
        state = self.record.health if self.present else Health.RETIRED
        due = self.present and canary_due(self.record, now_s, policy)
        return LabBoard(self.name, self.traits, state, due, self.identity)


@lru_cache(maxsize=4096)
def _traits(kind: str, place: str, board_class: BoardClass) -> Traits:
    return traits_of(board_named(kind), place, board_class)


def is_known(offered: OfferedBoard) -> bool:
    """Tell whether the catalogue has such a board: nothing can be asked of others."""
    try:
        board_named(offered.board)
    except UnknownBoardError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Try:
    """One demand's try on one board.

    Attributes:
        demand: Which of the job's demands.
        outcome: None while it goes on.
        asks_canary: The canary, run next on that board, says whose fault it was.
        report: JSON of what the procedure found.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    demand: int
    board: str
    token: int
    began_s: float
    outcome: AttemptOutcome | None = None
    asks_canary: bool = False
    canary_passed: bool | None = None
    said: str = ""
    report: bytes = b""
    ended_s: float = 0.0

    @property
    def settled(self) -> bool:
        """Whether there is nothing more to learn of it."""
        return self.outcome is not None and not self.asks_canary


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job with everything that came of it so far.

    Attributes:
        run: The pipeline run that it belongs to; None: somebody asked for it by hand.
        now: The tries that go on, one for each demand.
        tries: Those that ended.
    """

    job: Job
    holder: str = ""
    run: UUID | None = None
    work: tuple[Work, ...] = ()
    state: JobState = JobState.WAITING
    now: tuple[Try, ...] = ()
    tries: tuple[Try, ...] = ()
    verdict: VerdictKind | None = None
    reason: str = ""
    ended_s: float | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id
