"""Where tensors live in the arena: several greedy plans, of which the smallest is taken.

Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (arXiv 2001.03288), section 5.2. One of
the plans is that of TensorFlow Lite for Microcontrollers itself (GreedyMemoryPlanner), so that none needs more.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

ALIGNMENT_BYTES: Final = 4
"""Kernels may read words."""
TFLM_ALIGNMENT_BYTES: Final = 16
"""What TensorFlow Lite for Microcontrollers rounds every tensor up to."""

Gap: TypeAlias = Callable[[int, Sequence[tuple[int, int]]], int]
"""From a size and the stretches that are taken, by their start, to where a tensor goes."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A tensor of `size_bytes` that is alive from step `first` to step `last`, both included."""

    size_bytes: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether both are alive in some step."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True, slots=True)
class Plan:
    """An offset for every tensor, in the order given, and the bytes that all need together."""

    offsets: tuple[int, ...]
    arena_bytes: int


def aligned(size_bytes: int, alignment_bytes: int = ALIGNMENT_BYTES) -> int:
    """Round up to the alignment."""
    return -(-size_bytes // alignment_bytes) * alignment_bytes


def plan_arena(lifetimes: Sequence[Lifetime]) -> Plan:
    """Place tensors so that no two that live at once overlap.

    A chain of layers takes turns at both ends of the arena, which is optimal. Otherwise several plans are made, because
    no order is best for every network. The last is TFLM's: by size in steps of 16 bytes, of equal ones the last first,
    each into the first gap; with tensors in the model's order its arena is therefore never exceeded.
    """
    chain = _both_ends(lifetimes)
    if chain is not None:
        return chain
    every = range(len(lifetimes))
    by_size = sorted(every, key=lambda i: (-lifetimes[i].size_bytes, lifetimes[i].first, i))
    by_step = sorted(every, key=lambda i: (lifetimes[i].first, -lifetimes[i].size_bytes, i))
    backwards = sorted(every, key=lambda i: (-lifetimes[i].size_bytes, -lifetimes[i].first, -i))
    as_tflm = sorted(every, key=lambda i: (-aligned(lifetimes[i].size_bytes, TFLM_ALIGNMENT_BYTES), -i))
    plans = (
        _place(lifetimes, by_size, _best_gap),
        _place(lifetimes, by_step, _best_gap),
        _place(lifetimes, backwards, _best_gap),
        _place(lifetimes, as_tflm, _first_gap, TFLM_ALIGNMENT_BYTES),
    )
    return min(plans, key=lambda plan: plan.arena_bytes)


def lower_bound_bytes(lifetimes: Sequence[Lifetime]) -> int:
    """Return what the busiest step needs: no plan can do with less."""
    steps = {tensor.first for tensor in lifetimes}
    return max(
        (sum(aligned(t.size_bytes) for t in lifetimes if t.first <= step <= t.last) for step in steps), default=0
    )


def _both_ends(lifetimes: Sequence[Lifetime]) -> Plan | None:
    """Place tensors in turn at the arena's start and at its end, if each meets only its neighbours in time."""
    order = sorted(range(len(lifetimes)), key=lambda i: (lifetimes[i].first, lifetimes[i].last, i))
    if any(lifetimes[a].meets(lifetimes[b]) for a, b in zip(order, order[2:], strict=False)):
        return None
    arena_bytes = lower_bound_bytes(lifetimes)
    offsets = {
        index: arena_bytes - aligned(lifetimes[index].size_bytes) if turn % 2 else 0 for turn, index in enumerate(order)
    }
    return Plan(offsets=tuple(offsets[i] for i in range(len(lifetimes))), arena_bytes=arena_bytes)


def _place(
    lifetimes: Sequence[Lifetime], order: Sequence[int], gap: Gap, alignment_bytes: int = ALIGNMENT_BYTES
) -> Plan:
    sizes = [aligned(tensor.size_bytes, alignment_bytes) for tensor in lifetimes]
    offsets: dict[int, int] = {}
    for index in order:
        taken = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if lifetimes[index].meets(lifetimes[other])
        )
        offsets[index] = gap(sizes[index], taken)
    return Plan(
        offsets=tuple(offsets[i] for i in range(len(lifetimes))),
        arena_bytes=max((offsets[i] + aligned(t.size_bytes) for i, t in enumerate(lifetimes)), default=0),
    )


def _first_gap(size_bytes: int, taken: Sequence[tuple[int, int]]) -> int:
    """Return the start of the first gap that is large enough, or the end of everything."""
    end = 0
    for begin, finish in taken:
        if begin - end >= size_bytes:
            break
        end = max(end, finish)
    return end


def _best_gap(size_bytes: int, taken: Sequence[tuple[int, int]]) -> int:
    """Return the start of the smallest gap that is large enough, or the end of everything."""
    end = 0
    best: tuple[int, int] | None = None
    for begin, finish in taken:
        gap = begin - end
        if gap >= size_bytes and (best is None or gap < best[0]):
            best = (gap, end)
        end = max(end, finish)
    return end if best is None else best[1]
