"""What clients, desk and places say to each other: requests and replies, each one JSON object over NATS request-reply.

The *desk* is the scheduler's counter: clients ask it at `DESK_ROOT`.<verb>. A *place's agent* has its boards in hand
and their fence: holders of leases, and the desk, ask it at `PLACE_ROOT`.<place>.<verb>. Both are NATS micro services,
so that `nats micro` lists them. What is not granted is refused with a kind and a reason, never with silence. Every
request may be repeated, because each names what it is about by an id or a token.

Durations go over the wire, never times of day: clocks of racks differ, and each side counts from when it heard.
"""

from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.events import Digest, Slug
from shared.events.lab import BoardClass, Health, JobKind, Numerics, VerdictKind
from shared.lab.verdict import AttemptOutcome

DESK_ROOT: Final = "edgeloop.lab.desk"
PLACE_ROOT: Final = "edgeloop.lab.place"
ANNOUNCEMENTS: Final = f"{PLACE_ROOT}.*.announced"


class Message(BaseModel):
    """One side of an exchange. Readers ignore fields that they do not know."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")


class RefusalKind(StrEnum):
    """Why a request was not granted; it travels as the micro service's error code."""

    BAD_REQUEST = "400"
    STALE_TOKEN = "403"  # noqa: S105 - no password
    UNKNOWN = "404"
    CONFLICT = "409"
    LAB = "500"


class Request(Message):
    """What one side asks. `VERB` is the last token of its subject."""

    VERB: ClassVar[str]


class Done(Message):
    """There is nothing more to say."""


# ---- between places and desk ---------------------------------------------------------------------------------------


class OfferedBoard(Message):
    """A board that a place has in hand.

    Attributes:
        identity: What the hardware itself says; empty where it does not answer.
    """

    name: Slug
    board: Slug = Field(description="Name in the board catalogue")
    board_class: BoardClass
    identity: str = ""


class Announced(Message):
    """A place is alive: published every few seconds to `PLACE_ROOT`.<place>.announced.

    Attributes:
        epoch: Another one after each start of the agent: its fence and its work were forgotten in between.
    """

    place: Slug
    epoch: str
    boards: tuple[OfferedBoard, ...]


class Work(Message):
    """What a program does on one board. Bytes are found in the object store by their digest.

    Attributes:
        procedure: Name in `shared.procedures.table`, or `staging`: smoke, then acceptance.
        image: The signed firmware image.
        workload: What to ask of it, and what to expect; `shared.procedures.workloads` reads and writes it.
        identity: The board that it is meant for; another one is not flashed.
        release: What the image belongs to; none: it stands for itself.
        toolchain: What compiled it. With `numerics` it says which results may be compared.
    """

    procedure: Slug
    image: Digest
    workload: Digest
    deadline_s: float = Field(gt=0)
    identity: str = ""
    release: Digest | None = None
    toolchain: str = ""
    numerics: Numerics = Numerics.TFLM


class Grant(Request):
    """Let `token` touch the board for so long. Whatever an older token does there is ended before the answer."""

    VERB: ClassVar[str] = "grant"

    board: Slug
    token: int = Field(ge=1)
    ttl_s: float = Field(gt=0)


class Shut(Request):
    """The lease is over: end what its token does there, and let it in no more."""

    VERB: ClassVar[str] = "shut"

    board: Slug
    token: int


class Begin(Request):
    """Start work under a granted token. Asking again for the same token changes nothing."""

    VERB: ClassVar[str] = "begin"

    board: Slug
    token: int
    work: Work


class WorkState(StrEnum):
    """How far a token's work is."""

    NONE = "none"
    """The token is granted, and nothing was begun under it."""
    FLASHING = "flashing"
    RUNNING = "running"
    ENDED = "ended"


class AskProgress(Request):
    """How far is the work under this token?"""

    VERB: ClassVar[str] = "progress"

    board: Slug
    token: int


class Progress(Message):
    """How far it is, and in the end what came of it.

    Attributes:
        outcome: Set when `state` is ended.
        said: Why it ended so, for people.
        report: JSON of what the procedure found, where it got as far as that.
    """

    state: WorkState
    outcome: AttemptOutcome | None = None
    said: str = ""
    report: bytes = b""


class Touch(Request):
    """A holder's own hands: `write` bytes to the console, or `reset`, or `flash` an image by digest."""

    VERB: ClassVar[str] = "touch"

    board: Slug
    token: int
    write: bytes = b""
    reset: bool = False
    flash: Digest | None = None


class ConsoleOutput(Message):
    """What the board said, published to `PLACE_ROOT`.<place>.console.<board> while somebody holds it."""

    board: Slug
    token: int
    offset: int = Field(ge=0, description="Bytes said under this token before these: a gap is a loss")
    data: bytes


# ---- between clients and desk --------------------------------------------------------------------------------------


class JobState(StrEnum):
    """Where a job is. It ends once."""

    WAITING = "waiting"
    RUNNING = "running"
    ENDED = "ended"


class Submit(Request):
    """Queue a job. The same id again gives the job that is there.

    Attributes:
        demands: Requirements as text, one per board, such as ``core in cortex-m4; ram>=64k``.
        work: One for each board; none: a person works, by `Touch`.
        run: The pipeline run that it belongs to.
    """

    VERB: ClassVar[str] = "submit"

    id: str = Field(min_length=1, max_length=64)
    project: Slug
    kind: JobKind
    demands: tuple[str, ...] = Field(min_length=1, max_length=64)
    priority: int = Field(default=0, ge=-10, le=10)
    limit_s: float = Field(default=600.0, gt=0)
    work: tuple[Work, ...] = ()
    holder: str = Field(default="", description="Who renews the leases, where no program does")
    run: UUID | None = None


class HeldBoard(Message):
    """A lease, as its holder needs it. `left_s` is until the deadline, `cap_left_s` until no renewal helps."""

    board: Slug
    place: Slug
    token: int
    left_s: float
    cap_left_s: float


class AttemptView(Message):
    """One try of a job on one board."""

    board: Slug
    token: int
    outcome: AttemptOutcome
    canary_passed: bool | None = None
    said: str = ""


class JobView(Message):
    """A job as the desk knows it.

    Attributes:
        waits_for: Why it does not run yet, for people.
        bound_s: Within how many seconds of its submission it starts at the latest; None: no live board can serve it.
    """

    id: str
    project: Slug
    kind: JobKind
    state: JobState
    demands: tuple[str, ...]
    priority: int
    age_s: float
    holder: str = ""
    held: tuple[HeldBoard, ...] = ()
    attempts: tuple[AttemptView, ...] = ()
    verdict: VerdictKind | None = None
    reason: str = ""
    waits_for: str = ""
    bound_s: float | None = None


class BoardView(Message):
    """A board as the desk knows it."""

    name: Slug
    board: Slug
    place: Slug
    board_class: BoardClass
    identity: str
    health: Health
    reason: str = ""
    live: bool
    canary_due: bool
    jobs_since_canary: int
    job: str | None = None
    project: str | None = None
    holder: str | None = None
    lease_left_s: float | None = None


class AskBoards(Request):
    """Every board."""

    VERB: ClassVar[str] = "boards"


class Boards(Message):
    """The boards, by name."""

    boards: tuple[BoardView, ...]


class AskJobs(Request):
    """Jobs, newest first; those that have ended only where `ended` is set."""

    VERB: ClassVar[str] = "jobs"

    project: Slug | None = None
    id: str | None = None
    ended: bool = False
    limit: int = Field(default=200, ge=1, le=5000)


class Jobs(Message):
    """The jobs that were asked for, and how many wait in all."""

    jobs: tuple[JobView, ...]
    waiting: int


class Renew(Request):
    """I am still here. Answered with `HeldBoard`."""

    VERB: ClassVar[str] = "renew"

    board: Slug
    token: int


class Release(Request):
    """Give a board back before its time. When the last one of a person's job is given back, the job ends as passed."""

    VERB: ClassVar[str] = "release"

    board: Slug
    token: int


class Cancel(Request):
    """End a job, wherever it is."""

    VERB: ClassVar[str] = "cancel"

    id: str
    reason: str = "cancelled"


class HealthAction(StrEnum):
    """What people may do with a board."""

    TAKE_OUT = "take-out"
    BRING_BACK = "bring-back"
    RETIRE = "retire"


class SetHealth(Request):
    """Take a board out, bring it back, or retire it. Answered with `BoardView`."""

    VERB: ClassVar[str] = "health"

    board: Slug
    action: HealthAction
    reason: str = ""


class AskHistory(Request):
    """Signed results of jobs that have ended, newest first."""

    VERB: ClassVar[str] = "history"

    project: Slug | None = None
    board: Slug | None = None
    limit: int = Field(default=100, ge=1, le=1000)


class History(Message):
    """Results as `shared.interop.signed_results` writes them, one JSON document each."""

    results: tuple[str, ...]
