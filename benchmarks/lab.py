"""One pass over 1,000 boards and 10,000 waiting jobs: our scheduler beside labgrid's, on the same input in one run.

Three figures of each: the time of the first pass over the whole queue; placements a second while the queue is worked
off (every job takes one round, and each round begins with a pass); and how many rounds a small project's one job waits
that came after a flood. labgrid's scheduler knows neither projects nor age: it is given what it understands, tags and
the order of the queue.

    python benchmarks/lab.py [--boards 1000] [--jobs 10000] [--rounds 4] [--json]

labgrid is no dependency of ours, and its side is left out where it is missing: `pip download --no-deps labgrid`, unpack
the wheel, and name its folder in PYTHONPATH; `labgrid/remote/scheduler.py` needs attrs alone. Exit code 1 when a bar is
missed.
"""

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Final

from rich.console import Console
from rich.table import Table

from benchmarks.lab_desk import measure_steps
from services.device_lab_scheduler.domain.leasing import grant
from services.device_lab_scheduler.domain.scheduling import Lab, Policy, Turns, schedule
from shared.events.lab import BoardClass
from shared.lab import Job, LabBoard, Lease, Place, parse_requirement
from shared.lab.board import Traits

BAR_PASS_S: Final = 0.2
CORES: Final = ("cortex-m0plus", "cortex-m4", "cortex-m7", "cortex-m33")
RACKS: Final = 20
DEMANDS: Final = tuple(parse_requirement(f"core={core}; ram>={ram}k") for core in CORES for ram in (32, 256))
MINE: Final = "mine"
ROUND_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one scheduler did."""

    scheduler: str
    first_pass_ms: float
    placements_per_s: float
    placed: int
    rounds: int
    small_project_waited_rounds: int | None


def main() -> int:
    """Measure, print, and return the exit code."""
    options = _options()
    boards, jobs = make_boards(options.boards), make_jobs(options.jobs)
    rows = [_measure("Edgeloop", ours(boards), jobs, options.rounds)]
    module = labgrid_scheduler()
    if module is None:
        print("without labgrid: see the top of benchmarks/lab.py for how to get it", file=sys.stderr)
    else:
        rows.append(_measure("labgrid", theirs(module, boards), jobs, options.rounds))
    desk = measure_steps(boards, jobs)
    if options.json:
        found = {"boards": len(boards), "jobs": len(jobs), "rows": [asdict(row) for row in rows], "desk": asdict(desk)}
        print(json.dumps(found))
    else:
        _print(rows, len(boards), len(jobs))
        print(
            f"the desk over SQLite: {desk.first_ms:,.0f} ms for a first step with {desk.placed:,} jobs placed, "
            f"{desk.quiet_ms:,.1f} ms for one without anything to do, {desk.restart_ms:,.0f} ms for the first after a "
            "restart"
        )
    if rows[0].first_pass_ms > BAR_PASS_S * 1000 and not options.no_bars:
        print(f"bar missed: a pass took {rows[0].first_pass_ms:.0f} ms > {BAR_PASS_S * 1000:.0f} ms", file=sys.stderr)
        return 1
    return 0


def make_boards(count: int) -> list[LabBoard]:
    """Return boards of four cores and two sizes of RAM on `RACKS` racks."""
    return [
        LabBoard(
            f"board-{number:04}",
            Traits(
                board=CORES[number % 4],
                place=f"rack-{number % RACKS:02}",
                board_class=BoardClass.PHYSICAL,
                core=CORES[number % 4],
                clock_hz=100_000_000,
                flash_bytes=1 << 20,
                ram_bytes=(64 if number // 4 % 2 else 512) << 10,
            ),
        )
        for number in range(count)
    ]


def make_jobs(count: int) -> list[Job]:
    """Return a flood of ten projects, one job in fifty for two boards, and at last one job of a small project."""
    flood = [
        Job(
            f"job-{number:05}",
            f"project-{number % 10}",
            demands=(DEMANDS[number % 8],) * (2 if number % 50 == 0 else 1),
            priority=5,
            submitted_s=number / count,
            limit_s=ROUND_S,
        )
        for number in range(count - 1)
    ]
    return [*flood, Job(MINE, "small", demands=(DEMANDS[1],), submitted_s=1.0, limit_s=ROUND_S)]


Pass = Callable[[Sequence[Job], float], list[str]]
"""Returns the jobs that start now, every board being free."""


def ours(boards: Sequence[LabBoard]) -> Pass:
    """Return our scheduler, with the leases that it grants and the turns that it remembers."""
    places = [Place(f"rack-{number:02}", 0.0) for number in range(RACKS)]
    policy = Policy(grace_s=0, longest_s=ROUND_S)
    turns, tokens = Turns(), dict[str, int]()
    leases: list[Lease] = []

    def run(waiting: Sequence[Job], now_s: float) -> list[str]:
        nonlocal turns, leases
        leases = [lease for lease in leases if lease.cap_s > now_s]
        live = [replace(place, seen_s=now_s) for place in places]
        plan = schedule(Lab(boards, live, leases, waiting, turns, policy), now_s)
        turns = plan.turns
        for start in plan.starts:
            leases += grant(start, "benchmark", tokens, now_s, policy)
        return [start.job.id for start in plan.starts]

    return run


def theirs(module: ModuleType, boards: Sequence[LabBoard]) -> Pass:
    """Return labgrid's scheduler. A job for two boards becomes its first: it knows one board a reservation."""
    places = [
        module.TagSet(board.name, {str(demand) for demand in DEMANDS if demand.holds(board.traits)}) for board in boards
    ]

    def run(waiting: Sequence[Job], _now_s: float) -> list[str]:
        filters = [module.TagSet(job.id, {str(job.demands[0])}) for job in waiting]
        return list(module.schedule(places, filters))

    return run


def labgrid_scheduler() -> ModuleType | None:
    """Return labgrid's module alone: importing the package wants its gRPC server's and its serial ports' libraries."""
    try:
        spec = importlib.util.find_spec("labgrid")
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).parent / "remote/scheduler.py"
    alone = importlib.util.spec_from_file_location("labgrid_scheduler", file)
    assert alone is not None
    assert alone.loader is not None
    module = importlib.util.module_from_spec(alone)
    alone.loader.exec_module(module)
    return module


def _measure(name: str, run: Pass, jobs: Sequence[Job], rounds: int) -> Row:
    waiting, placed, seconds, first_s, waited = list(jobs), 0, 0.0, 0.0, None
    for number in range(rounds):
        started = time.perf_counter()
        begun = set(run(waiting, number * ROUND_S))
        took = time.perf_counter() - started
        seconds += took
        first_s = first_s or took
        placed += len(begun)
        if MINE in begun:
            waited = number
        waiting = [job for job in waiting if job.id not in begun]
    return Row(name, first_s * 1000, placed / seconds, placed, rounds, waited)


def _print(rows: Sequence[Row], boards: int, jobs: int) -> None:
    table = Table(title=f"{boards:,} boards, {jobs:,} waiting jobs")
    for column in ("scheduler", "first pass ms", "placements/s", "placed", "rounds", "the small project waited"):
        table.add_column(column, justify="left" if column == "scheduler" else "right")
    for row in rows:
        waited = row.small_project_waited_rounds
        table.add_row(
            row.scheduler,
            f"{row.first_pass_ms:,.0f}",
            f"{row.placements_per_s:,.0f}",
            f"{row.placed:,}",
            str(row.rounds),
            f"more than {row.rounds} rounds" if waited is None else f"{waited} rounds",
        )
    Console().print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--boards", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-bars", action="store_true", help="always exit with 0")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
