"""The validators and the lab as processes on a real bus: one result a run, whoever is killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer, Publisher
from shared.events import Event, Payload, Trigger
from shared.events.artifact import ArtifactBuilt
from shared.events.catalogue import decode
from shared.events.lab import CandidateAccepted, CandidateRefused, RunStaging
from shared.store import Blobs
from tests.data.gestures.release import MemoryBlobs, gestures_release, recordings
from tests.integration.device_lab.workshop import Workshop

SERVICES = ("data_validator", "model_validator", "device_lab_scheduler")


class Stack:
    """The three services as child processes."""

    def __init__(self, url: str, data: Path) -> None:
        self._data = data
        self._environment = os.environ | {"EDGELOOP_NATS_URL": url, "EDGELOOP_DATA": str(data)}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        with (self._data / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", f"services.{name}"]
            self._children[name] = subprocess.Popen(command, env=self._environment, stderr=log)

    def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        child = self._children.pop(name)
        child.send_signal(number)
        child.wait(timeout=30)

    def stop_all(self) -> None:
        for name in list(self._children):
            self.stop(name)

    def logs(self) -> str:
        return "\n".join(path.read_text("utf-8")[-2000:] for path in self._data.glob("*.log"))


@pytest.fixture
def stack(nats_server: EmbeddedServer, tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(nats_server.url, tmp_path)
    for name in SERVICES:
        stack.start(name)
    yield stack
    stack.stop_all()


@pytest.fixture
async def heard(nc: Client) -> list[Event[Payload]]:
    """Everything that is said on the bus, events and commands."""
    events: list[Event[Payload]] = []

    async def note(message: object) -> None:
        events.append(decode(message.subject, message.data))  # type: ignore[attr-defined]

    for root in ("edgeloop.evt.>", "edgeloop.cmd.>"):
        await nc.subscribe(root, cb=note)
    return events


async def say_built(nc: Client, kept: MemoryBlobs, digest: str) -> UUID:
    blobs = Blobs(nc.jetstream())
    for data in kept.kept.values():
        await blobs.put(data, media_type="application/octet-stream")
    run_id = uuid4()
    built = ArtifactBuilt(
        project="acme-gestures", digest=digest, commit="c" * 40, trigger=Trigger.PUSH, firmware=(), rebuilt=True
    )
    await Publisher(nc, source="artifact_builder").publish(built, event_id=uuid4(), run_id=run_id)
    return run_id


async def results(stack: Stack, heard: list[Event[Payload]], *runs: UUID) -> list[CandidateAccepted | CandidateRefused]:
    """Wait until every run has its result, and a little for one too many."""

    def found() -> list[Event[Payload]]:
        return [event for event in heard if isinstance(event.data, CandidateAccepted | CandidateRefused)]

    try:
        async with asyncio.timeout(60):
            while {event.correlationid for event in found()} != set(runs):  # noqa: ASYNC110 - other processes say it
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"heard {[event.type for event in heard]}\n{stack.logs()}")
    await asyncio.sleep(0.5)
    assert len({event.id for event in found()}) == len(runs)
    by_run = {event.correlationid: event.data for event in found()}
    return [result for run in runs if isinstance(result := by_run[run], CandidateAccepted | CandidateRefused)]


async def test_a_release_goes_from_built_to_accepted_and_again_in_another_run(
    nc: Client, stack: Stack, heard: list[Event[Payload]], workshop: Workshop
) -> None:
    kept = MemoryBlobs()
    digest, _ = gestures_release(kept, firmware=(workshop.build(kept, "cortex-m4"),))
    first = await say_built(nc, kept, digest)
    (accepted,) = await results(stack, heard, first)
    assert isinstance(accepted, CandidateAccepted), accepted

    stack.stop("device_lab_scheduler", signal.SIGKILL)
    second = await say_built(nc, kept, digest)
    stack.start("device_lab_scheduler")
    assert await results(stack, heard, first, second) == [accepted, accepted]
    assert sum(isinstance(event.data, RunStaging) for event in heard) == 2


async def test_what_the_data_validator_rejects_never_reaches_a_board(
    nc: Client, stack: Stack, heard: list[Event[Payload]]
) -> None:
    kept = MemoryBlobs()
    digest, _ = gestures_release(kept, test=recordings(90, 12, "ann"))
    run_id = await say_built(nc, kept, digest)
    (refused,) = await results(stack, heard, run_id)
    assert isinstance(refused, CandidateRefused)
    assert refused.reason.startswith("Data rejected: group-leakage")
    assert not [event for event in heard if isinstance(event.data, RunStaging)]
