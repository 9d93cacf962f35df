"""What a board's sensor sees, and what the experimenter alone knows about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_gateway.virtual.ledger import Ledger
from device_gateway.virtual.world import Playlist, Window


@dataclass(slots=True)
class Surroundings:
    """Where all boards are now. A restart of the process does not move them."""

    environment: str
    _file: Path

    @classmethod
    def resume(cls, file: Path, allowed: Sequence[str]) -> "Surroundings":
        """Return the environment in `file` if it is still allowed, else the first allowed one."""
        remembered = file.read_text("utf-8") if file.exists() else ""
        return cls(remembered if remembered in allowed else next(iter(allowed), ""), file)

    def move_to(self, environment: str) -> None:
        """Take all boards there."""
        scratch = self._file.with_suffix(".new")
        scratch.write_text(environment, "utf-8")
        scratch.replace(self._file)
        self.environment = environment


@dataclass(frozen=True, slots=True)
class Sensor:
    """The source of one board's windows; without a playlist it is silent."""

    device: str
    period_s: float
    surroundings: Surroundings
    playlist: Playlist | None
    ledger: Ledger

    def next_window(self) -> tuple[str, Window] | None:
        """Return the environment and the next window in it."""
        environment = self.surroundings.environment
        window = self.playlist.next(environment) if self.playlist else None
        return None if window is None else (environment, window)

    def score(self, environment: str, image_hash: str, *, correct: bool) -> None:
        """Write down whether a prediction was right."""
        self.ledger.record(environment, image_hash, self.device, correct=correct)
