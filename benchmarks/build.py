"""How long the example takes from a push to an artifact, and which stages ran, after which change.

A real NATS server and the builder as a service in a process of its own; each row is a commit that is pushed. Seconds
are from the publication of `SourcePushed` to `ArtifactBuilt`, clone and storing included, on the wall clock. Beside
them are the processor seconds of the builder and all that it started: what else the machine does hardly changes those.

    python benchmarks/build.py [--json]

The first row begins with empty caches, the compiler's included. Exit code 1 when a bar is not reached.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from nats.aio.client import Client
from nats.aio.msg import Msg

from edgeloop.demo.example import Repositories, make_repositories
from edgeloop.git import git
from services.artifact_builder.firmware.signing import generate_key
from shared.bus import EmbeddedServer, Publisher, connect, ensure_streams
from shared.events.artifact import ArtifactBuilt, BuildFailed, BuildStage
from shared.events.catalogue import decode, subject_filter
from shared.events.source import Forge, SourcePushed

ROOT: Final = Path(__file__).resolve().parent.parent
PROJECT: Final = "exercise-recognition"
START_WITHIN_S: Final = 120.0
BUILD_WITHIN_S: Final = 900.0
WORK: Final = frozenset(BuildStage) - {BuildStage.CLONE, BuildStage.MANIFEST, BuildStage.STORE}


@dataclass(frozen=True)
class Change:
    """What is edited before a push, and how long the push may take."""

    name: str
    edit: Callable[[Path], None]
    bar_s: float | None = None
    runs: frozenset[BuildStage] | None = None
    """The stages that may run; None: any."""


@dataclass(frozen=True)
class Measured:
    """One push."""

    change: str
    seconds: float
    processor_s: float
    rebuilt: bool
    ran: tuple[str, ...]
    stages: dict[str, float]
    bar_s: float | None
    meets_bar: bool


def _replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(tree: Path) -> None:
        text = (tree / file).read_text("utf-8")
        if old not in text:
            raise SystemExit(f"{file} has no {old!r} any more: mend benchmarks/build.py")
        (tree / file).write_text(text.replace(old, new, 1), "utf-8")

    return edit


def _append(file: str, line: str) -> Callable[[Path], None]:
    def edit(tree: Path) -> None:
        (tree / file).write_text((tree / file).read_text("utf-8") + line + "\n", "utf-8")

    return edit


NOTHING: Final = frozenset[BuildStage]()
CHANGES: Final = (
    Change("cold", lambda _: None, bar_s=45),
    Change("the same commit again", lambda _: None, bar_s=2, runs=NOTHING),
    Change("README.md", _append("README.md", "One more sentence."), bar_s=2, runs=NOTHING),
    Change("a budget", _append("edgeloop.yaml", "budgets: {cortex-m4: {flash_bytes: 100000}}"), bar_s=2, runs=NOTHING),
    Change("a label's name", _replace("edgeloop.yaml", "pendulum", "swing"), runs=NOTHING),
    Change("the firmware's version", _replace("edgeloop.yaml", "release: 1.0.0", "release: 1.0.1")),
    Change("one board less", _replace("edgeloop.yaml", "cortex-m4, cortex-m7]", "cortex-m4]"), runs=NOTHING),
    Change("training code", _append("train.py", "# as before")),
)


@contextmanager
def builder(server: EmbeddedServer, data: Path, key: Path) -> Iterator[int]:
    """Run the service until the block ends; give its process id."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EDGELOOP_")}
    settings = {
        "EDGELOOP_NATS_URL": server.url,
        "EDGELOOP_DATA": str(data),
        "EDGELOOP_SIGNING_KEY": str(key),
        "EDGELOOP_TRUSTED_REPOSITORIES": '["file://*"]',
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "services.artifact_builder"]
    with (data / "builder.log").open("wb") as log, subprocess.Popen(command, env=kept | settings, stderr=log) as child:
        try:
            deadline = time.monotonic() + START_WITHIN_S
            while not (data / "run" / "artifact_builder.json").exists():
                if child.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"the builder did not start:\n{(data / 'builder.log').read_text()}")
                time.sleep(0.05)
            yield child.pid
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(30)


def processor_seconds(pid: int) -> float:
    """Return what a process and its children that ended have taken so far. Source: proc(5), fields 14 to 17 of stat."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


async def push(nc: Client, repositories: Repositories, change: Change, pid: int) -> Measured:
    """Commit a change, tell the builder, and wait for what it says."""
    change.edit(repositories.checkout)
    git(repositories.checkout, "add", "--all")
    if git(repositories.checkout, "status", "--porcelain"):
        git(repositories.checkout, "commit", "--quiet", "--message", f"Change {change.name}")
    git(repositories.checkout, "push", "--quiet", "origin", "main")
    pushed = SourcePushed(
        project=PROJECT,
        repository=repositories.bare.as_uri(),
        ref="refs/heads/main",
        commit=git(repositories.checkout, "rev-parse", "HEAD"),
        forge=Forge.GITEA,
        delivery=change.name,
    )
    said: asyncio.Queue[Msg] = asyncio.Queue()
    heard = [await nc.subscribe(subject_filter(kind), cb=said.put) for kind in (ArtifactBuilt, BuildFailed)]
    begun, taken_before_s = time.perf_counter(), processor_seconds(pid)
    await Publisher(nc, source="benchmark").publish(pushed, event_id=uuid4(), run_id=uuid4())
    message = await asyncio.wait_for(said.get(), BUILD_WITHIN_S)
    seconds, processor_s = time.perf_counter() - begun, processor_seconds(pid) - taken_before_s
    event = decode(message.subject, message.data).data
    for subscription in heard:
        await subscription.unsubscribe()
    if not isinstance(event, ArtifactBuilt):
        raise SystemExit(f"{change.name}: {event}")
    return _measured(change, event, seconds, processor_s)


def _measured(change: Change, event: ArtifactBuilt, seconds: float, processor_s: float) -> Measured:
    ran = [timing.stage for timing in event.stages if timing.stage in WORK and not timing.cached]
    in_time = change.bar_s is None or seconds <= change.bar_s
    return Measured(
        change=change.name,
        seconds=round(seconds, 2),
        processor_s=round(processor_s, 2),
        rebuilt=event.rebuilt,
        ran=tuple(ran),
        stages={timing.stage.value: timing.seconds for timing in event.stages},
        bar_s=change.bar_s,
        meets_bar=in_time and (change.runs is None or set(ran) <= change.runs),
    )


async def measure(folder: Path) -> list[Measured]:
    """Push every change in turn."""
    generate_key(folder / "signing.pem", folder / "signing.pub.pem")
    repositories = make_repositories(folder / "repositories")
    git(repositories.checkout, "push", "--quiet", "origin", "main")
    with EmbeddedServer(folder / "nats") as server:
        nc = await connect(server.url, name="benchmark")
        await ensure_streams(nc.jetstream())
        try:
            with builder(server, folder, folder / "signing.pem") as pid:
                return [await push(nc, repositories, change, pid) for change in CHANGES]
        finally:
            await nc.close()


def table(results: list[Measured]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| change | seconds | bar | processor seconds | stages that ran |", "|---|---:|---:|---:|---|"]
    for row in results:
        bar = "" if row.bar_s is None else f"≤ {row.bar_s:g}"
        mark = "" if row.meets_bar else " ✘"
        ran = ", ".join(row.ran) or "none"
        lines.append(f"| {row.change} | {row.seconds:.2f}{mark} | {bar} | {row.processor_s:.2f} | {ran} |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as folder:
        results = asyncio.run(measure(Path(folder)))
    if arguments.json:
        print(json.dumps([asdict(row) for row in results], indent=2))
    else:
        print(f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}\n")
        print(table(results))
    return 0 if all(row.meets_bar for row in results) else 1


if __name__ == "__main__":
    sys.exit(main())
