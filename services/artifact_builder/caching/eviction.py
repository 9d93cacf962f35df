"""What a bounded cache lets go: a pure decision over its entries."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

DAY_S: Final = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a cache may be, and for how long what was made once is used."""

    maximum_bytes: int = 10 * 2**30
    maximum_age_s: float = 30 * DAY_S


@dataclass(frozen=True, slots=True)
class Entry:
    """What one stage gave. Times are POSIX seconds."""

    key: str
    made_at_s: float
    used_at_s: float
    blobs: Mapping[str, int]
    """Sizes in bytes, by digest. Entries may share blobs, which take their room once."""


def to_evict(entries: Collection[Entry], bounds: Bounds, now_s: float) -> list[Entry]:
    """Return the entries that are too old, and then, until the others fit, those that were not used for longest."""
    evicted = [entry for entry in entries if now_s - entry.made_at_s > bounds.maximum_age_s]
    expired = {entry.key for entry in evicted}
    kept = sorted(
        (entry for entry in entries if entry.key not in expired), key=lambda entry: (entry.used_at_s, entry.key)
    )
    uses = Counter(digest for entry in kept for digest in entry.blobs)
    taken = used_bytes(kept)
    for entry in kept:
        if taken <= bounds.maximum_bytes:
            break
        evicted.append(entry)
        uses.subtract(entry.blobs.keys())
        taken -= sum(size for digest, size in entry.blobs.items() if not uses[digest])
    return evicted


def used_bytes(entries: Iterable[Entry]) -> int:
    """Return what entries take together."""
    return sum({digest: size for entry in entries for digest, size in entry.blobs.items()}.values())


def unneeded(evicted: Iterable[Entry], kept: Iterable[Entry]) -> set[str]:
    """Return the digests of blobs that no entry names any more."""
    return {digest for entry in evicted for digest in entry.blobs} - {d for entry in kept for d in entry.blobs}
