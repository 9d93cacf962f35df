"""The stream of a console, whatever the way to it loses or repeats; and the tickets for boards in hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edgeloop.errors import UsageError
from edgeloop.lab import tickets
from edgeloop.lab.console_stream import Stream
from edgeloop.lab.keyboard import up_to_leaving
from edgeloop.layout import Layout
from shared.lab import JobKind
from shared.lab.messages import ConsoleOutput, HeldBoard, JobState, JobView


class Listening(RuleBasedStateMachine):
    """A board says bytes in messages that are lost or repeated on the way: every byte is shown once or told as lost."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[ConsoleOutput] = []
        self.offset = 0
        self.heard_up_to: int | None = None
        self.began_at = 0
        self.stream = Stream(token=7)
        self.shown, self.lost = bytearray(), 0

    @rule(data=st.binary(min_size=1, max_size=9), arrives=st.booleans())
    def say(self, data: bytes, arrives: bool) -> None:
        message = ConsoleOutput(board="m4-1", token=7, offset=self.offset, data=data)
        self.offset += len(data)
        self.said.append(message)
        if arrives:
            self.deliver(message)

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Deliver something again that lies in the past."""
        past = [each for each in self.said if self.heard_up_to is not None and each.offset < self.heard_up_to]
        if past:
            self.deliver(data.draw(st.sampled_from(past)))

    def deliver(self, message: ConsoleOutput) -> None:
        if self.heard_up_to is None:
            self.began_at = message.offset
        self.heard_up_to = max(self.heard_up_to or 0, message.offset + len(message.data))
        self.stream, heard = self.stream.hear(message)
        self.shown += heard.data
        self.lost += heard.lost

    @invariant()
    def every_byte_is_shown_once_or_lost(self) -> None:
        if self.heard_up_to is not None:
            assert len(self.shown) + self.lost == self.heard_up_to - self.began_at


TestListening = Listening.TestCase


def test_a_message_that_overlaps_what_was_heard_shows_only_the_rest() -> None:
    stream, _ = Stream(1).hear(ConsoleOutput(board="b", token=1, offset=0, data=b"abcd"))
    _, heard = stream.hear(ConsoleOutput(board="b", token=1, offset=2, data=b"cdef"))
    assert (heard.data, heard.lost) == (b"ef", 0)


@given(st.binary(), st.binary())
def test_nothing_is_typed_after_leaving(before: bytes, after: bytes) -> None:
    typed, left = up_to_leaving(before.replace(b"\x1d", b"") + b"\x1d" + after)
    assert (typed, left) == (before.replace(b"\x1d", b""), True)
    assert up_to_leaving(typed) == (typed, False)


def reservation(name: str, *boards: str, state: JobState = JobState.RUNNING) -> JobView:
    held = tuple(HeldBoard(board=board, place="p", token=3, left_s=1, cap_left_s=2) for board in boards)
    return JobView(
        id=name,
        project="people",
        kind=JobKind.RESERVATION,
        state=state,
        demands=("any",),
        priority=0,
        age_s=0,
        held=held,
    )


def test_tickets_follow_what_the_desk_says_and_forget_what_has_ended(tmp_path: Path) -> None:
    tickets.remember(tmp_path, "nats://a", [reservation("one", "m4-1"), reservation("two")])
    tickets.remember(tmp_path, "nats://b", [reservation("one", "m7-1")])
    kept = tickets.remember(
        tmp_path, "nats://a", [reservation("one", state=JobState.ENDED), reservation("two", "m4-2")]
    )
    assert kept == tickets.load(tmp_path)
    (two,) = kept.of_bus("nats://a")
    assert two.held == (tickets.Held(board="m4-2", place="p", token=3),)
    assert [ticket.held[0].board for ticket in kept.of_bus("nats://b")] == ["m7-1"]


def test_a_damaged_list_of_tickets_is_told(tmp_path: Path) -> None:
    file = Layout(tmp_path).lab_tickets
    file.parent.mkdir()
    file.write_text("[")
    with pytest.raises(UsageError, match=r"leases\.json: not a list of reservations") as refused:
        tickets.load(tmp_path)
    assert "remove the file" in refused.value.next_step
