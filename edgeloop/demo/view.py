"""What a person sees while the demo runs: a live picture on a terminal, lines anywhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from edgeloop.demo.observer import Observed
from edgeloop.run_view import run_tree, short_digest
from edgeloop.runs import Outcome

FRAMES_PER_S: Final = 4


class View:
    """On stderr, since stdout is for the result."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._observed = Observed()
        self._began = datetime.now(UTC)
        self._step = ""
        self._told: set[tuple[str, str, Outcome]] = set()
        self._fleet_told = ""
        self._live: Live | None = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Draw for the length of the block, or until `close`."""
        if self._console.is_terminal:
            # Not redirecting: stdout is for the result and may be a pipe.
            self._live = Live(
                get_renderable=self._picture,
                console=self._console,
                refresh_per_second=FRAMES_PER_S,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        try:
            yield
        finally:
            self.close()

    def close(self) -> None:
        """End the live picture."""
        if self._live:
            self._live.stop()
            self._live = None

    def step(self, what: str) -> None:
        """Say what happens next."""
        self._step = what
        self._line(Text.assemble(("▸ ", "bold cyan"), what))

    def note(self, what: str) -> None:
        """Say something that happened on the way."""
        self._line(Text(f"  {what}"))

    def update(self, observed: Observed) -> None:
        """Take the new state of things."""
        self._observed = observed
        if not self._console.is_terminal:
            self._tell_changes()

    def final(self) -> RenderableType:
        """Return the last picture of the runs, to be kept on the screen."""
        now = datetime.now(UTC)
        return Group(*(run_tree(run, now) for run in self._observed.runs))

    def _picture(self) -> RenderableType:
        return Group(self.final(), Text(self._fleet_line(), "cyan"), Text(f"{self._elapsed()}  {self._step} …", "bold"))

    def _fleet_line(self) -> str:
        fleet = self._observed.fleet.values()
        if not fleet:
            return ""
        counts: dict[str, int] = {}
        for report in fleet:
            running = f"release {short_digest(report.digest)}" if report.digest else "factory firmware"
            counts[f"{running} {report.state}"] = counts.get(f"{running} {report.state}", 0) + 1
        return f"fleet of {len(fleet)}: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))

    def _tell_changes(self) -> None:
        for run in self._observed.runs:
            for stage in run.stages:
                key = (str(run.run_id), stage.name, stage.outcome)
                if stage.outcome is Outcome.PENDING or key in self._told:
                    continue
                self._told.add(key)
                took = "" if stage.seconds is None else f" in {stage.seconds:.1f} s"
                detail = f": {stage.detail}" if stage.detail else ""
                self._line(Text(f"  {run.trigger} {stage.name} {stage.outcome}{took}{detail}"))
        fleet = self._fleet_line()
        if fleet != self._fleet_told:
            self._fleet_told = fleet
            self._line(Text(f"  {fleet}"))

    def _line(self, text: Text) -> None:
        self._console.print(Text.assemble((f"{self._elapsed()} ", "dim"), text), soft_wrap=True)

    def _elapsed(self) -> str:
        return f"{(datetime.now(UTC) - self._began).total_seconds():6.1f} s"
