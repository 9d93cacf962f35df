"""What the device lab says of a release on boards."""

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from shared.events._base import Check, Command, Digest, Payload, Slug


class BoardClass(StrEnum):
    """How real a board is. Every measurement carries it."""

    SIMULATED = "simulated"
    VIRTUAL = "virtual"
    EMULATED = "emulated"
    PHYSICAL = "physical"


class Parity(StrEnum):
    """Whether the board's output vectors equal the reference runtime's, bit by bit."""

    BIT_EXACT = "bit-exact"
    DIFFERS = "differs"


class Numerics(StrEnum):
    """The rounding family of an int8 result: TFLM and CMSIS-NN round twice, LiteRT once."""

    TFLM = "tflm"
    LITERT = "litert"


class Origin(StrEnum):
    """How a figure came to be."""

    MEASURED = "measured"
    MODELLED = "modelled"


class Health(StrEnum):
    """How far a board is trusted. Only a good one is given jobs."""

    GOOD = "good"
    SUSPECT = "suspect"
    """Something went wrong on it: the canary decides whether it was the board."""
    PROBATION = "probation"
    """New, or back from quarantine: it has to pass the canary several times."""
    QUARANTINED = "quarantined"
    """It lied, vanished, or is another board than it says. Somebody must look at it."""
    MAINTENANCE = "maintenance"
    """Somebody works on it."""
    RETIRED = "retired"
    """Gone for good; its history stays."""


class JobKind(StrEnum):
    """Who works with the boards, and who may be asked to leave them."""

    STAGING = "staging"
    TEST = "test"
    BENCHMARK = "benchmark"
    """May be preempted, and then waits again with its old age."""
    RESERVATION = "reservation"
    """A person's: the lease is theirs to renew and to give back."""


class VerdictKind(StrEnum):
    """What a job ends in, once. Only FAILED says something against the firmware."""

    PASSED = "passed"
    FLAKY = "flaky"
    """Passed in the end, and failed or misbehaved on a good board before: it counts as passed, and says so."""
    FAILED = "failed"
    INFRASTRUCTURE = "infrastructure"
    """The board, its rack or the lab failed; the firmware was not judged."""

    @property
    def accepted(self) -> bool:
        """Whether the release may go on."""
        return self in (VerdictKind.PASSED, VerdictKind.FLAKY)


class BoardResult(BaseModel):
    """What one board measured of one release."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    board: Slug
    board_class: BoardClass
    emulator: str = Field(default="", description="unicorn or qemu, with its version, for emulated boards")
    flash_bytes: int
    ram_bytes: int = Field(description="Static RAM plus the stack's high-water mark")
    stack_bytes: int
    instructions: int = Field(description="Per inference; counted, never cycles")
    accuracy: float = Field(ge=0, le=1)
    inputs: int
    mismatches: int = Field(description="Output vectors that differ from the reference")
    parity: Parity
    numerics: Numerics
    seconds: float
    latency_ms: float | None = Field(default=None, description="Of one inference at the board's clock")
    latency_class: Origin | None = Field(default=None, description="How the latency came to be")
    latency_basis: str = Field(default="", description="From what, and how far it may be off; or why there is none")
    energy_uj: float | None = Field(default=None, description="Of one inference")
    energy_class: Origin | None = Field(default=None, description="How the energy came to be")
    energy_basis: str = Field(default="", description="From what, and how far it may be off; or why there is none")


class RunStaging(Command):
    """Test a release whose data and model were validated."""

    TYPE: ClassVar[str] = "lab.run_staging.v1"

    digest: Digest


class CandidateAccepted(Payload):
    """The release ran on every board it was built for, within its gates."""

    TYPE: ClassVar[str] = "lab.candidate_accepted.v1"

    digest: Digest
    boards: tuple[BoardResult, ...]
    checks: tuple[Check, ...] = ()


class CandidateRefused(Payload):
    """A gate failed on a board, or a validator had already rejected the release."""

    TYPE: ClassVar[str] = "lab.candidate_refused.v1"

    digest: Digest
    reason: str
    boards: tuple[BoardResult, ...] = ()
    checks: tuple[Check, ...] = ()


class LabJobEnded(Payload):
    """A job of the device lab is over, once and for all."""

    TYPE: ClassVar[str] = "lab.job_ended.v1"

    job: str
    kind: JobKind
    verdict: VerdictKind
    reason: str = Field(default="", description="Why it did not pass")
    boards: tuple[Slug, ...] = Field(default=(), description="Those it was tried on, in order")
    attempts: int = Field(default=0, description="How often it was tried")
    waited_s: float = Field(description="From its submission to its first board, or to its end without any")
    ran_s: float = Field(default=0.0, description="From its first board to its end")


class LabBoardHealthChanged(Payload):
    """The lab trusts a board more or less than before. Boards are of no project: it stands under `lab`."""

    TYPE: ClassVar[str] = "lab.board_health_changed.v1"

    board: Slug
    place: Slug
    before: Health | None = Field(default=None, description="None: it is new")
    health: Health
    reason: str = ""
