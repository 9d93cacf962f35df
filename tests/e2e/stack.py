"""A whole stack as a user has it: `edgeloop up`, the commands beside it, and a repository that is pushed to."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast
from uuid import UUID

import numpy as np
import psutil

from edgeloop.errors import InfrastructureError
from edgeloop.events import connected, history
from shared.bus import BusUnreachableError
from shared.events import Command, Event, Payload
from shared.events.catalogue import PAYLOADS
from tests.support import git, wait_until

T = TypeVar("T")
P = TypeVar("P", bound=Payload)

FACTS = [payload for payload in PAYLOADS if not issubclass(payload, Command)]
BOARDS = 6
FILES = {
    "edgeloop.yaml": """\
version: 1
name: Gestures
labels: [down, up]
input: {shape: [16, 2], channels: [ax, ay], minimum: -1, maximum: 1}
data:
  prepare: {command: [python, prepare.py], timeout_s: 60}
  train: {path: train.npz}
  test: {path: test.npz}
model:
  train: {command: [python, train.py], timeout_s: 240}
boards: [cortex-m0plus, cortex-m4, cortex-m7]
gates: {accuracy: 0.9, accuracy_loss: 0.1}
rollout:
  stages: [{name: canary, devices: 2, soak_s: 2}, {name: all, percent: 100}]
  failure_budget: 0.05
""",
    "prepare.py": """\
import os
import numpy as np
for name, people, seed in (("train", range(8), 0), ("test", range(8, 12), 1)):
    rng = np.random.default_rng(seed)
    group = np.repeat(np.array(people), 30)
    y = rng.integers(0, 2, len(group))
    x = rng.normal(0, 0.15, (len(group), 16, 2)) + (y - 0.5)[:, None, None]
    file = os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], name + ".npz")
    np.savez(file, x=np.clip(x, -1, 1).astype(np.float32), y=y, group=group)
""",
    "train.py": """\
import os
import keras
import numpy as np
keras.utils.set_random_seed(int(os.environ["EDGELOOP_SEED"]))
data = np.load(os.path.join(os.environ["EDGELOOP_DATA_DIR"], "train.npz"))
layers = [
    keras.layers.Input((16, 2)),
    keras.layers.Conv1D(4, 3, activation="relu"),
    keras.layers.GlobalAveragePooling1D(),
    keras.layers.Dense(2, activation="softmax"),
]
model = keras.Sequential(layers)
model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
model.fit(data["x"], data["y"], epochs=6, verbose=2)
model.save(os.path.join(os.environ["EDGELOOP_OUTPUT_DIR"], "model.keras"))
""",
}


class Stack:
    """`edgeloop up` and the commands that a user types beside it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        world = data.parent / "world.npz"
        rng = np.random.default_rng(2)
        x = rng.normal(0, 0.1, (60, 16, 2)).astype(np.float32)
        np.savez(world, x=x, y=np.zeros(60, np.int64), group=np.arange(60) % 3, environment=np.full(60, "field"))
        options = ["--virtual-boards", str(BOARDS), "--project", "local-gestures", "--world", str(world)]
        with (data.parent / "up.log").open("w") as log:
            self._up = subprocess.Popen(self._command("up", *options), stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._up.stdout is not None
        self.state: dict[str, Any] = json.loads(self._up.stdout.readline() or "{}")
        assert self.state, (data.parent / "up.log").read_text()

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "edgeloop", *arguments, "--data", str(self.data), "--json"]

    def run(self, *arguments: str) -> Any:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode in (0, 1), done.stderr
        return json.loads(done.stdout)

    def show(self, run_id: UUID) -> tuple[int, Any]:
        """Return the exit code of `edgeloop run show`, and the run."""
        command = self._command("run", "show", str(run_id))
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, json.loads(done.stdout)

    def boards(self) -> dict[str, Any]:
        """Return what runs on each virtual board."""
        with urllib.request.urlopen(f"{self.state['virtual_url']}/boards", timeout=10) as answer:
            return {board["id"]: board for board in json.load(answer)}

    def harm(self, board: str, kind: str, **how: float) -> None:
        """Make something go wrong with a virtual board."""
        url = f"{self.state['virtual_url']}/boards/{board}/faults"
        body = json.dumps({"kind": kind, **how}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=10) as answer:
            assert answer.status == 200

    def kill(self, service: str) -> None:
        os.kill(json.loads((self.data / "run" / f"{service}.json").read_text())["pid"], signal.SIGKILL)

    def stop(self) -> None:
        self._up.send_signal(signal.SIGTERM)
        self._up.wait(60)
        assert self._up.stdout is not None
        self._up.stdout.close()

    def all_said(self, kind: type[P]) -> list[Event[P]]:
        """Return the events of one kind, oldest first."""
        return [cast("Event[P]", event) for event in self.said() if isinstance(event.data, kind)]

    def said(self) -> list[Event[Payload]]:
        """Return every event on the bus; none while the bus is away."""

        async def read() -> list[Event[Payload]]:
            async with connected(self.state["nats_url"]) as nc:
                return await history(nc, FACTS)

        with contextlib.suppress(BusUnreachableError, InfrastructureError):
            return asyncio.run(read())
        return []


def eventually(find: Callable[[], T | None], *, within_s: float = 180) -> T:
    """Wait for a whole pipeline: each look reads the bus from its beginning, so it looks less often."""
    return wait_until(find, within_s=within_s, look_every_s=0.1)


def repository(folder: Path) -> Path:
    checkout = folder / "checkout"
    checkout.mkdir()
    git(folder, "init", "--quiet", "--bare", "--initial-branch=main", "gestures.git")
    for name, text in FILES.items():
        (checkout / name).write_text(text)
    git(checkout, "init", "--quiet", "--initial-branch=main")
    git(checkout, "remote", "add", "origin", str(folder / "gestures.git"))
    git(checkout, "add", ".")
    git(checkout, "commit", "--quiet", "--message=Recognise gestures")
    return checkout


def is_training(stack: Stack) -> bool:
    children = psutil.Process(stack.state["pid"]).children(recursive=True)
    commands = []
    for child in children:
        with contextlib.suppress(psutil.Error):
            commands.append(child.cmdline())
    return any("train.py" in command for command in commands)
