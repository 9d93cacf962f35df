"""How instruction counts went, series by series, and the gate on the last of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from shared.events import Check, CheckOutcome
from shared.interop.history import Trend, judge_instructions, series, trends
from shared.interop.results import JobResult

_BARS: Final = "▁▂▃▄▅▆▇█"
_BARS_SHOWN: Final = 30


@dataclass(frozen=True, slots=True)
class GatedTrend:
    """How a series went, and whether its last result may stand."""

    trend: Trend
    gate: Check


def gated_trends(results: Sequence[JobResult]) -> tuple[GatedTrend, ...]:
    """Return each series with the gate's answer to its last result."""
    last = {key: found[-1] for key, found in series(results).items()}
    return tuple(GatedTrend(trend, judge_instructions(results, last[trend.key])) for trend in trends(results))


def stopped(gated: Sequence[GatedTrend]) -> bool:
    """Tell whether the last result of a series takes too many instructions."""
    return any(each.gate.outcome is CheckOutcome.FAILED for each in gated)


def trend_json(each: GatedTrend) -> object:
    """Return a series for machines."""
    trend = each.trend
    return {
        **trend.key._asdict(),
        "counts": list(trend.counts),
        "step": trend.step,
        "since_first": trend.since_first,
        "gate": each.gate.model_dump(mode="json"),
    }


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
