"""The validators and the lab as processes on a real bus: one result a run, whoever is killed."""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
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
from tests.support import ServiceProcess, eventually

SERVICES = ("data_validator", "model_validator", "device_lab_scheduler")


Stack: TypeAlias = dict[str, ServiceProcess]


@pytest.fixture
def stack(nats_server: EmbeddedServer, tmp_path: Path) -> Iterator[Stack]:
    """The three services as child processes, by name."""
    stack = {name: ServiceProcess(name, nats_server.url, tmp_path) for name in SERVICES}
    for process in stack.values():
        process.start()
    yield stack
    for process in stack.values():
        process.stop(signal.SIGTERM)


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
        await eventually(lambda: {event.correlationid for event in found()} == set(runs))
    except pytest.fail.Exception:
        logs = "\n".join(process.log()[-2000:] for process in stack.values())
        pytest.fail(f"heard {[event.type for event in heard]}\n{logs}")
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

    stack["device_lab_scheduler"].stop(signal.SIGKILL)
    second = await say_built(nc, kept, digest)
    stack["device_lab_scheduler"].start()
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
