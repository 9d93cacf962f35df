"""Where tensors live in the arena: greedy by size, the method of TensorFlow Lite for Microcontrollers.

Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (arXiv 2001.03288), section 5.2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

ALIGNMENT_BYTES = 4
"""Kernels may read words."""


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


def aligned(size_bytes: int) -> int:
    """Round up to the alignment."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def plan_arena(lifetimes: Sequence[Lifetime]) -> Plan:
    """Place tensors so that no two that live at once overlap.

    A chain of layers takes turns at both ends of the arena, which is optimal. Otherwise two orders are tried, by size
    and by the first step, because neither is best for every network.
    """
    chain = _both_ends(lifetimes)
    if chain is not None:
        return chain
    by_size = sorted(range(len(lifetimes)), key=lambda i: (-lifetimes[i].size_bytes, lifetimes[i].first, i))
    by_step = sorted(range(len(lifetimes)), key=lambda i: (lifetimes[i].first, -lifetimes[i].size_bytes, i))
    return min((_place(lifetimes, order) for order in (by_size, by_step)), key=lambda plan: plan.arena_bytes)


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


def _place(lifetimes: Sequence[Lifetime], order: Sequence[int]) -> Plan:
    offsets: dict[int, int] = {}
    for index in order:
        tensor = lifetimes[index]
        taken = sorted(
            (offsets[other], offsets[other] + aligned(lifetimes[other].size_bytes))
            for other in offsets
            if tensor.meets(lifetimes[other])
        )
        offsets[index] = _best_gap(aligned(tensor.size_bytes), taken)
    return Plan(
        offsets=tuple(offsets[i] for i in range(len(lifetimes))),
        arena_bytes=max((offsets[i] + aligned(t.size_bytes) for i, t in enumerate(lifetimes)), default=0),
    )


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
