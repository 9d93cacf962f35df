"""What gateways see on their boards, and what they are told to do."""

from enum import StrEnum
from typing import ClassVar, Final
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.events._base import Blob, Command, Digest, Payload, Slug
from shared.events.lab import BoardClass

ORDERS_AT_ONCE: Final = 8
"""How many orders a gateway carries out at the same time; the others wait there, which their deadlines allow for."""


class DeviceState(StrEnum):
    """What MCUboot's slots say of the running image."""

    CONFIRMED = "confirmed"
    TRIAL = "trial"
    LOST = "lost"


class DeviceReported(Payload):
    """A gateway read a board's image state, because it changed or because it is time to say so again."""

    TYPE: ClassVar[str] = "device.reported.v1"

    device: Slug
    gateway: Slug
    board: Slug
    board_class: BoardClass
    state: DeviceState
    digest: Digest | None = Field(default=None, description="The running release; none: firmware we did not send")
    image_hash: str = Field(description="The running image's SHA-256 as MCUboot reports it, hex")
    version: str = ""
    observed_at: AwareDatetime


class GoldenVector(BaseModel):
    """One input and the bits that a correct image must answer: the smoke test on the board itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_bytes="base64", val_json_bytes="base64")

    input: bytes
    output: bytes


class InstallRelease(Command):
    """Bring one device to one release: upload, test, trial, smoke test, confirm, observe."""

    TYPE: ClassVar[str] = "device.install_release.v1"

    rollout_id: UUID
    device: Slug
    digest: Digest | None = Field(description="The release; none when going back to firmware we did not send")
    image: Blob | None = Field(description="None: the image wanted is still in the board's second slot")
    image_hash: str = Field(description="SHA-256 that MCUboot will report for the image, hex")
    version: str
    golden: GoldenVector | None = None
    fencing_token: int = Field(ge=1, description="Grows with every order to this device; a gateway refuses a lower one")
    deadline_s: float = Field(gt=0, description="Seconds after which silence counts as lost")


class InstallOutcome(StrEnum):
    """How an order ended. Only `verified` is a success; `deferred` and `refused` are not failures of the image."""

    VERIFIED = "verified"
    REVERTED = "reverted"
    LOST = "lost"
    REFUSED = "refused"
    DEFERRED = "deferred"


class InstallObserved(Payload):
    """What a gateway observed at the end of an order."""

    TYPE: ClassVar[str] = "device.install_observed.v1"

    rollout_id: UUID
    device: Slug
    gateway: Slug
    outcome: InstallOutcome
    wanted: Digest | None
    observed: Digest | None = Field(default=None, description="The release observed running, if the board answered")
    observed_hash: str = ""
    confirmed: bool
    fencing_token: int
    seconds: float
    detail: str = Field(default="", description="Why, and what to do next, unless verified")
