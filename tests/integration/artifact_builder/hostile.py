"""A place where programs that mean harm are run, and what must be as before afterwards."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from services.artifact_builder.sandbox.engines import Program, Sandbox
from services.artifact_builder.sandbox.processes import Ended, Limits
from tests.support import eventually, text_of

TIGHT = Limits(
    wall_s=20, memory_bytes=200_000_000, processes=20, file_bytes=20_000_000, disk_bytes=30_000_000, disk_files=500
)
MARK = "edgeloop-hostile-program"


@dataclass
class Place:
    """A build's folders with a sandbox, and beside them what it must not touch."""

    root: Path
    sandbox: Sandbox

    def __post_init__(self) -> None:
        for name in ("checkout", "output", "home"):
            (self.root / name).mkdir()
        (self.root / "checkout" / "data.csv").write_text("1,2,3")
        (self.root / "keys").mkdir()
        self.key = self.root / "keys" / "signing.pem"
        self.key.write_text("the secret")
        self.key.chmod(0o644)  # the sandbox, not the file's mode, is what keeps it

    async def run(self, code: str, limits: Limits = TIGHT, **environment: str) -> Ended:
        prelude = "import os, sys, time, socket, signal\n"
        return await self.sandbox.run(
            Program(
                command=(sys.executable, "-c", f"{prelude}{code}", MARK),
                cwd=self.root / "checkout",
                environment={
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.root / "home"),
                    "OUT": str(self.root / "output"),
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                    **environment,
                },
                limits=limits,
                readable=(self.root / "checkout",),
                writable=(self.root / "output", self.root / "home"),
            )
        )


def left_running() -> list[str]:
    """Return the command lines of hostile programs that still run."""
    lines = [text_of(path).rstrip("\0") for path in Path("/proc").glob("[0-9]*/cmdline")]
    return [line[:100] for line in lines if line.endswith(MARK)]


@asynccontextmanager
async def and_the_next_is_well(place: Place) -> AsyncIterator[None]:
    yield
    ended = await place.run("print('well')")
    assert (ended.succeeded, ended.last_lines) == (True, ("well",)), ended
    await eventually(lambda: not left_running())
