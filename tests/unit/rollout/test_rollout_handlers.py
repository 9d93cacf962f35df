"""The rollout controller's handlers on a real database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, create_engine

from services.rollout_controller import store
from services.rollout_controller.handlers import Deps, judge_install, learn_device, start_rollout, watch_the_clock
from shared.events import Event, Payload, envelop
from shared.events.device import DeviceReported, DeviceState, InstallObserved, InstallOutcome, InstallRelease
from shared.events.lab import BoardClass, CandidateAccepted
from shared.events.rollout import RolloutFailed, RolloutSucceeded
from shared.releases.release import Release
from shared.runtime.handlers import Handler, InRun
from tests.unit.rollout.releases import MemoryBlobs, release
from tests.unit.rollout.world import BOARDS, START


@dataclass
class Controller:
    """Handlers as the runtime calls them, each in the open transaction."""

    tx: Connection
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    now = START
    orders: list[InstallRelease] = field(default_factory=list)
    events: list[tuple[UUID, Payload]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.started()

    def started(self) -> None:
        self.deps = Deps(self.blobs, lambda: self.now)

    def event(self, payload: Payload, run_id: UUID | None = None) -> Event[Payload]:
        return envelop(payload, event_id=uuid4(), source="t", time=self.now, correlation_id=run_id or uuid4())

    async def handle(self, handler: Handler, event: Event[Payload]) -> None:
        self.keep(await handler.call(event, self.deps, self.tx))

    def keep(self, emissions: Sequence[object]) -> None:
        for emission in emissions:
            assert isinstance(emission, InRun), "a rollout's events belong to the run that built its release"
            if isinstance(emission.payload, InstallRelease):
                self.orders.append(emission.payload)
            self.events.append((emission.run_id, emission.payload))

    async def wait(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += timedelta(seconds=1)
            self.keep(await watch_the_clock.call(self.now, self.deps, self.tx))

    async def accept(self, candidate: Release, run_id: UUID | None = None) -> str:
        digest = self.blobs.put_release(candidate)
        accepted = CandidateAccepted(project=candidate.project, digest=digest, boards=())
        await self.handle(start_rollout, self.event(accepted, run_id))
        return digest

    async def report(self, device: int, project: str = "watches") -> None:
        reported = DeviceReported(
            project=project,
            device=f"watch-{device}",
            gateway=f"rack-{device % 2}",
            board=BOARDS[device % 3],
            board_class=BoardClass.VIRTUAL,
            state=DeviceState.CONFIRMED,
            image_hash="F" * 64,
            version="0.9.0",
            observed_at=self.now,
        )
        await self.handle(learn_device, self.event(reported))

    async def answer(self, order: InstallRelease, outcome: InstallOutcome = InstallOutcome.VERIFIED) -> None:
        verified = outcome is InstallOutcome.VERIFIED
        observed = InstallObserved(
            project=order.project,
            rollout_id=order.rollout_id,
            device=order.device,
            gateway=order.receiver,
            outcome=outcome,
            wanted=order.digest,
            observed=order.digest if verified else None,
            observed_hash=order.image_hash if verified else "",
            confirmed=verified,
            fencing_token=order.fencing_token,
            seconds=1,
        )
        await self.handle(judge_install, self.event(observed))

    async def obey(self) -> None:
        for order in self.orders:  # grows while it is walked
            await self.answer(order)

    def types(self) -> list[str]:
        return [type(payload).__name__ for _, payload in self.events if not isinstance(payload, InstallRelease)]


@pytest.fixture
def tx(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path}/state.db")
    store.METADATA.create_all(engine)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


@pytest.fixture
async def controller(tx: Connection) -> Controller:
    controller = Controller(tx)
    for device in range(6):
        await controller.report(device)
    controller.now += timedelta(seconds=5)
    return controller


async def test_an_order_says_all_that_a_gateway_needs(controller: Controller) -> None:
    candidate = release(1)
    digest = await controller.accept(candidate)
    order = controller.orders[0]
    device = int(order.device.removeprefix("watch-"))
    firmware = candidate.firmware_for(BOARDS[device % 3])
    assert firmware is not None
    assert order.receiver == f"rack-{device % 2}"
    assert (order.digest, order.image, order.image_hash) == (digest, firmware.image, firmware.image_hash)
    assert (order.version, order.golden) == ("1.0.0+1", candidate.golden)
    assert (order.fencing_token, order.deadline_s) == (1, 120)


async def test_a_rollout_survives_in_sql_from_event_to_event(controller: Controller) -> None:
    run = uuid4()
    await controller.accept(release(1), run)
    await controller.obey()
    assert controller.types() == ["RolloutStarted", *["RolloutStageCompleted"] * 2, "RolloutSucceeded"]
    assert {run_id for run_id, _ in controller.events} == {run}
    assert {order.device for order in controller.orders} == {f"watch-{device}" for device in range(6)}


async def test_a_repeated_push_installs_nothing(controller: Controller) -> None:
    await controller.accept(release(1))
    await controller.obey()
    ordered, again = len(controller.orders), uuid4()
    await controller.accept(release(1), again)
    assert len(controller.orders) == ordered
    run, succeeded = controller.events[-1]
    assert isinstance(succeeded, RolloutSucceeded)
    assert (run, succeeded.devices) == (again, 6)


async def test_the_first_release_goes_back_to_the_second_slot(controller: Controller) -> None:
    await controller.accept(release(1))
    good, bad = controller.orders
    await controller.answer(good)
    await controller.answer(bad, InstallOutcome.LOST)
    back = controller.orders[-2:]
    assert {(order.digest, order.image, order.golden) for order in back} == {(None, None, None)}
    assert {(order.image_hash, order.version, order.fencing_token) for order in back} == {("f" * 64, "0.9.0", 2)}
    for order in back:
        await controller.answer(order)
    assert controller.types()[-2:] == ["RolloutFailed", "RolloutRolledBack"]


async def test_a_later_release_goes_back_to_the_image_before_without_the_object_store(controller: Controller) -> None:
    first = release(1)
    digest = await controller.accept(first)
    await controller.obey()
    await controller.accept(release(2))
    controller.blobs.stored.clear()
    good, bad = controller.orders[-2:]
    await controller.answer(good)
    await controller.answer(bad, InstallOutcome.REVERTED)
    back = next(order for order in controller.orders[-2:] if order.device == good.device)
    firmware = first.firmware_for(BOARDS[int(good.device.removeprefix("watch-")) % 3])
    assert firmware is not None
    assert (back.digest, back.image, back.version) == (digest, firmware.image, firmware.version)
    assert back.golden == first.golden


async def test_deadlines_are_kept_by_the_timer(controller: Controller) -> None:
    await controller.wait(1)
    await controller.accept(release(1, rollout={"install_deadline_s": 20}))
    await controller.wait(29)
    assert controller.types() == ["RolloutStarted"]
    await controller.wait(2)
    assert isinstance(controller.events[1 + 2][1], RolloutFailed)


async def test_after_a_start_answers_have_the_time_to_be_delivered_again(controller: Controller) -> None:
    await controller.wait(1)
    await controller.accept(release(1, rollout={"install_deadline_s": 20}))
    await controller.wait(28)
    controller.started()
    await controller.wait(40)
    assert controller.types() == ["RolloutStarted"]
    await controller.obey()
    assert controller.types()[-1] == "RolloutSucceeded"


async def test_superseding_ends_one_run_and_begins_another(controller: Controller) -> None:
    first, second = uuid4(), uuid4()
    await controller.accept(release(1), first)
    await controller.accept(release(2), second)
    runs = [run for run, payload in controller.events if not isinstance(payload, InstallRelease)]
    assert controller.types() == ["RolloutStarted", "RolloutSuperseded", "RolloutStarted"]
    assert runs == [first, first, second]
    tokens = {order.device: order.fencing_token for order in controller.orders}
    assert set(tokens.values()) == {2}


async def test_projects_do_not_see_each_other(controller: Controller) -> None:
    await controller.report(0, project="gloves")
    await controller.wait(5)
    await controller.accept(release(1))
    await controller.accept(release(1).model_copy(update={"project": "gloves"}))
    assert [order.device for order in controller.orders if order.project == "gloves"] == ["watch-0"]
    await controller.obey()
    assert controller.types().count("RolloutSucceeded") == 2


async def test_a_device_that_joins_later_is_brought_to_the_release(controller: Controller) -> None:
    await controller.accept(release(1))
    await controller.obey()
    await controller.report(6)
    await controller.wait(5)
    assert controller.orders[-1].device == "watch-6"
    await controller.answer(controller.orders[-1])
    assert controller.types()[-1] == "RolloutSucceeded"
    assert store.open_projects(controller.tx) == []
