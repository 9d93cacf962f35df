"""The drift monitor's handlers on a real database."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Connection, create_engine

from services.drift_monitor import store
from services.drift_monitor.adapters import Baselines
from services.drift_monitor.handlers import Deps, drift_id_of, take_production_data, turn_to_release, watch_inputs
from shared.events import Blob, Payload, envelop
from shared.events.dataset import DatasetAdded, DatasetRole
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.rollout import RolloutSucceeded
from shared.releases.release import Reference
from shared.runtime.handlers import Handler, InRun
from shared.telemetry import DeviceReport, Histogram, Telemetry, TelemetryBatch
from tests.unit.rollout.releases import MemoryBlobs, blob, release

DEVICES = 4
WINDOW = 2 * DEVICES * 10  # two batches of ten inferences each


def bell(centre: float, rows: int) -> list[int]:
    weights = np.exp(-((np.arange(32) - centre) ** 2) / 18)
    return [int(count) for count in np.round(weights / weights.sum() * rows)]


class Monitor:
    """Handlers as the runtime calls them, each in the open transaction."""

    def __init__(self, tx: Connection) -> None:
        self.tx, self.blobs = tx, MemoryBlobs()
        self.deps = Deps(Baselines(self.blobs))
        self.sequence = 0
        self.said: list[InRun] = []

    def add_release(self, number: int = 1, production: tuple[Blob, ...] = ()) -> str:
        drift = {"minimum_windows": WINDOW, "minimum_devices": 3, "minimum_production_rows": 100}
        reference = Reference(counts=(tuple(bell(16, 20_000)),) * 2, class_counts=(500, 500), rows=1000)
        return self.blobs.put_release(release(number, production=production, reference=reference, drift=drift))

    def batch(self, digest: str, centre: float, *, devices: int = DEVICES) -> Telemetry:
        self.sequence += 1
        histograms = [Histogram(counts=bell(16, 1000)), Histogram(counts=bell(centre, 1000))]
        reports = [
            DeviceReport(
                device=f"watch-{device}",
                board="cortex-m4",
                digest=digest,
                sequence=self.sequence,
                inferences=10,
                class_counts=[5, 5],
                inputs=histograms,
            )
            for device in range(devices)
        ]
        batch = TelemetryBatch(gateway="rack", project="watches", sequence=self.sequence, reports=reports)
        return Telemetry(uuid4(), batch)

    async def hear(self, telemetry: Telemetry) -> list[Payload]:
        return self.keep(await watch_inputs.call(telemetry, self.deps, self.tx))

    async def see(self, digest: str, centre: float, batches: int = 2) -> list[Payload]:
        return [said for _ in range(batches) for said in await self.hear(self.batch(digest, centre))]

    async def handle(self, handler: Handler, payload: Payload) -> list[Payload]:
        event = envelop(payload, event_id=uuid4(), source="t", time=datetime.now(UTC), correlation_id=uuid4())
        return self.keep(await handler.call(event, self.deps, self.tx))

    def keep(self, emissions: object) -> list[Payload]:
        assert isinstance(emissions, list)
        self.said += emissions
        return [emission.payload for emission in emissions]

    async def add_data(self, name: str, rows: int, role: DatasetRole = DatasetRole.PRODUCTION) -> list[Payload]:
        added = DatasetAdded(project="watches", role=role, blob=blob(name), rows=rows, groups=2)
        return await self.handle(take_production_data, added)

    async def succeed(self, digest: str) -> None:
        succeeded = RolloutSucceeded(project="watches", rollout_id=uuid4(), digest=digest, devices=DEVICES, seconds=1)
        await self.handle(turn_to_release, succeeded)


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[Monitor]:
    engine = create_engine(f"sqlite:///{tmp_path}/state.db")
    store.METADATA.create_all(engine)
    with engine.begin() as connection:
        yield Monitor(connection)
    engine.dispose()


async def test_undrifted_boards_say_nothing(monitor: Monitor) -> None:
    digest = monitor.add_release()
    assert await monitor.see(digest, centre=16.5, batches=20) == []
    assert monitor.blobs.reads == 2, "a release is read once: its manifest, and its index"
    assert REGISTRY.get_sample_value("edgeloop_drift_psi", {"project": "watches"}) == pytest.approx(0, abs=0.1)
    assert REGISTRY.get_sample_value("edgeloop_drift_active", {"project": "watches"}) == 0


async def test_drift_shows_after_two_windows_however_long_the_boards_ran_without(monitor: Monitor) -> None:
    digest = monitor.add_release()
    await monitor.see(digest, centre=16, batches=50)
    assert await monitor.see(digest, centre=24) == []
    (detected,) = await monitor.see(digest, centre=24)
    assert isinstance(detected, DriftDetected)
    assert (detected.detector, detected.channel, detected.threshold) == ("psi", 1, 0.5)
    assert (detected.windows, detected.devices) == (WINDOW, DEVICES)
    assert detected.statistic > 2
    assert monitor.said[0].run_id == detected.drift_id == drift_id_of("watches", digest, 1)


async def test_a_drift_is_said_once(monitor: Monitor) -> None:
    digest = monitor.add_release()
    assert len(await monitor.see(digest, centre=24, batches=40)) == 1


async def test_a_burst_is_no_drift(monitor: Monitor) -> None:
    digest = monitor.add_release()
    for _ in range(5):
        assert await monitor.see(digest, centre=24) == []
        assert await monitor.see(digest, centre=16) == []


async def test_too_few_devices_never_drift_and_do_not_pile_up(monitor: Monitor) -> None:
    digest = monitor.add_release()
    for _ in range(60):
        assert await monitor.hear(monitor.batch(digest, 24, devices=2)) == []
    _, reports = store.load_reports(monitor.tx, "watches", digest)
    assert sum(report.inferences for report in reports) == 4 * WINDOW


async def test_a_repeated_report_counts_once(monitor: Monitor) -> None:
    digest = monitor.add_release()
    telemetry = monitor.batch(digest, 24)
    for _ in range(10):
        assert await monitor.hear(Telemetry(uuid4(), telemetry.batch)) == []
    _, reports = store.load_reports(monitor.tx, "watches", digest)
    assert len(reports) == DEVICES


async def test_reports_that_fit_no_release_are_left_out(monitor: Monitor) -> None:
    digest = monitor.add_release()
    malformed = monitor.batch(digest, 16)
    for report in malformed.batch.reports:
        report.inputs.pop()
    for telemetry in (malformed, monitor.batch("", 16), monitor.batch(f"sha256:{'0' * 64}", 16)):
        assert await monitor.hear(telemetry) == []
    assert store.load_reports(monitor.tx, "watches", digest) == ([], [])
    labels = {"project": "watches", "outcome": "malformed"}
    assert REGISTRY.get_sample_value("edgeloop_drift_reports_total", labels) == DEVICES


async def test_retraining_is_requested_with_the_alarm_when_the_data_is_there(monitor: Monitor) -> None:
    digest = monitor.add_release()
    assert await monitor.add_data("left.npz", 120) == []
    detected, requested = await monitor.see(digest, centre=24, batches=4)
    assert isinstance(detected, DriftDetected)
    assert isinstance(requested, RetrainingRequested)
    assert (requested.digest, requested.production) == (digest, (blob("left.npz"),))
    assert {emission.run_id for emission in monitor.said} == {requested.drift_id} == {detected.drift_id}


async def test_retraining_is_requested_as_soon_as_the_data_arrives(monitor: Monitor) -> None:
    digest = monitor.add_release()
    await monitor.see(digest, centre=24, batches=4)
    assert await monitor.add_data("a.npz", 60) == []
    assert await monitor.add_data("a.npz", 60) == [], "the same file counts once"
    assert await monitor.add_data("synthetic.npz", 999, DatasetRole.SYNTHETIC) == []
    (requested,) = await monitor.add_data("b.npz", 40)
    assert isinstance(requested, RetrainingRequested)
    assert requested.production == (blob("a.npz"), blob("b.npz"))
    assert await monitor.add_data("b.npz", 40) == []
    assert await monitor.add_data("c.npz", 50) == [], "fewer new rows than a retraining needs"
    (again,) = await monitor.add_data("d.npz", 50)
    assert isinstance(again, RetrainingRequested)
    assert len(again.production) == 4


async def test_the_retrained_release_keeps_what_it_has_learnt(monitor: Monitor) -> None:
    first = monitor.add_release()
    await monitor.see(first, centre=24, batches=4)
    await monitor.add_data("left.npz", 120)
    second = monitor.add_release(2, production=(blob("left.npz"),))
    await monitor.succeed(second)
    assert await monitor.add_data("ankle.npz", 500) == [], "the drift of the first release is over"
    _, requested = await monitor.see(second, centre=8, batches=4)
    assert isinstance(requested, RetrainingRequested)
    assert (requested.digest, requested.production) == (second, (blob("left.npz"), blob("ankle.npz")))


async def test_the_last_devices_on_an_older_release_are_not_listened_to(monitor: Monitor) -> None:
    first, second = monitor.add_release(1), monitor.add_release(2)
    await monitor.see(first, centre=16)
    await monitor.succeed(first)
    await monitor.succeed(second)
    assert await monitor.see(first, centre=24, batches=10) == []


async def test_a_fleet_that_returns_to_a_release_can_drift_again(monitor: Monitor) -> None:
    first, second = monitor.add_release(1), monitor.add_release(2)
    await monitor.see(first, centre=24, batches=4)
    await monitor.succeed(second)
    await monitor.succeed(first)
    (detected,) = await monitor.see(first, centre=24, batches=4)
    assert isinstance(detected, DriftDetected)
    assert detected.drift_id == drift_id_of("watches", first, 2)


async def test_a_rollout_that_succeeds_again_does_not_end_a_drift(monitor: Monitor) -> None:
    digest = monitor.add_release()
    await monitor.see(digest, centre=24, batches=4)
    await monitor.succeed(digest)
    assert await monitor.see(digest, centre=24, batches=4) == []
    assert len(await monitor.add_data("left.npz", 100)) == 1
