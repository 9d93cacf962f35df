"""Settings of the device lab, from EDGELOOP_ variables."""

from pathlib import Path

from pydantic import Field

from shared.emulation.emulators import Emulator
from shared.events import Slug
from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Beside what every service takes."""

    lab_emulator: Emulator = Field(
        default=Emulator.AUTO, description="auto: Unicorn, and QEMU's second opinion where it is installed"
    )
    lab_place: Slug = Field(default="local", description="Name of the place whose boards this process emulates")
    lab_boards: int = Field(default=1, ge=0, description="Emulated boards of each kind there; 0: no such place")
    lab_board_deadline_s: float = Field(default=1800, gt=0, description="How long one staging may take on a board")
    lab_step_s: float = Field(default=0.25, gt=0, description="The desk looks at everything at least so often")
    lab_lease_s: float = Field(default=60, gt=3, description="How long a lease lasts unless renewed")
    lab_longest_s: float = Field(default=4 * 3600, gt=0, description="No lease lasts longer, however often renewed")
    lab_place_ttl_s: float = Field(default=30, gt=0, description="A place that was not heard for so long is gone")
    lab_weights: dict[Slug, float] = Field(
        default={}, description="Shares of projects, as JSON; 1 for those that are not named"
    )
    lab_signing_key: Path | None = Field(
        default=None, description="PEM file of the key that signs results; none: they are kept unsigned"
    )
