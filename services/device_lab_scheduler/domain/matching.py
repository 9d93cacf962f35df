"""Distinct boards for several demands at once."""

from collections.abc import Callable, Sequence


def soonest_set(options: Sequence[Sequence[str]], available_at: Callable[[str], float]) -> tuple[str, ...] | None:
    """Return one board for each demand, all distinct, such that the last of them is available as soon as possible.

    Boards are taken in the order of availability, each where an augmenting path admits it: sets that can be matched
    form a matroid, so that this greedy choice is optimal (Edmonds and Fulkerson 1965).

    Args:
        options: For each demand the boards that meet it.
        available_at: When a board is available.

    Returns:
        Boards in the order of the demands, or None where no such set exists.
    """
    wants: dict[str, list[int]] = {}
    for demand, names in enumerate(options):
        for name in names:
            wants.setdefault(name, []).append(demand)
    if len(options) == 1:
        return (min(wants, key=lambda name: (available_at(name), name)),) if wants else None
    given: dict[int, str] = {}

    def admit(name: str, seen: set[int]) -> bool:
        for demand in wants[name]:
            if demand not in seen:
                seen.add(demand)
                if demand not in given or admit(given[demand], seen):
                    given[demand] = name
                    return True
        return False

    for name in sorted(wants, key=lambda name: (available_at(name), name)):
        if admit(name, set()) and len(given) == len(options):
            return tuple(given[demand] for demand in range(len(options)))
    return None
