"""What a board's sensor sees, and what the experimenter alone knows about it."""

from dataclasses import dataclass

from device_gateway.virtual.ledger import Ledger
from device_gateway.virtual.world import Playlist, Window


@dataclass(slots=True)
class Surroundings:
    """Where all boards are now."""

    environment: str


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
