"""smpclient against virtual boards over real UDP."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from smp.error import MGMT_ERR
from smpclient.generics import success
from smpclient.requests.os_management import DateTimeRead, EchoWrite, MCUMgrParametersRead

from device_gateway.drivers import DeviceRefusedError, DeviceSilentError
from device_gateway.drivers.smp_udp import SmpUdpDriver
from device_gateway.virtual.board import Fault
from device_gateway.virtual.bootloader import NothingBootableError
from device_gateway.virtual.host import Host, running_host
from device_gateway.virtual.provisioning import factory_key
from device_gateway.virtual.settings import VirtualConfig
from shared.events.lab import BoardClass

from .conftest import Image, Keys, MakeImage, StartHost

DriverOf = Callable[[Host, str], SmpUdpDriver]


async def upload(driver: SmpUdpDriver, image: Image) -> list[int]:
    return [offset async for offset in driver.upload(image.data)]


async def reset_and_wait(driver: SmpUdpDriver) -> None:
    await driver.reset()
    await asyncio.sleep(0.4)


async def active_hash(driver: SmpUdpDriver) -> tuple[str, bool]:
    slot = next(slot for slot in await driver.read_state() if slot.active)
    return slot.image_hash, slot.confirmed


async def test_a_board_says_who_it_is(start_host: StartHost, driver_of: DriverOf) -> None:
    driver = driver_of(await start_host(), "board-0")
    identity = await driver.identify()
    assert (identity.board, identity.board_class) == ("cortex-m4", BoardClass.VIRTUAL)
    (slot,) = await driver.read_state()
    assert (slot.version, slot.active, slot.confirmed) == ("0.0.0", True, True)


async def test_a_board_speaks_mcumgrs_os_group(start_host: StartHost, driver_of: DriverOf) -> None:
    driver = driver_of(await start_host(), "board-0")
    await driver.read_state()
    echo = await driver._client.request(EchoWrite(d="hello"))
    assert success(echo)
    assert echo.r == "hello"
    parameters = await driver._client.request(MCUMgrParametersRead())
    assert success(parameters)
    assert parameters.buf_count == 4
    unsupported = await driver._client.request(DateTimeRead())
    assert unsupported.rc is MGMT_ERR.ENOTSUP  # type: ignore[union-attr]


async def test_upload_test_reset_trial_confirm(
    start_host: StartHost, driver_of: DriverOf, make_image: MakeImage
) -> None:
    driver, image = driver_of(await start_host(), "board-0"), make_image("1.2.3+77")
    offsets = await upload(driver, image)
    assert offsets[-1] == len(image.data)
    await driver.test(image.hash)
    await driver.test(image.hash)
    await reset_and_wait(driver)
    assert await active_hash(driver) == (image.hash, False)
    await driver.confirm(image.hash)
    await reset_and_wait(driver)
    assert await active_hash(driver) == (image.hash, True)
    assert (await driver.read_state())[0].version == "1.2.3+77"
    await driver.test(image.hash)  # It already runs: nothing to do.


async def test_an_unconfirmed_image_reverts(start_host: StartHost, driver_of: DriverOf, make_image: MakeImage) -> None:
    driver, image = driver_of(await start_host(), "board-0"), make_image()
    before = await active_hash(driver)
    await upload(driver, image)
    await driver.test(image.hash)
    await reset_and_wait(driver)
    await reset_and_wait(driver)
    assert await active_hash(driver) == before


async def test_an_image_signed_by_a_stranger_is_refused_by_the_bootloader(
    start_host: StartHost, driver_of: DriverOf, make_image: MakeImage, tmp_path: Path
) -> None:
    driver = driver_of(await start_host(), "board-0")
    factory_key(tmp_path / "stranger.pem")
    forged = make_image(key=tmp_path / "stranger.pem")
    before = await active_hash(driver)
    await upload(driver, forged)
    await driver.test(forged.hash)
    await reset_and_wait(driver)
    assert await active_hash(driver) == before
    assert len(await driver.read_state()) == 1


async def test_an_upload_goes_on_after_a_power_cut_in_the_middle_of_a_write(
    start_host: StartHost, driver_of: DriverOf, make_image: MakeImage
) -> None:
    host, image = await start_host(), make_image(padding=20_000)
    driver = driver_of(host, "board-0")
    # 6 sectors to erase and 7 chunks of about 1400 bytes, the last one torn.
    host.boards["board-0"].inject(Fault.POWER_CUT, operations=6 + 1 + 7)
    # The driver repeats the chunk that had no answer; the board is back by then and says where to go on.
    offsets = await upload(driver, image)
    assert offsets == sorted(offsets)
    assert offsets[-1] == len(image.data)
    assert host.boards["board-0"].flash.cut_after is None
    assert image.hash in {slot.image_hash for slot in await driver.read_state()}


async def test_an_upload_that_was_given_up_resumes_by_its_hash(
    start_host: StartHost, driver_of: DriverOf, make_image: MakeImage
) -> None:
    host, image = await start_host(), make_image(padding=20_000)
    driver = driver_of(host, "board-0")
    async for offset in driver.upload(image.data):
        if offset > 9000:
            break
    host.boards["board-0"].inject(Fault.POWER_CUT)
    await asyncio.sleep(0.3)
    resumed = await upload(driver_of(host, "board-0"), image)
    assert resumed[0] > 9000
    assert resumed[-1] == len(image.data)


async def test_confirming_another_image_than_the_running_one_is_refused(
    start_host: StartHost, driver_of: DriverOf, make_image: MakeImage
) -> None:
    driver, image = driver_of(await start_host(), "board-0"), make_image()
    await upload(driver, image)
    with pytest.raises(DeviceRefusedError, match="not the running one"):
        await driver.confirm(image.hash)


async def test_firmware_without_a_model_infers_nothing(start_host: StartHost, driver_of: DriverOf) -> None:
    driver = driver_of(await start_host(), "board-0")
    with pytest.raises(DeviceRefusedError, match="NO_MODEL"):
        await driver.infer(b"\x00" * 3000)
    assert await driver.read_telemetry(0) is None


async def test_a_hung_board_is_silent_and_comes_back(start_host: StartHost, driver_of: DriverOf) -> None:
    host = await start_host()
    driver = driver_of(host, "board-0")
    host.boards["board-0"].inject(Fault.HANG, seconds=1.3)
    with pytest.raises(DeviceSilentError, match="no answer"):
        await driver.read_state()
    await asyncio.sleep(0.5)
    assert await driver.read_state()


async def test_garbage_gets_no_answer_and_does_no_harm(start_host: StartHost, driver_of: DriverOf) -> None:
    host = await start_host()
    port = host.ports["board-0"]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=("127.0.0.1", port)
    )
    for garbage in (b"", b"\x00", b"\xff" * 8, b"\x0a\x00\x00\x03\x00\x01\x00\x01\xff\xff\xff", bytes(1400)):
        transport.sendto(garbage)
    transport.close()
    assert await driver_of(host, "board-0").read_state()


async def test_a_board_keeps_its_port_and_its_image_when_the_process_starts_again(
    tmp_path: Path, release_key: Keys, driver_of: DriverOf, make_image: MakeImage
) -> None:
    config = VirtualConfig.model_validate(
        {
            "project": "demo",
            "boards": [{"id": "board-0", "board": "cortex-m4"}],
            "flash": tmp_path / "flash",
            "state": tmp_path / "state.json",
            "verify_key": release_key.public,
        }
    )
    image = make_image()
    async with running_host(config) as host:
        port = host.ports["board-0"]
        driver = driver_of(host, "board-0")
        await upload(driver, image)
        await driver.test(image.hash)
        await reset_and_wait(driver)
        await driver.confirm(image.hash)
        await driver.close()
    async with running_host(config) as host:
        assert host.ports["board-0"] == port
        assert await active_hash(driver_of(host, "board-0")) == (image.hash, True)


async def test_boards_whose_release_key_was_replaced_say_what_to_do(
    tmp_path: Path, release_key: Keys, driver_of: DriverOf, make_image: MakeImage
) -> None:
    config = VirtualConfig.model_validate(
        {
            "project": "demo",
            "boards": [{"id": "board-0", "board": "cortex-m4"}],
            "flash": tmp_path / "flash",
            "state": tmp_path / "state.json",
            "verify_key": release_key.public,
        }
    )
    image = make_image()
    async with running_host(config) as host:
        driver = driver_of(host, "board-0")
        await upload(driver, image)
        await driver.test(image.hash)
        await reset_and_wait(driver)
        await driver.confirm(image.hash)
    with pytest.raises(NothingBootableError, match=r"flash/board-0.*remove the directory"):
        async with running_host(config.model_copy(update={"verify_key": None})):
            pass
