"""The bytes of a console as they come over the bus: put in order, with what was lost counted."""

from dataclasses import dataclass

from shared.lab.messages import ConsoleOutput


@dataclass(frozen=True, slots=True)
class Heard:
    """New bytes, and how many before them never came."""

    data: bytes
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """What was heard under one token. `next_offset`: of the byte that is due; None before the first."""

    token: int
    next_offset: int | None = None

    def hear(self, said: ConsoleOutput) -> tuple["Stream", Heard]:
        """Return the stream after a message of its token, and what is new in it.

        What the board said before the listener came is no loss: the first message begins the stream.
        """
        end = said.offset + len(said.data)
        if self.next_offset is None:
            return Stream(self.token, end), Heard(said.data)
        if end <= self.next_offset:
            return self, Heard(b"")
        known = max(0, self.next_offset - said.offset)
        lost = max(0, said.offset - self.next_offset)
        return Stream(self.token, end), Heard(said.data[known:], lost)
