"""Command lines of ``edgeloop lab``, run as a user runs them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeloop.cli import execute
from tests.support import ROOT


class LabCli:
    """Runs command lines in a thread: they have an event loop of their own."""

    def __init__(self, url: str, data: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.url, self.data = url, data
        self._capfd = capfd

    def arguments(self, *arguments: str) -> list[str]:
        return ["lab", *arguments, "--nats-url", self.url, "--data", str(self.data)]

    async def text(self, *arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(execute, self.arguments(*arguments))
        said = self._capfd.readouterr()
        return code, said.out, said.err

    async def __call__(self, *arguments: str) -> tuple[int, Any]:
        code, out, _ = await self.text(*arguments, "--json")
        return code, json.loads(out)

    def process(self, *arguments: str, stdin: int = subprocess.PIPE) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "edgeloop", *self.arguments(*arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
