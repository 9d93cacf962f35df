"""What is checked of an image before it is sent to a board."""

import struct
from pathlib import Path

import pytest

from device_gateway.images import ImageError, check_fit, verify_image
from device_gateway.virtual.provisioning import factory_image, factory_key
from services.artifact_builder.firmware.signing import HEADER_BYTES, generate_key, sign_image
from shared.artifacts.keys import KeyAlgorithm, load_public_key
from shared.boards import image_board
from shared.emulation.mcuboot_image import McubootImage, read_image

M4, M7 = image_board("cortex-m4"), image_board("cortex-m7")


@pytest.fixture
def for_m7(tmp_path: Path) -> McubootImage:
    """Firmware for the M7 whose vector table would do on the M4 as well."""
    generate_key(tmp_path / "signing.pem", tmp_path / "signing.pub.pem")
    start = M4.slot_address + HEADER_BYTES
    vectors = struct.pack("<II", M4.ram_address + 4096, start + 8 | 1) + bytes(64)
    signed = sign_image(vectors, M7, version="1.0.0", model_digest="sha256:" + "5a" * 32, key=tmp_path / "signing.pem")
    return read_image(signed.data)


def test_an_image_for_another_core_with_the_same_memory_map_is_told_by_what_it_says(for_m7: McubootImage) -> None:
    check_fit(for_m7, M7)
    with pytest.raises(ImageError, match="it says cortex-m7, this one is a cortex-m4"):
        check_fit(for_m7, M4)


def test_foreign_firmware_says_no_board_and_is_judged_by_its_memory_map(tmp_path: Path) -> None:
    factory_key(tmp_path / "factory.pem")
    foreign = read_image(factory_image(M4, tmp_path / "factory.pem"))
    assert foreign.board is None
    check_fit(foreign, M4)
    with pytest.raises(ImageError, match="the image is for another board"):
        check_fit(foreign, image_board("cortex-m0plus"))


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
def test_an_image_of_either_algorithm_is_verified_and_one_of_a_stranger_is_not(
    algorithm: KeyAlgorithm, tmp_path: Path
) -> None:
    keys = []
    for name in ("ours", "theirs"):
        private, public = tmp_path / name, tmp_path / f"{name}.pub"
        generate_key(private, public, algorithm)
        keys.append(load_public_key(public))
    model = "sha256:" + "5a" * 32
    signed = sign_image(bytes(64), M4, version="1.0.0", model_digest=model, key=tmp_path / "ours").data
    assert verify_image(signed, keys).version == "1.0.0+0"
    with pytest.raises(ImageError, match="no trusted key signed the image"):
        verify_image(signed, keys[1:])
