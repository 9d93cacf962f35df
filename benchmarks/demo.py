"""How long the whole loop takes, and how much memory: `make demo` as a newcomer runs it, and once set up.

    python benchmarks/demo.py            # set up already: the warm run
    python benchmarks/demo.py --fresh    # a fresh clone, a fresh environment, an empty compiler cache: both runs

Memory is the sum of the proportional set sizes (PSS) of the command and everything below it, sampled twice a second:
pages that processes share are counted once. Measured, not modelled.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_S = 0.5
GIB = 2**30


@dataclass(frozen=True)
class Bar:
    """What the run must stay under."""

    seconds: float
    peak_bytes: int


FRESH = Bar(seconds=360, peak_bytes=4 * GIB)
WARM = Bar(seconds=120, peak_bytes=4 * GIB)


@dataclass(frozen=True)
class Measured:
    """One run of the demo."""

    name: str
    seconds: float
    peak_bytes: int
    bar: Bar
    accuracy: dict[str, float]

    @property
    def meets_bar(self) -> bool:
        """Tell whether the run stayed under its bar."""
        return self.seconds < self.bar.seconds and self.peak_bytes < self.bar.peak_bytes


class PeakMemory(threading.Thread):
    """Samples the memory of a process and of everything below it."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._ended = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        """Sample until `stop`."""
        while not self._ended.wait(SAMPLE_S):
            with suppress(psutil.Error):
                processes = [self._root, *self._root.children(recursive=True)]
                self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, processes)))

    def stop(self) -> int:
        """Return the largest sum seen."""
        self._ended.set()
        self.join()
        return self.peak_bytes


def _pss_bytes(process: psutil.Process) -> int:
    with suppress(psutil.Error):
        return int(process.memory_full_info().pss)
    return 0


def measure(name: str, directory: Path, environment: dict[str, str], bar: Bar) -> Measured:
    """Run `make demo` in `directory`."""
    began = time.monotonic()
    command = ["make", "--silent", "demo", "DEMO_FLAGS=--json"]
    with subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.PIPE, text=True) as demo:
        memory = PeakMemory(demo.pid)
        memory.start()
        assert demo.stdout is not None
        said = demo.stdout.read()
    peak_bytes = memory.stop()
    if demo.returncode != 0:
        sys.exit(f"make demo in {directory} ended with exit code {demo.returncode}; its reason is above")
    return Measured(name, time.monotonic() - began, peak_bytes, bar, json.loads(said)["accuracy"])


def fresh_and_warm(directory: Path) -> list[Measured]:
    """Clone this repository's HEAD, and run the demo there twice."""
    clone = directory / "edgeloop"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "MAKEFLAGS")}
    environment["XDG_CACHE_HOME"] = str(directory / "cache")
    return [
        measure("make demo, set-up included", clone, environment, FRESH),
        measure("make demo, once set up", clone, environment, WARM),
    ]


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fresh", action="store_true", help="clone, set up and run, then run again")
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    asked = parser.parse_args()
    if asked.fresh:
        with tempfile.TemporaryDirectory(prefix="edgeloop-bench-") as directory:
            found = fresh_and_warm(Path(directory))
    else:
        found = [measure("make demo, once set up", ROOT, dict(os.environ), WARM)]
    if asked.json:
        print(json.dumps([asdict(run) | {"meets_bar": run.meets_bar} for run in found]))
    else:
        for run in found:
            verdict = "met" if run.meets_bar else "MISSED"
            print(
                f"{run.name}: {run.seconds:.0f} s (bar {run.bar.seconds:.0f}), peak {run.peak_bytes / GIB:.2f} GiB PSS "
                f"(bar {run.bar.peak_bytes / GIB:.0f}): {verdict}; accuracy {run.accuracy}"
            )
    sys.exit(0 if all(run.meets_bar for run in found) else 1)


if __name__ == "__main__":
    main()
