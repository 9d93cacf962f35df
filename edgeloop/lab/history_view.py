"""Signed results of the lab: how far each is to be trusted, how instruction counts went, and the gate on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter
from rich.table import Table
from rich.text import Text

from edgeloop.lab.trends import GatedTrend, trend_json
from shared.artifacts.dsse import EnvelopeError
from shared.artifacts.keys import PublicKey
from shared.interop.history import change, series
from shared.interop.results import JobResult
from shared.interop.signed_results import ReadResult, Signature, read_result

_SIGNATURES: Final = {
    Signature.VERIFIED: "green",
    Signature.UNTRUSTED: "bold red",
    Signature.UNSIGNED: "yellow",
    Signature.UNCHECKED: "yellow",
}
_RESULT: Final = TypeAdapter(JobResult)


@dataclass(frozen=True, slots=True)
class Results:
    """What a lab's history says.

    Attributes:
        read: In the order of the documents.
        unreadable: Why a document is no result.
    """

    read: tuple[ReadResult, ...]
    unreadable: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[JobResult, ...]:
        """Those that decide anything: what a stranger signed, or somebody altered, does not."""
        return tuple(found.result for found in self.read if found.signature is not Signature.UNTRUSTED)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before believing it."""
        untrusted = [found for found in self.read if found.signature is Signature.UNTRUSTED]
        said = [f"job {found.result.job} counts for nothing: {found.said}" for found in untrusted]
        for signature in (Signature.UNSIGNED, Signature.UNCHECKED):
            concerned = [found for found in self.read if found.signature is signature]
            if concerned:
                said.append(f"{len(concerned)} of {len(self.read)} results are {signature}: {concerned[0].said}")
        return (*said, *(f"a document of the history is no result: {why}" for why in self.unreadable))


def read_all(documents: Iterable[str], trusted: Sequence[PublicKey]) -> Results:
    """Read results as the desk gives them."""
    read, unreadable = [], []
    for document in documents:
        try:
            read.append(read_result(document.encode(), trusted))
        except EnvelopeError as error:
            unreadable.append(str(error))
    return Results(tuple(read), tuple(unreadable))


def as_json(results: Results, gated: Sequence[GatedTrend] | None) -> object:
    """Return the history for machines; with trends where they were asked for."""
    found: dict[str, object] = {
        "results": [
            {**_RESULT.dump_python(each.result, mode="json"), "signature": each.signature, "said": each.said}
            for each in results.read
        ],
        "unreadable": list(results.unreadable),
    }
    if gated is not None:
        found["trends"] = [trend_json(each) for each in gated]
    return found


def history_table(results: Results) -> Table:
    """Return one line a result, as the desk orders them."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in ("job", "project", "board", "verdict", "instructions", "change", "finished", "signature", "why"):
        table.add_column(name, no_wrap=name != "why", justify="right" if name in _NUMBERS else "left")
    changes = _changes(results.counted)
    for found in results.read:
        result = found.result
        cells = (
            result.job,
            result.project,
            result.board,
            result.verdict,
            "" if result.instructions is None else f"{result.instructions:,}",
            changes.get(id(result), ""),
            f"{result.finished:%Y-%m-%d %H:%M}",
        )
        table.add_row(*cells, Text(found.signature, _SIGNATURES[found.signature]), result.reason)
    return table


_NUMBERS: Final = frozenset({"instructions", "change"})


def _changes(results: Sequence[JobResult]) -> Mapping[int, str]:
    """Return by the result's identity how many more instructions it took than the one before it in its series."""
    found = {}
    for members in series(results).values():
        for before, after in pairwise(members):
            if before.instructions is not None and after.instructions is not None:
                found[id(after)] = f"{change(before.instructions, after.instructions):+.3%}"
    return found
