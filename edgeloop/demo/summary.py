"""What the demo proved: one JSON object for machines, tables for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeloop.demo.playground import Score
from edgeloop.run_view import cost_of, short_digest
from edgeloop.runs import Run
from shared.events.device import DeviceReported


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class StageSummary(_Part):
    name: str
    outcome: str
    seconds: float


class BoardSummary(_Part):
    board: str
    flash_bytes: int
    ram_bytes: int
    instructions: int
    accuracy: float
    parity: str
    latency_ms: float | None
    latency_class: str | None
    energy_uj: float | None
    energy_class: str | None


class RunSummary(_Part):
    trigger: str
    commit: str
    digest: str
    stages: tuple[StageSummary, ...]
    boards: tuple[BoardSummary, ...]


class DeviceSummary(_Part):
    device: str
    digest: str | None
    state: str


class Accuracy(_Part):
    """Measured on the boards' own predictions while they ran."""

    before_drift: float
    under_drift: float
    after_retraining: float


class Summary(_Part):
    """The object that ``edgeloop demo --json`` prints."""

    runs: tuple[RunSummary, ...]
    fleet: tuple[DeviceSummary, ...]
    accuracy: Accuracy


@dataclass(frozen=True, slots=True)
class Proof:
    """Everything the scenario collected."""

    runs: tuple[Run, ...]
    fleet: tuple[DeviceReported, ...]
    before_drift: Score
    under_drift: Score
    after_retraining: Score
    seconds: float


def summarise(proof: Proof) -> Summary:
    """Return the demo's result."""
    return Summary(
        runs=tuple(map(_run, proof.runs)),
        fleet=tuple(
            DeviceSummary(device=report.device, digest=report.digest, state=report.state)
            for report in sorted(proof.fleet, key=lambda report: report.device)
        ),
        accuracy=Accuracy(
            before_drift=round(proof.before_drift.accuracy, 4),
            under_drift=round(proof.under_drift.accuracy, 4),
            after_retraining=round(proof.after_retraining.accuracy, 4),
        ),
    )


def _run(run: Run) -> RunSummary:
    return RunSummary(
        trigger=run.trigger,
        commit=run.commit or "",
        digest=run.digest or "",
        stages=tuple(
            StageSummary(name=stage.name, outcome=stage.outcome, seconds=round(stage.seconds or 0.0, 3))
            for stage in run.stages
        ),
        boards=tuple(
            BoardSummary(
                board=board.board,
                flash_bytes=board.flash_bytes,
                ram_bytes=board.ram_bytes,
                instructions=board.instructions,
                accuracy=round(board.accuracy, 4),
                parity=board.parity,
                latency_ms=board.latency_ms,
                latency_class=board.latency_class,
                energy_uj=board.energy_uj,
                energy_class=board.energy_class,
            )
            for board in run.boards
        ),
    )


def summary_tables(proof: Proof) -> RenderableType:
    """Return what people read at the end."""
    return Group(
        Text("\nReleases on emulated boards", "bold"),
        _boards_table(proof.runs),
        Text("\nAn inference at the boards' clocks", "bold"),
        _costs_table(proof.runs),
        Text("\nDurations", "bold"),
        _stages_table(proof.runs),
        Text("\nFleet", "bold"),
        _fleet_table(proof),
        Text(f"\nThe loop closed in {proof.seconds:.0f} s.", "bold green"),
    )


def _boards_table(runs: Sequence[Run]) -> Table:
    table = _table("release", "board")
    for name in ("flash", "RAM", "instructions", "accuracy"):
        table.add_column(name, justify="right")
    table.add_column("outputs")
    for run in runs:
        for board in run.boards:
            table.add_row(
                f"{short_digest(run.digest)[:8]} {run.trigger}",
                board.board,
                f"{board.flash_bytes / 1024:.1f} KiB",
                f"{board.ram_bytes / 1024:.1f} KiB",
                f"{board.instructions:,}",
                f"{board.accuracy:.3f}",
                board.parity,
            )
    return table


def _costs_table(runs: Sequence[Run]) -> Table:
    table = _table("release", "board", "latency and energy")
    for run in runs:
        for board in run.boards:
            table.add_row(f"{short_digest(run.digest)[:8]} {run.trigger}", board.board, cost_of(board) or "not known")
    return table


def _stages_table(runs: Sequence[Run]) -> Table:
    table = _table("stage")
    for run in runs:
        table.add_column(run.trigger, justify="right")
    # A run by drift has a stage more, in front.
    names = dict.fromkeys(stage.name for run in reversed(runs) for stage in run.stages)
    for name in names:
        stages = [next((stage for stage in run.stages if stage.name == name), None) for run in runs]
        shown = ("-" if not stage or stage.seconds is None else f"{stage.seconds:.1f} s" for stage in stages)
        table.add_row(name, *shown)
    return table


def _fleet_table(proof: Proof) -> Table:
    table = _table("boards", "release", "accuracy")
    table.add_column("predictions", justify="right")
    first, last = proof.runs[0], proof.runs[-1]
    boards = f"{len(proof.fleet)} virtual"
    rows = (
        ("before the drift", first, proof.before_drift),
        ("under drift", first, proof.under_drift),
        ("after retraining", last, proof.after_retraining),
    )
    for when, run, score in rows:
        table.add_row(boards, short_digest(run.digest), f"{score.accuracy:.3f} {when}", f"{score.total:,}")
    return table


def _table(*names: str) -> Table:
    """Return a table that fits a terminal of 80 columns."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=True)
    return table
