"""Settings of the device lab, from EDGELOOP_ variables."""

from pydantic import Field

from shared.emulation.emulators import Emulator
from shared.runtime import BaseServiceSettings


class Settings(BaseServiceSettings):
    """Beside what every service takes."""

    lab_emulator: Emulator = Field(
        default=Emulator.AUTO, description="auto: Unicorn, and QEMU's second opinion where it is installed"
    )
    lab_workers: int = Field(default=2, gt=0, description="Boards that are emulated at the same time, a process each")
    lab_board_deadline_s: float = Field(default=1800, gt=0, description="How long one board may take in all")
