"""How many messages to have in hand, so that a message that kills the process cannot take its neighbours with it."""

from typing import Final

SUSPECT_ATTEMPT: Final = 3
"""The server counts an attempt for everything that was in hand when a process died, innocent or not. From the second
redelivery on messages are taken one at a time, so that only the culprit's count goes on growing."""


class Window:
    """Begins at one, doubles while ordinary messages come, and returns to one at a suspect."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.size = 1

    def saw(self, attempt: int) -> None:
        """Adapt to the highest attempt among the messages that came."""
        self.size = 1 if attempt >= SUSPECT_ATTEMPT else min(self._limit, self.size * 2)
