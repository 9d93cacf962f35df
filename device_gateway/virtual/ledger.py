"""Predictions against labels. This is the experimenter's knowledge: it never leaves this process for the bus."""

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Score:
    """How one device did with one image in one environment."""

    environment: str
    image_hash: str
    device: str
    correct: int = 0
    total: int = 0


class Ledger:
    """Counts that only grow until they are reset."""

    def __init__(self) -> None:
        self._scores: dict[tuple[str, str, str], Score] = {}

    def record(self, environment: str, image_hash: str, device: str, *, correct: bool) -> None:
        """Count one prediction."""
        key = (environment, image_hash, device)
        score = self._scores.setdefault(key, Score(*key))
        score.correct += correct
        score.total += 1

    def rows(self) -> list[dict[str, str | int]]:
        """Return every score, in a stable order."""
        return [asdict(self._scores[key]) for key in sorted(self._scores)]

    def reset(self) -> None:
        """Begin again at zero."""
        self._scores.clear()
