"""The arena's plan."""

from hypothesis import given
from hypothesis import strategies as st

from services.artifact_builder.codegen.planner import (
    ALIGNMENT_BYTES,
    TFLM_ALIGNMENT_BYTES,
    Lifetime,
    aligned,
    lower_bound_bytes,
    plan_arena,
)

_lifetimes = st.lists(
    st.builds(
        lambda size, first, steps: Lifetime(size, first, first + steps),
        st.integers(1, 5000),
        st.integers(0, 20),
        st.integers(0, 8),
    ),
    max_size=40,
)


@given(_lifetimes)
def test_no_two_tensors_that_live_at_once_overlap(lifetimes: list[Lifetime]) -> None:
    plan = plan_arena(lifetimes)
    placed = list(zip(plan.offsets, lifetimes, strict=True))
    for number, (offset, tensor) in enumerate(placed):
        for other_offset, other in placed[:number]:
            apart = offset + tensor.size_bytes <= other_offset or other_offset + other.size_bytes <= offset
            assert apart or not tensor.meets(other)


@given(_lifetimes)
def test_every_tensor_is_aligned_and_inside_the_arena(lifetimes: list[Lifetime]) -> None:
    plan = plan_arena(lifetimes)
    for offset, tensor in zip(plan.offsets, lifetimes, strict=True):
        assert offset % ALIGNMENT_BYTES == 0
        assert 0 <= offset <= plan.arena_bytes - tensor.size_bytes


@given(_lifetimes)
def test_the_arena_is_at_least_what_the_busiest_step_needs_and_at_most_everything(lifetimes: list[Lifetime]) -> None:
    plan = plan_arena(lifetimes)
    assert lower_bound_bytes(lifetimes) <= plan.arena_bytes <= sum(aligned(t.size_bytes) for t in lifetimes)


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=20))
def test_a_chain_of_layers_needs_exactly_its_busiest_step(sizes: list[int]) -> None:
    chain = [Lifetime(size, step, step + 1) for step, size in enumerate(sizes)]
    assert plan_arena(chain).arena_bytes == lower_bound_bytes(chain)


def test_nothing_needs_nothing() -> None:
    assert plan_arena([]).arena_bytes == 0


def _arena_of_tflm(lifetimes: list[Lifetime]) -> int:
    """Return what GreedyMemoryPlanner takes: by descending size, the last first, each into the first gap of 16s."""
    sizes = [aligned(tensor.size_bytes, TFLM_ALIGNMENT_BYTES) for tensor in lifetimes]
    placed: list[tuple[int, int]] = []
    for index in sorted(range(len(lifetimes)), key=lambda i: (-sizes[i], -i)):
        at = 0
        for offset, other in sorted(placed):
            if not lifetimes[index].meets(lifetimes[other]):
                continue
            if offset - at >= sizes[index]:
                break
            at = max(at, offset + sizes[other])
        placed.append((at, index))
    return max((offset + sizes[index] for offset, index in placed), default=0)


@given(_lifetimes)
def test_no_network_needs_more_than_with_tflm(lifetimes: list[Lifetime]) -> None:
    assert plan_arena(lifetimes).arena_bytes <= _arena_of_tflm(lifetimes)


def test_where_our_own_orders_are_worse_than_tflm_s_its_plan_is_taken() -> None:
    sizes = (304, 4, 5), (144, 4, 6), (144, 6, 6), (304, 3, 6), (256, 6, 6)
    awkward = [Lifetime(size, first, last) for size, first, last in sizes]
    assert plan_arena(awkward).arena_bytes == _arena_of_tflm(awkward) == 848
