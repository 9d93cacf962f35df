"""Signed results of the lab: how far each is to be trusted, how instruction counts went, and the gate on them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from pydantic import TypeAdapter
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.artifacts.dsse import EnvelopeError
from shared.artifacts.keys import PublicKey
from shared.events import Check, CheckOutcome
from shared.interop.history import Trend, change, judge_instructions, series, trends
from shared.interop.results import JobResult
from shared.interop.signed_results import ReadResult, Signature, read_result

_SIGNATURES: Final = {
    Signature.VERIFIED: "green",
    Signature.UNTRUSTED: "bold red",
    Signature.UNSIGNED: "yellow",
    Signature.UNCHECKED: "yellow",
}
_BARS: Final = "▁▂▃▄▅▆▇█"
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


@dataclass(frozen=True, slots=True)
class GatedTrend:
    """How a series went, and whether its last result may stand."""

    trend: Trend
    gate: Check


def read_all(documents: Iterable[str], trusted: Sequence[PublicKey]) -> Results:
    """Read results as the desk gives them."""
    read, unreadable = [], []
    for document in documents:
        try:
            read.append(read_result(document.encode(), trusted))
        except EnvelopeError as error:
            unreadable.append(str(error))
    return Results(tuple(read), tuple(unreadable))


def gated_trends(results: Sequence[JobResult]) -> tuple[GatedTrend, ...]:
    """Return each series with the gate's answer to its last result."""
    last = {key: found[-1] for key, found in series(results).items()}
    return tuple(GatedTrend(trend, judge_instructions(results, last[trend.key])) for trend in trends(results))


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
        found["trends"] = [_trend_json(each) for each in gated]
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
            changes.get(result.job, ""),
            f"{result.finished:%Y-%m-%d %H:%M}",
        )
        table.add_row(*cells, Text(found.signature, _SIGNATURES[found.signature]), result.reason)
    return table


def trend_view(gated: Sequence[GatedTrend]) -> RenderableType:
    """Return one line a series, and below them what the gate says of those that it stops."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in (
        "project",
        "board",
        "numerics",
        "toolchain",
        "results",
        "trend",
        "last",
        "step",
        "since first",
        "gate",
    ):
        table.add_column(name, no_wrap=True)
    for each in gated:
        key, counts = each.trend.key, each.trend.counts
        style = "bold red" if each.gate.outcome is CheckOutcome.FAILED else "green"
        table.add_row(
            key.project,
            f"{key.board} ({key.board_class})",
            key.numerics,
            key.toolchain,
            str(len(counts)),
            spark(counts[-_BARS_SHOWN:]),
            f"{counts[-1]:,}",
            "" if each.trend.step is None else f"{each.trend.step:+.3%}",
            f"{each.trend.since_first:+.3%}",
            Text(each.gate.outcome, style),
        )
    stopped = [each.gate for each in gated if each.gate.outcome is CheckOutcome.FAILED]
    lines = [Text(f"{gate.observed}; allowed is {gate.allowed}. {gate.detail}", "red") for gate in stopped]
    return Group(table, *lines)


def spark(counts: Sequence[int]) -> str:
    """Return a line of bars between the least and the most; a flat line where nothing changed."""
    least, most = min(counts), max(counts)
    if least == most:
        return _BARS[0] * len(counts)
    top = len(_BARS) - 1
    return "".join(_BARS[round((count - least) / (most - least) * top)] for count in counts)


_NUMBERS: Final = frozenset({"instructions", "change"})
_BARS_SHOWN: Final = 30


def _changes(results: Sequence[JobResult]) -> Mapping[str, str]:
    """Return by job how many more instructions it took than the one before it in its series."""
    found = {}
    for members in series(results).values():
        for before, after in pairwise(members):
            if before.instructions is not None and after.instructions is not None:
                found[after.job] = f"{change(before.instructions, after.instructions):+.3%}"
    return found


def _trend_json(each: GatedTrend) -> object:
    trend = each.trend
    return {
        **trend.key._asdict(),
        "counts": list(trend.counts),
        "step": trend.step,
        "since_first": trend.since_first,
        "gate": each.gate.model_dump(mode="json"),
    }
