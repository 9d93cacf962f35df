"""The gateway's whole flow against virtual boards, without a bus: the command in, what was observed out."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from device_gateway.gateway import Unit
from device_gateway.polling import look_at_boards
from device_gateway.virtual.board import Fault
from device_gateway.virtual.provisioning import factory_key
from shared.bus import PublishError
from shared.events import Blob
from shared.events.device import DeviceReported, DeviceState, GoldenVector, InstallOutcome
from tests.support import eventually

from .conftest import RELEASE, Image, MakeImage, OpenRack


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
    for token, patience_s in enumerate((0.01, 0.03, 0.1, 0.2, 0.3), start=1):
        image = make_image(f"1.0.{token}", padding=60_000)
        order = rack.order(image, fencing_token=token)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(rack.install(order), patience_s)
        blobs, rack = rack.blobs, await open_rack()
        rack.blobs.update(blobs)
        observed, _ = await rack.install(order)
        assert observed.outcome is InstallOutcome.VERIFIED, observed.detail


@pytest.mark.parametrize("killed_after_s", [0.05, 0.15, 0.22])
async def test_a_gateway_that_was_killed_while_a_reset_was_under_way_does_not_reset_the_trial_away(
    open_rack: OpenRack, make_image: MakeImage, caplog: pytest.LogCaptureFixture, killed_after_s: float
) -> None:
    caplog.set_level(logging.INFO, "device_gateway.install")
    rack, image = await open_rack(), make_image()
    order = rack.order(image)
    installing = asyncio.ensure_future(rack.install(order))
    await eventually(lambda: "begin-trial" in caplog.text)
    await asyncio.sleep(killed_after_s)  # the board has been asked, and resets a quarter of a second after its answer
    installing.cancel()
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


async def test_what_an_installation_reported_meanwhile_is_not_overwritten_by_an_older_look(open_rack: OpenRack) -> None:
    rack = await open_rack(count=2)
    rack.host.boards["board-1"].inject(Fault.HANG, seconds=60)
    looking = asyncio.create_task(look_at_boards(rack.gateway))
    session = rack.gateway.sessions["board-0"]
    while session.sighting is None:  # noqa: ASYNC110 - nothing announces it
        await asyncio.sleep(0.01)
    newer = session.sighting = replace(session.sighting, image_hash="ab" * 32, said_at=session.sighting.answered_at)
    await looking
    assert session.sighting is newer
    assert [report.device for report in rack.said if isinstance(report, DeviceReported)] == []


async def test_a_bus_that_is_away_neither_ends_the_watch_nor_has_states_said_twice(open_rack: OpenRack) -> None:
    rack = await open_rack()

    @asynccontextmanager
    async def committed_but_not_published() -> AsyncIterator[Unit]:
        async with rack.gateway.unit() as unit:
            yield unit
        raise PublishError("the server is out of reach")

    away = replace(rack.gateway, unit=committed_but_not_published)
    await look_at_boards(away)
    await look_at_boards(away)
    assert len(rack.said) == 1


async def test_many_boards_are_updated_at_once(open_rack: OpenRack, make_image: MakeImage) -> None:
    rack, image = await open_rack(count=8), make_image(padding=30_000)
    ends = await asyncio.gather(*(rack.install(rack.order(image, device=f"board-{n}")) for n in range(8)))
    assert {observed.outcome for observed, _ in ends} == {InstallOutcome.VERIFIED}
    assert {row["image_hash"] for row in rack.host.describe()} == {image.hash}
