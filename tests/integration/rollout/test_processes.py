"""The controller and the monitor as processes on a real bus, killed when it hurts most."""

import asyncio
import json
import signal
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from shared.bus import EmbeddedServer, Publisher
from shared.events import Blob, Event, Payload
from shared.events.catalogue import decode
from shared.events.dataset import DatasetAdded, DatasetRole
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome, InstallRelease
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.lab import BoardClass, CandidateAccepted
from shared.events.rollout import RolloutStageCompleted, RolloutStarted, RolloutSucceeded
from shared.releases.release import Reference, Release
from shared.store import Blobs
from shared.telemetry import DeviceReport, Histogram, TelemetryBatch
from tests.support import ServiceProcess, eventually
from tests.unit.rollout.releases import release
from tests.unit.rollout.world import BOARDS

P = TypeVar("P", bound=Payload)

DEVICES = 12


class Bus:
    """Everything that was said, and a way to say something."""

    def __init__(self, nc: Client) -> None:
        self.nc = nc
        self.publisher, self.blobs = Publisher(nc, source="test"), Blobs(nc.jetstream())
        self.heard: dict[UUID, Event[Payload]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def say(self, payload: Payload, run_id: UUID | None = None) -> None:
        await self.publisher.publish(payload, event_id=uuid4(), run_id=run_id or uuid4())

    async def listen(self) -> None:
        # Straight off the subjects: the work queue is the gateway's, and there is none here but this.
        for subject in ("edgeloop.evt.>", "edgeloop.cmd.>"):
            subscription = await self.nc.subscribe(subject)
            self._tasks.append(asyncio.create_task(self._keep(subscription.messages)))

    async def _keep(self, messages: AsyncIterator[Msg]) -> None:
        async for message in messages:
            event = decode(message.subject, message.data)
            self.heard.setdefault(event.id, event)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def all(self, kind: type[P]) -> list[P]:
        return [event.data for event in self.heard.values() if isinstance(event.data, kind)]

    async def reach(self, kind: type[P], count: int = 1) -> P:
        await eventually(lambda: len(self.all(kind)) >= count)
        return self.all(kind)[-1]


@pytest.fixture
async def bus(nc: Client) -> AsyncIterator[Bus]:
    bus = Bus(nc)
    await bus.listen()
    yield bus
    bus.close()


@pytest.fixture
def processes(nats_server: EmbeddedServer, tmp_path: Path) -> Iterator[dict[str, ServiceProcess]]:
    names = ("rollout_controller", "drift_monitor")
    found = {name: ServiceProcess(name, nats_server.url, tmp_path) for name in names}
    yield found
    for process in found.values():
        if process.running:
            process.stop()


def report(device: int) -> DeviceReported:
    return DeviceReported(
        project="watches",
        device=f"watch-{device}",
        gateway="rack",
        board=BOARDS[device % 3],
        board_class=BoardClass.VIRTUAL,
        state=DeviceState.CONFIRMED,
        image_hash="f" * 64,
        observed_at=datetime.now(UTC),
    )


async def obey(bus: Bus, order: InstallRelease) -> None:
    await bus.say(
        InstallObserved(
            project=order.project,
            rollout_id=order.rollout_id,
            device=order.device,
            gateway=order.receiver,
            outcome=InstallOutcome.VERIFIED,
            wanted=order.digest,
            observed=order.digest,
            observed_hash=order.image_hash,
            confirmed=True,
            fencing_token=order.fencing_token,
            seconds=0.1,
        )
    )


async def publish_release(bus: Bus, candidate: Release) -> str:
    return (await bus.blobs.put(candidate.to_bytes(), media_type="application/json")).digest


@pytest.mark.slow
async def test_a_controller_killed_in_the_middle_finishes_its_rollout_once(
    bus: Bus, processes: dict[str, ServiceProcess]
) -> None:
    controller = processes["rollout_controller"]
    controller.start()
    for device in range(DEVICES):
        await bus.say(report(device))
    digest, run = await publish_release(bus, release(1)), uuid4()
    await bus.say(CandidateAccepted(project="watches", digest=digest, boards=()), run)
    await bus.reach(RolloutStarted)
    await bus.reach(InstallRelease, count=2)
    controller.stop()  # the canaries are ordered, nobody listens to their answers
    for order in bus.all(InstallRelease):
        await obey(bus, order)
    controller.start()
    await bus.reach(InstallRelease, count=3)
    stage = bus.all(InstallRelease)[2:]
    await obey(bus, stage[0])
    controller.stop()  # with an answer in its hands, or just committed
    controller.start()
    obeyed = {order.device for order in [*bus.all(InstallRelease)[:2], stage[0]]}
    async with asyncio.timeout(90):
        while not bus.all(RolloutSucceeded):
            for order in bus.all(InstallRelease):
                if order.device not in obeyed:
                    obeyed.add(order.device)
                    await obey(bus, order)
            await asyncio.sleep(0.02)
    await asyncio.sleep(1.5)
    assert (len(bus.all(RolloutStarted)), len(bus.all(RolloutSucceeded))) == (1, 1)
    assert [stage.stage for stage in bus.all(RolloutStageCompleted)] == ["canary", "quarter", "all"]
    assert bus.all(RolloutSucceeded)[0].devices == DEVICES
    orders = Counter((order.device, order.fencing_token) for order in bus.all(InstallRelease))
    assert orders == Counter({(f"watch-{device}", 1): 1 for device in range(DEVICES)})
    runs = {event.correlationid for event in bus.heard.values() if event.source == "rollout_controller"}
    assert runs == {run}
    assert controller.stop(signal.SIGTERM) == 0


def drifted(digest: str, sequence: int) -> TelemetryBatch:
    counts = defaultdict(int, {28: 1000})
    histogram = Histogram(counts=[counts[index] for index in range(32)])
    reports = [
        DeviceReport(
            device=f"watch-{device}",
            board="cortex-m4",
            digest=digest,
            sequence=sequence,
            inferences=10,
            class_counts=[5, 5],
            inputs=[histogram, histogram],
        )
        for device in range(4)
    ]
    return TelemetryBatch(gateway="rack", project="watches", sequence=sequence, reports=reports)


async def test_a_monitor_killed_between_batches_alarms_once_and_asks_once(
    bus: Bus, processes: dict[str, ServiceProcess]
) -> None:
    monitor = processes["drift_monitor"]
    drift = {"minimum_windows": 80, "minimum_devices": 3, "minimum_production_rows": 10}
    reference = Reference(counts=((100,) * 32,) * 2, class_counts=(50, 50), rows=100)
    digest = await publish_release(bus, release(1, drift=drift, reference=reference))
    for sequence in range(1, 11):
        monitor.start()
        await bus.publisher.publish_telemetry(drifted(digest, sequence))
        if sequence % 3 == 0:
            await asyncio.sleep(0.3)
            monitor.stop()
        elif monitor.running and sequence < 10:
            monitor.stop()
    detected = await bus.reach(DriftDetected)
    data = Blob(digest=digest, size_bytes=1, media_type="application/x-npz", name="left.npz")
    await bus.say(DatasetAdded(project="watches", role=DatasetRole.PRODUCTION, blob=data, rows=50, groups=2))
    requested = await bus.reach(RetrainingRequested)
    await asyncio.sleep(1)
    assert (len(bus.all(DriftDetected)), len(bus.all(RetrainingRequested))) == (1, 1)
    assert (requested.drift_id, requested.production) == (detected.drift_id, (data,))
    runs = {event.correlationid for event in bus.heard.values() if event.source == "drift_monitor"}
    assert runs == {detected.drift_id}
    found = json.loads(monitor.state_file.read_text("utf-8"))
    assert found["name"] == "drift_monitor"
