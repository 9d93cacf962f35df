"""The gateway's whole flow against virtual boards, without a bus: the command in, what was observed out."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from device_gateway.config import DeviceEntry, GatewayConfig
from device_gateway.gateway import Gateway
from device_gateway.handlers import install_release
from device_gateway.images import load_public_key
from device_gateway.polling import look_at_boards
from device_gateway.sessions import open_sessions
from device_gateway.settings import Settings
from device_gateway.store import METADATA
from device_gateway.virtual.board import Fault
from device_gateway.virtual.host import Host
from device_gateway.virtual.provisioning import factory_key
from shared.events import Blob, Payload, envelop
from shared.events.device import (
    DeviceReported,
    DeviceState,
    GoldenVector,
    InstallObserved,
    InstallOutcome,
    InstallRelease,
)
from shared.runtime import Transaction
from shared.runtime.handlers import Emission, Emissions, InRun
from shared.store import BlobMissingError, Store, digest_of
from shared.telemetry import TelemetryBatch

from .conftest import Image, Keys, MakeImage, StartHost

RELEASE = "sha256:" + "a" * 64


@dataclass(frozen=True)
class _Unit:
    tx: Transaction
    emit: Callable[[Emissions, UUID, UUID], None]


@dataclass
class Rack:
    """A gateway with its boards, a blob store in memory and a record of what it said."""

    gateway: Gateway
    host: Host
    blobs: dict[str, bytes] = field(default_factory=dict)
    said: list[Payload] = field(default_factory=list)

    def order(self, image: Image | None, *, image_hash: str = "", **changes: object) -> InstallRelease:
        blob = None
        if image is not None:
            self.blobs[digest_of(image.data)] = image.data
            blob = Blob(digest=digest_of(image.data), size_bytes=len(image.data), media_type="application/octet-stream")
        fields: dict[str, object] = {
            "project": "demo",
            "receiver": "rack-1",
            "rollout_id": uuid4(),
            "device": "board-0",
            "digest": RELEASE if image else None,
            "image": blob,
            "image_hash": image.hash if image else image_hash,
            "version": "1.0.0",
            "fencing_token": 1,
            "deadline_s": 20.0,
        }
        return InstallRelease.model_validate(fields | changes)

    async def install(self, order: InstallRelease) -> tuple[InstallObserved, list[DeviceReported]]:
        event = envelop(order, event_id=uuid4(), source="test", time=datetime.now(UTC), correlation_id=uuid4())
        emissions: list[Emission] = list(await install_release.call(event, self.gateway))
        observed, *reports = emissions
        assert isinstance(observed, InstallObserved)
        return observed, cast("list[DeviceReported]", reports)


OpenRack = Callable[..., Awaitable[Rack]]


@pytest.fixture
async def open_rack(start_host: StartHost, release_key: Keys, tmp_path: Path) -> AsyncIterator[OpenRack]:
    """Open a gateway beside its boards; a second call is the gateway started again on the same database."""
    async with AsyncExitStack() as stack:
        hosts: list[Host] = []

        async def start(**changes: object) -> Rack:
            if not hosts:
                hosts.append(await start_host(**cast("Any", changes)))
            host = hosts[0]
            entries = tuple(
                DeviceEntry.model_validate({key: row[key] for key in ("id", "board", "driver", "address")})
                for row in host.describe()
            )
            store = Store(f"sqlite:///{tmp_path / 'gateway.db'}", METADATA)
            stack.callback(store.close)
            blobs: dict[str, bytes] = {}
            said: list[Payload] = []

            @asynccontextmanager
            async def unit() -> AsyncIterator[_Unit]:
                def emit(emissions: Emissions, _cause: UUID, _run: UUID) -> None:
                    said.extend(e.payload if isinstance(e, InRun) else e for e in emissions)

                async with store.transaction() as tx:
                    yield _Unit(tx, emit)

            async def fetch(digest: str) -> bytes:
                if digest not in blobs:
                    raise BlobMissingError(f"no object {digest}")
                return blobs[digest]

            async def publish(_: TelemetryBatch) -> bool:
                return False

            gateway = Gateway(
                settings=Settings(gateway_config=tmp_path / "gateway.yaml", lost_after_s=0.5),
                config=GatewayConfig(gateway="rack-1", project="demo", devices=entries),
                sessions=open_sessions(entries),
                keys=(load_public_key(release_key.public),),
                fetch=fetch,
                unit=unit,
                publish=publish,
            )
            for session in gateway.sessions.values():
                stack.push_async_callback(session.driver.close)
            return Rack(gateway, host, blobs, said)

        yield start


async def test_an_order_ends_verified_with_the_image_running_and_confirmed(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack, image = await open_rack(), make_image("1.2.3+9")
    observed, (report,) = await rack.install(rack.order(image))
    assert observed.outcome is InstallOutcome.VERIFIED, observed.detail
    assert (observed.observed, observed.observed_hash, observed.confirmed) == (RELEASE, image.hash, True)
    assert (report.state, report.digest, report.version) == (DeviceState.CONFIRMED, RELEASE, "1.2.3+9")
    again, _ = await rack.install(rack.order(image))
    assert again.outcome is InstallOutcome.VERIFIED
    assert again.seconds >= observed.seconds, "a repeat of the same order began when the first did"


async def test_an_image_that_fails_its_smoke_test_is_reverted_and_reported(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack, image = await open_rack(), make_image()
    before = rack.host.describe()[0]["image_hash"]
    golden = GoldenVector(input=b"\x01", output=b"\x02")
    observed, (report,) = await rack.install(rack.order(image, golden=golden))
    assert observed.outcome is InstallOutcome.REVERTED
    assert "smoke test" in observed.detail
    assert (observed.observed_hash, observed.observed, observed.confirmed) == (before, None, True)
    assert (report.state, report.image_hash) == (DeviceState.CONFIRMED, before)


async def test_an_image_that_crashes_in_trial_is_reported_as_reverted(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack, image = await open_rack(), make_image()
    rack.host.boards["board-0"].inject(Fault.REVERT_NEXT)
    observed, _ = await rack.install(rack.order(image))
    assert observed.outcome is InstallOutcome.REVERTED
    assert "did not survive its trial" in observed.detail


@pytest.mark.parametrize("operations", [0, 4, 9, 14])
async def test_a_power_cut_in_the_middle_costs_time_only(
    open_rack: OpenRack, make_image: MakeImage, operations: int
) -> None:
    rack, image = await open_rack(), make_image(padding=12_000)
    rack.host.boards["board-0"].inject(Fault.POWER_CUT, operations=operations)
    observed, _ = await rack.install(rack.order(image))
    assert observed.outcome is InstallOutcome.VERIFIED, observed.detail


async def test_a_gateway_that_was_killed_anywhere_goes_on_where_the_board_is(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack = await open_rack()
    for token, patience_s in enumerate((0.02, 0.1, 0.3, 0.6), start=1):
        image = make_image(f"1.0.{token}", padding=60_000)
        order = rack.order(image, fencing_token=token)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(rack.install(order), patience_s if token < 4 else 0.3)
        blobs, rack = rack.blobs, await open_rack()
        rack.blobs.update(blobs)
        observed, _ = await rack.install(order)
        assert observed.outcome is InstallOutcome.VERIFIED, observed.detail


async def test_a_lower_fencing_token_is_refused_also_after_a_restart(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack, old, new = await open_rack(), make_image("1.0.0"), make_image("2.0.0")
    await rack.install(rack.order(new, fencing_token=7))
    rack = await open_rack()
    observed, reports = await rack.install(rack.order(old, fencing_token=6))
    assert observed.outcome is InstallOutcome.REFUSED
    assert "older than 7" in observed.detail
    assert reports == []
    assert rack.host.describe()[0]["image_hash"] == new.hash


async def test_a_rollback_without_an_image_swaps_back_to_the_second_slot(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack, image = await open_rack(), make_image()
    factory = str(rack.host.describe()[0]["image_hash"])
    await rack.install(rack.order(image))
    back, (report,) = await rack.install(rack.order(None, image_hash=factory, fencing_token=2))
    assert back.outcome is InstallOutcome.VERIFIED, back.detail
    assert (report.image_hash, report.digest) == (factory, None)
    elsewhere, _ = await rack.install(rack.order(None, image_hash="ab" * 32, fencing_token=3))
    assert elsewhere.outcome is InstallOutcome.REFUSED
    assert "brings no image" in elsewhere.detail


async def test_what_must_not_run_on_the_board_is_refused_before_a_byte_is_sent(
    open_rack: OpenRack, make_image: MakeImage, tmp_path: Path
) -> None:
    board = "cortex-m0plus"
    rack = await open_rack(board=board)
    factory_key(tmp_path / "stranger.pem")
    good, foreign = make_image(board=board), make_image(board="cortex-m4")
    forged = make_image(board=board, key=tmp_path / "stranger.pem", padding=99)
    damaged = Image(good.data[:600] + b"\x55" + good.data[601:], good.parsed)
    orders = {
        "no trusted key": rack.order(forged),
        "damaged": rack.order(damaged),
        "for another board": rack.order(foreign),
        "the order says": rack.order(good).model_copy(update={"image_hash": "00" * 32}),
        "no object": rack.order(good).model_copy(
            update={"image": Blob(digest=RELEASE, size_bytes=1, media_type="application/octet-stream")}
        ),
        "no device": rack.order(good, device="board-9"),
    }
    for reason, order in orders.items():
        observed, _ = await rack.install(order)
        assert observed.outcome is InstallOutcome.REFUSED, reason
        assert reason in observed.detail
    assert len(rack.host.boards["board-0"].image_states()) == 1


async def test_a_board_of_another_kind_than_configured_is_refused(open_rack: OpenRack, make_image: MakeImage) -> None:
    rack = await open_rack(board="cortex-m4")
    session = rack.gateway.sessions["board-0"]
    session.entry = session.entry.model_copy(update={"board": "cortex-m7"})
    observed, _ = await rack.install(rack.order(make_image()))
    assert observed.outcome is InstallOutcome.REFUSED
    assert "says it is a cortex-m4" in observed.detail


async def test_a_silent_board_is_lost_at_the_deadline(open_rack: OpenRack, make_image: MakeImage) -> None:
    rack = await open_rack()
    rack.host.boards["board-0"].inject(Fault.HANG, seconds=60)
    observed, reports = await rack.install(rack.order(make_image(), deadline_s=1.0))
    assert observed.outcome is InstallOutcome.LOST
    assert (observed.observed_hash, reports) == ("", [])


async def test_states_are_reported_when_they_change_and_when_the_board_goes_silent(
    open_rack: OpenRack, make_image: MakeImage
) -> None:
    rack = await open_rack(count=2)
    await look_at_boards(rack.gateway)
    await look_at_boards(rack.gateway)
    assert [report.device for report in rack.said if isinstance(report, DeviceReported)] == ["board-0", "board-1"]
    await rack.install(rack.order(make_image()))
    await look_at_boards(rack.gateway)
    assert len(rack.said) == 2, "the installation reported by itself"
    rack.host.boards["board-1"].inject(Fault.HANG, seconds=60)
    await look_at_boards(rack.gateway)
    await look_at_boards(rack.gateway)
    lost = rack.said[-1]
    assert isinstance(lost, DeviceReported)
    assert (lost.device, lost.state) == ("board-1", DeviceState.LOST)


async def test_many_boards_are_updated_at_once(open_rack: OpenRack, make_image: MakeImage) -> None:
    rack, image = await open_rack(count=8), make_image(padding=30_000)
    ends = await asyncio.gather(*(rack.install(rack.order(image, device=f"board-{n}")) for n in range(8)))
    assert {observed.outcome for observed, _ in ends} == {InstallOutcome.VERIFIED}
    assert {row["image_hash"] for row in rack.host.describe()} == {image.hash}
