import pytest

from shared.bus import STREAMS, ConsumerSpec, StreamSpec
from shared.bus.outcomes import LONGEST_DELAY_S


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_stream_remembers_ids_longer_than_the_slowest_retries(stream: StreamSpec) -> None:
    assert stream.duplicate_window_s >= ConsumerSpec(stream.name, "any", ()).max_attempts * LONGEST_DELAY_S


def test_no_two_streams_share_a_subject() -> None:
    subjects = [subject for stream in STREAMS for subject in stream.subjects]
    assert len(set(subjects)) == len(subjects)


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a*", "x" * 65])
def test_names_that_would_break_a_subject_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        ConsumerSpec("EVENTS", name, ())
