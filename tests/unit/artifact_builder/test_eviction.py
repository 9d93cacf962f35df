from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.caching.eviction import Bounds, Entry, to_evict, unneeded, used_bytes

NOW_S = 1000.0
SIZES = {"a": 1, "b": 10, "c": 100, "d": 0, "e": 40}
TIMES = st.integers(0, int(NOW_S)).map(float)
ENTRIES = st.lists(
    st.builds(
        Entry,
        key=st.text("0123456789abcdef", min_size=4, max_size=4),
        made_at_s=TIMES,
        used_at_s=TIMES,
        blobs=st.sets(st.sampled_from(sorted(SIZES))).map(lambda names: {name: SIZES[name] for name in names}),
    ),
    max_size=8,
    unique_by=lambda entry: entry.key,
)
BOUNDS = st.builds(Bounds, maximum_bytes=st.integers(0, 160), maximum_age_s=st.sampled_from([0.0, 100.0, 2 * NOW_S]))


def is_old(entry: Entry, bounds: Bounds) -> bool:
    return NOW_S - entry.made_at_s > bounds.maximum_age_s


@given(entries=ENTRIES, bounds=BOUNDS)
def test_what_stays_fits_and_is_young_and_nothing_that_went_was_used_later(
    entries: list[Entry], bounds: Bounds
) -> None:
    evicted = to_evict(entries, bounds, NOW_S)
    kept = [entry for entry in entries if entry not in evicted]
    assert used_bytes(kept) <= bounds.maximum_bytes
    assert not any(is_old(entry, bounds) for entry in kept)
    for_room = [entry for entry in evicted if not is_old(entry, bounds)]
    assert all(gone.used_at_s <= entry.used_at_s for gone in for_room for entry in kept)


@given(entries=ENTRIES, bounds=BOUNDS)
def test_no_more_goes_than_has_to(entries: list[Entry], bounds: Bounds) -> None:
    evicted = to_evict(entries, bounds, NOW_S)
    for_room = [entry for entry in evicted if not is_old(entry, bounds)]
    if for_room:
        kept = [entry for entry in entries if entry not in evicted]
        assert used_bytes([*kept, for_room[-1]]) > bounds.maximum_bytes


@given(entries=ENTRIES, bounds=BOUNDS, data=st.data())
def test_replicas_that_read_the_same_rows_in_another_order_decide_the_same(
    entries: list[Entry], bounds: Bounds, data: st.DataObject
) -> None:
    other = data.draw(st.permutations(entries))
    one, two = to_evict(entries, bounds, NOW_S), to_evict(other, bounds, NOW_S)
    assert {entry.key for entry in one} == {entry.key for entry in two}


@given(entries=ENTRIES, bounds=BOUNDS)
def test_a_blob_that_stays_is_named_and_one_that_goes_is_not(entries: list[Entry], bounds: Bounds) -> None:
    evicted = to_evict(entries, bounds, NOW_S)
    kept = [entry for entry in entries if entry not in evicted]
    gone = unneeded(evicted, kept)
    assert gone.isdisjoint(digest for entry in kept for digest in entry.blobs)
    assert gone | {digest for entry in kept for digest in entry.blobs} == {d for e in entries for d in e.blobs}
