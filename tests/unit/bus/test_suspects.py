from hypothesis import given
from hypothesis import strategies as st

from shared.bus._suspects import Suspects


def test_the_least_suspicious_comes_first() -> None:
    suspects: Suspects[str] = Suspects()
    for sequence, attempt in ((1, 5), (2, 2), (3, 4)):
        suspects.add(sequence, attempt, f"{sequence}")
    assert [suspects.pop() for _ in range(3)] == ["2", "3", "1"]
    assert not suspects


def test_a_newer_delivery_replaces_the_older() -> None:
    suspects: Suspects[str] = Suspects()
    suspects.add(1, 2, "old")
    suspects.add(1, 3, "new")
    assert suspects.all() == ["new"]


@given(count=st.integers(min_value=1, max_value=50), data=st.data())
def test_two_crashes_are_enough_to_tell_the_culprit_from_its_neighbours(count: int, data: st.DataObject) -> None:
    culprit = data.draw(st.integers(min_value=0, max_value=count - 1))
    first_attempt = data.draw(st.integers(min_value=2, max_value=9))
    left = set(range(count))
    for attempt in (first_attempt, first_attempt + 1):
        suspects: Suspects[int] = Suspects()
        for sequence in left:
            suspects.add(sequence, attempt, sequence)
        while (handled := suspects.pop()) != culprit:
            left.discard(handled)
    assert left == {culprit}
