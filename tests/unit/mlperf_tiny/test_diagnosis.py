"""What a board's bytes are said to mean: properties over any answer, any garbage and any loss."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.mlperf_tiny import READY, Diagnosis, Trouble
from shared.mlperf_tiny.diagnosis import _FIXED_LINES, _PREFIXES, diagnose, lines_of, lost_characters

COMMANDS = st.sampled_from(["name", "profile", "timestamp", "db load 490", "infer 10 1", "results", "db print 8 0"])
WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789.,", min_size=1, max_size=20)
WHOLE = st.one_of(
    st.sampled_from([line for line in _FIXED_LINES if line != "m-ready"]),
    st.builds(
        lambda prefix, word: prefix + word + ("]" if prefix.endswith("[") else ""), st.sampled_from(_PREFIXES), WORDS
    ),
)
ENDS = st.sampled_from(["\r\n", "\n", "\r"])


@st.composite
def answers(draw: st.DrawFn, *, ended: bool = True) -> bytes:
    """Return one answer of a board that is well, its end missing unless `ended`."""
    lines = draw(st.lists(WHOLE, max_size=8)) + (["m-ready"] if ended else [])
    end = draw(ENDS)
    return "".join(line + end for line in lines).encode()


@given(st.binary(max_size=60), st.binary(max_size=400), st.integers(1, 3))
def test_any_bytes_at_all_have_a_meaning(sent: bytes, received: bytes, answers: int) -> None:
    found = diagnose(sent, received, answers=answers, waited_s=5.0)
    if found is None:
        assert len(READY.findall(received)) >= answers
    else:
        assert isinstance(found, Diagnosis)
        assert found.found
        assert found.next_step


@given(COMMANDS, answers())
def test_a_whole_answer_is_no_trouble(command: str, answer: bytes) -> None:
    assert diagnose(f"{command}%".encode(), answer, answers=1, waited_s=5.0) is None


@given(COMMANDS, answers(ended=False))
def test_an_answer_without_an_end_is_one(command: str, answer: bytes) -> None:
    found = diagnose(f"{command}%".encode(), answer, answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is (Trouble.READY_MISSING if answer else Trouble.SILENCE)


@given(COMMANDS, answers(), ENDS)
def test_an_echo_before_a_whole_answer_is_named(command: str, answer: bytes, end: str) -> None:
    found = diagnose(f"{command}%".encode(), f"{command}%{end}".encode() + answer, answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is Trouble.ECHO


@given(COMMANDS)
def test_an_echo_alone_is_named(command: str) -> None:
    found = diagnose(f"{command}%".encode(), f"{command}%".encode(), answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is Trouble.ECHO


@given(answers(), st.lists(st.integers(0x80, 0xFF), min_size=1))
def test_bytes_of_another_rate_are_named_and_one_that_was_hit_is_not_taken_for_it(
    answer: bytes, noise: list[int]
) -> None:
    garbage = bytes(noise) * 50
    found = diagnose(b"name%", garbage + answer[:10], answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is Trouble.BAUD_MISMATCH
    long = answer * 3
    assert diagnose(b"name%", long[:-1] + bytes(noise[:1]) + long[-1:], answers=1, waited_s=5.0) is None


@given(answers(), st.data())
def test_a_character_lost_in_the_end_of_an_answer_is_never_taken_for_an_answer(
    answer: bytes, data: st.DataObject
) -> None:
    at = answer.rindex(b"m-ready") + data.draw(st.integers(0, len(b"m-ready") - 1))
    found = diagnose(b"name%", answer[:at] + answer[at + 1 :], answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is Trouble.DROPPED_BYTES
    assert "'m-ready' was meant" in found.found


@given(answers(), st.data())
def test_no_lost_character_is_taken_for_an_echo_or_another_rate(answer: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(answer) - 1))
    found = diagnose(b"name%", answer[:at] + answer[at + 1 :], answers=1, waited_s=5.0)
    assert found is None or found.trouble in {Trouble.DROPPED_BYTES, Trouble.READY_MISSING, Trouble.SILENCE}


@given(WHOLE)
def test_a_whole_line_lacks_nothing(line: str) -> None:
    assert lost_characters(line) is None


@given(st.sampled_from(_FIXED_LINES), st.data())
def test_a_line_that_lacks_one_character_is_known_again(whole: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(whole) - 1))
    assert lost_characters(whole[:at] + whole[at + 1 :]) == whole


@given(st.sampled_from(_FIXED_LINES), st.data())
def test_a_line_that_lacks_up_to_half_is_known_for_one_that_it_is_part_of(whole: str, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    line = "".join(character for character, stays in zip(whole, kept, strict=True) if stays)
    assume(max(4, len(whole) / 2) <= len(line) < len(whole))
    assume(line not in _FIXED_LINES and not line.startswith(_PREFIXES))
    found = lost_characters(line)
    assert found is not None
    rest = iter(found)
    assert all(character in rest for character in line)


@given(st.sampled_from(_PREFIXES), WORDS, st.data())
def test_a_prefix_that_lacks_one_character_is_known_again(prefix: str, word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(prefix) - 2))
    line = prefix[:at] + prefix[at + 1 :] + word
    assume(not line.startswith(_PREFIXES))
    found = lost_characters(line)
    assert found is not None
    assert found.endswith("…") or found in _FIXED_LINES


@given(st.text("qxzQXZ ", max_size=40))
def test_another_language_is_none_of_ours(text: str) -> None:
    assert lost_characters(text) is None
    found = diagnose(b"name%", text.encode(), answers=1, waited_s=5.0)
    assert found is not None
    assert found.trouble is (Trouble.NOT_A_DUT if text.strip() else Trouble.SILENCE)


@pytest.mark.parametrize("end", ["\r\n", "\n", "\r", "\r\r\n"])
def test_lines_end_as_they_like(end: str) -> None:
    assert lines_of(f"m-init-done{end}{end} m-ready {end}".encode()) == ["m-init-done", "m-ready"]
