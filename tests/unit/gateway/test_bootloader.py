"""Whatever is done to a board and whenever its power goes, it runs a verified image and keeps what was confirmed."""

import hashlib
import itertools
import struct

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from smp.image_management import IMG_MGMT_ERR

from device_gateway.images import ImageError, parse_image
from device_gateway.virtual.bootloader import (
    Bootloader,
    Decision,
    SwapType,
    Trailer,
    decide,
    read_trailer,
)
from device_gateway.virtual.flash import SECTOR_BYTES, Area, Flash, FlashError, PowerCutError
from device_gateway.virtual.slots import ImageRefusedError, Slots
from shared.emulation.mcuboot_image import McubootImage

SLOT_BYTES = 4 * SECTOR_BYTES
_BAD_SIGNATURE = b"bad"


def make_image(seed: int, sectors: int = 1, *, good: bool = True) -> bytes:
    """A minimal MCUboot image; its `signature` is a word here, as signatures have their own tests."""
    payload = bytes((seed * 7 + i) & 0xFF for i in range(sectors * SECTOR_BYTES - 300))
    header = struct.pack("<IIHHIIBBHI4x", 0x96F3B83D, 0, 32, 0, len(payload), 0, seed & 0xFF, 0, 0, 0)
    digest = hashlib.sha256(header + payload).digest()
    signature = b"good" if good else _BAD_SIGNATURE
    tlvs = struct.pack("<HH", 0x10, 32) + digest + struct.pack("<HH", 0x24, len(signature)) + signature
    return header + payload + struct.pack("<HH", 0x6907, 4 + len(tlvs)) + tlvs


def verify(slot: bytes) -> McubootImage | None:
    try:
        image = parse_image(slot)
    except ImageError:
        return None
    return image if image.signature == b"good" else None


def hash_of(image: bytes) -> str:
    return parse_image(image).image_hash


def factory_board(image: bytes) -> Flash:
    flash = Flash(SLOT_BYTES)
    flash.write(Area.SLOT0, 0, image)
    return flash


def upload(slots: Slots, image: bytes, chunk: int = 1400) -> bool | None:
    sha = hashlib.sha256(image).digest()
    offset, match = slots.upload(0, image[:chunk], length=len(image), sha=sha)
    while offset != len(image):
        offset, match = slots.upload(offset, image[offset : offset + chunk], length=None, sha=None)
    return match


def test_flash_cannot_set_bits_without_an_erase() -> None:
    flash = Flash(SLOT_BYTES)
    flash.write(Area.SLOT0, 0, b"\x0f")
    with pytest.raises(FlashError, match="not erased"):
        flash.write(Area.SLOT0, 0, b"\xf0")
    flash.write(Area.SLOT0, 0, b"\x07")
    with pytest.raises(FlashError, match="leave its"):
        flash.write(Area.SLOT0, SLOT_BYTES - 1, b"\x00\x00")


def trailer(fields: str) -> Trailer:
    return Trailer(
        valid="valid" in fields,
        swap_type=SwapType.TEST,
        swap_sectors=1,
        copy_done="copy_done" in fields,
        image_ok="image_ok" in fields,
    )


@pytest.mark.parametrize(
    ("primary", "secondary", "decision"),
    [
        ("", "", Decision.BOOT),
        ("", "valid", Decision.START_SWAP),
        ("valid", "", Decision.RESUME_SWAP),
        ("valid", "valid", Decision.RESUME_SWAP),
        ("valid copy_done", "", Decision.ORDER_REVERT),
        ("valid copy_done image_ok", "", Decision.BOOT),
        ("valid copy_done image_ok", "valid", Decision.START_SWAP),
        ("copy_done", "", Decision.BOOT),
    ],
)
def test_the_trailers_alone_decide(primary: str, secondary: str, decision: Decision) -> None:
    assert decide(trailer(primary), trailer(secondary)) is decision


def test_an_update_is_tested_then_confirmed_and_stays() -> None:
    old, new = make_image(1), make_image(2, sectors=3)
    flash = factory_board(old)
    slots, bootloader = Slots(flash, verify), Bootloader(flash, verify)
    assert bootloader.boot().image_hash == hash_of(old)
    assert upload(slots, new) is True
    slots.mark(hash_of(new))
    assert [state.pending for state in slots.states()] == [None, True]
    assert bootloader.boot().image_hash == hash_of(new)
    assert slots.is_trial
    assert [(state.active, state.confirmed) for state in slots.states()] == [(True, None), (None, True)]
    slots.confirm()
    for _ in range(3):
        assert bootloader.boot().image_hash == hash_of(new)
    assert flash.read(Area.SLOT1, 0, len(old)) == old


def test_an_update_that_nobody_confirms_reverts() -> None:
    old, new = make_image(1), make_image(2)
    flash = factory_board(old)
    slots, bootloader = Slots(flash, verify), Bootloader(flash, verify)
    upload(slots, new)
    slots.mark(hash_of(new))
    assert bootloader.boot().image_hash == hash_of(new)
    assert bootloader.boot().image_hash == hash_of(old)
    assert not slots.is_trial
    assert bootloader.boot().image_hash == hash_of(old)


def test_an_image_with_a_bad_signature_never_runs() -> None:
    old, forged = make_image(1), make_image(2, good=False)
    flash = factory_board(old)
    slots, bootloader = Slots(flash, verify), Bootloader(flash, verify)
    upload(slots, forged)
    slots.mark(hash_of(forged))
    assert bootloader.boot().image_hash == hash_of(old)
    assert not slots.is_pending
    assert len(slots.states()) == 1


def test_a_damaged_upload_is_noticed_and_not_listed() -> None:
    image = make_image(2)
    slots = Slots(factory_board(make_image(1)), verify)
    damaged = image[:100] + bytes([image[100] ^ 1]) + image[101:]
    slots.upload(0, damaged[:1000], length=len(image), sha=hashlib.sha256(image).digest())
    _, match = slots.upload(1000, damaged[1000:], length=None, sha=None)
    assert match is False
    assert len(slots.states()) == 1


def test_an_upload_resumes_where_it_stopped_and_repeats_are_harmless() -> None:
    image = make_image(2)
    sha = hashlib.sha256(image).digest()
    slots = Slots(factory_board(make_image(1)), verify)
    assert slots.upload(0, image[:1000], length=len(image), sha=sha) == (1000, None)
    assert slots.upload(1000, image[1000:1500], length=None, sha=None) == (1500, None)
    assert slots.upload(1000, image[1000:1500], length=None, sha=None) == (1500, None)
    assert slots.upload(0, image[:1000], length=len(image), sha=sha) == (1500, None)
    assert slots.upload(1500, image[1500:], length=None, sha=None) == (len(image), True)


@pytest.mark.parametrize(
    ("act", "rc"),
    [
        (lambda s, _: s.mark("00" * 32), IMG_MGMT_ERR.HASH_NOT_FOUND),
        (lambda s, _: s.mark(hash_of(make_image(1))), IMG_MGMT_ERR.IMAGE_SETTING_TEST_TO_ACTIVE_DENIED),
        (lambda s, i: s.upload(0, i[:64], length=None, sha=None), IMG_MGMT_ERR.INVALID_LENGTH),
        (lambda s, i: s.upload(0, i[:8], length=len(i), sha=None), IMG_MGMT_ERR.INVALID_IMAGE_HEADER),
        (lambda s, i: s.upload(0, bytes(64), length=len(i), sha=None), IMG_MGMT_ERR.INVALID_IMAGE_HEADER_MAGIC),
        (lambda s, i: s.upload(0, i[:64], length=SLOT_BYTES + 1, sha=None), IMG_MGMT_ERR.INVALID_IMAGE_TOO_LARGE),
        (lambda s, i: s.upload(64, i[64:], length=None, sha=None), IMG_MGMT_ERR.INVALID_OFFSET),
    ],
)
def test_the_image_group_refuses_with_zephyrs_codes(act: "object", rc: IMG_MGMT_ERR) -> None:
    slots = Slots(factory_board(make_image(1)), verify)
    with pytest.raises(ImageRefusedError) as refused:
        act(slots, make_image(2))  # type: ignore[operator]
    assert refused.value.rc is rc


def test_a_slot_that_waits_for_its_swap_takes_no_upload() -> None:
    slots = Slots(factory_board(make_image(1)), verify)
    upload(slots, make_image(2))
    slots.mark(hash_of(make_image(2)))
    with pytest.raises(ImageRefusedError) as refused:
        upload(slots, make_image(3))
    assert refused.value.rc is IMG_MGMT_ERR.IMAGE_ALREADY_PENDING


def boot_through(bootloader: Bootloader) -> McubootImage:
    while True:
        try:
            return bootloader.boot()
        except PowerCutError:
            continue


@pytest.mark.parametrize("confirm", [True, False])
def test_a_cut_at_every_flash_operation_and_again_in_the_recovery_bricks_nothing(confirm: bool) -> None:
    old, new = make_image(1, sectors=2), make_image(2, sectors=1)
    for first, second in itertools.product(range(60), (None, 0, 1, 2, 5)):
        flash = factory_board(old)
        slots, bootloader = Slots(flash, verify), Bootloader(flash, verify)
        upload(slots, new)
        slots.mark(hash_of(new))
        flash.cut_after = first
        try:
            bootloader.boot()
        except PowerCutError:
            flash.cut_after = second
            boot_through(bootloader)
        flash.cut_after = None
        running = bootloader.boot() if not slots.is_trial else verify(flash.read(Area.SLOT0))
        assert running is not None
        assert running.image_hash in (hash_of(old), hash_of(new))
        if confirm and slots.is_trial:
            slots.confirm()
            assert bootloader.boot().image_hash == hash_of(new)
        elif slots.is_trial:
            flash.cut_after = first
            boot_through(bootloader)
            assert bootloader.boot().image_hash == hash_of(old)
            assert not slots.is_trial


class BoardMachine(RuleBasedStateMachine):
    """Random orders and power cuts; the model is the hash that must survive."""

    def __init__(self) -> None:
        super().__init__()
        self.images = [make_image(seed, sectors=1 + seed % 3, good=seed != 3) for seed in range(1, 5)]
        self.flash = factory_board(self.images[0])
        self.slots = Slots(self.flash, verify)
        self.bootloader = Bootloader(self.flash, verify)
        self.confirmed = hash_of(self.images[0])
        self.running = self.confirmed

    @initialize()
    def switch_on(self) -> None:
        self.boot()

    def boot(self) -> None:
        was_trial, target = self.slots.is_trial, self.pending()
        self.running = boot_through(self.bootloader).image_hash
        if was_trial:
            assert self.running == self.confirmed, "an unconfirmed image must revert"
        else:
            assert self.running in {self.confirmed, target}
        if not self.slots.is_trial:
            assert self.running == self.confirmed, "only a confirmation may change what stays"

    def pending(self) -> str | None:
        image = self.slots.image_in(Area.SLOT1)
        return image.image_hash if image and self.slots.is_pending else None

    @rule(index=st.integers(0, 3), chunk=st.integers(200, 5000), cut=st.none() | st.integers(0, 12))
    def upload_image(self, index: int, chunk: int, cut: int | None) -> None:
        self.flash.cut_after = cut
        try:
            upload(self.slots, self.images[index], chunk)
        except ImageRefusedError:
            assert self.slots.is_trial or self.slots.is_pending
        except PowerCutError:
            self.flash.cut_after = None
            self.boot()
        self.flash.cut_after = None

    @rule(index=st.integers(0, 3), cut=st.none() | st.integers(0, 5))
    def mark_for_test(self, index: int, cut: int | None) -> None:
        self.flash.cut_after = cut
        try:
            self.slots.mark(hash_of(self.images[index]))
        except ImageRefusedError:
            pass
        except PowerCutError:
            self.flash.cut_after = None
            self.boot()
        self.flash.cut_after = None

    @precondition(lambda self: not self.slots.is_trial and not self.slots.is_pending)
    @rule(index=st.integers(0, 3))
    def begin_a_trial(self, index: int) -> None:
        image = self.images[index]
        if hash_of(image) != self.running:
            upload(self.slots, image)
            self.slots.mark(hash_of(image))
            self.boot()

    @precondition(lambda self: self.slots.is_trial)
    @rule()
    def confirm(self) -> None:
        self.slots.confirm()
        self.confirmed = self.running

    @rule(cut=st.none() | st.integers(0, 40))
    def reset(self, cut: int | None) -> None:
        self.flash.cut_after = cut
        was_trial = self.slots.is_trial
        try:
            self.bootloader.boot()
        except PowerCutError:
            # The table decides: a cut test swap is finished, a cut revert too.
            self.running = boot_through(self.bootloader).image_hash
        self.flash.cut_after = None
        running = verify(self.flash.read(Area.SLOT0))
        assert running is not None
        self.running = running.image_hash
        if was_trial or not self.slots.is_trial:
            assert self.running == self.confirmed

    @invariant()
    def the_running_image_is_verified(self) -> None:
        running = verify(self.flash.read(Area.SLOT0))
        assert running is not None
        assert running.image_hash == self.running

    @invariant()
    def the_confirmed_image_is_never_lost(self) -> None:
        held = {
            image.image_hash
            for area in (Area.SLOT0, Area.SLOT1)
            if (image := verify(self.flash.read(area))) is not None
        }
        assert self.confirmed in held

    @invariant()
    def nothing_is_half_swapped_while_the_board_runs(self) -> None:
        primary = read_trailer(self.flash, Area.TRAILER0)
        assert not primary.valid or primary.copy_done


TestBoardMachine = BoardMachine.TestCase
TestBoardMachine.settings = settings(max_examples=120, stateful_step_count=25, deadline=None)
