"""Recorded sensor data as firmware reads it from its second UART; `firmware/playback/playback.h` has the format."""

import binascii
from collections.abc import Iterator

LARGEST_PAYLOAD_BYTES = 255
_FLAG = 0x7E
_CRC_START = 0xFFFF


def frame(sequence: int, payload: bytes) -> bytes:
    """Return one frame."""
    body = bytes([len(payload)]) + (sequence & 0xFFFF).to_bytes(2, "big") + payload
    return bytes([_FLAG]) + body + binascii.crc_hqx(body, _CRC_START).to_bytes(2, "big")


def frames(trace: bytes, *, payload_bytes: int = 64) -> Iterator[bytes]:
    """Return the frames of a whole trace, the one that ends it included."""
    if not 1 <= payload_bytes <= LARGEST_PAYLOAD_BYTES:
        raise ValueError(f"a frame carries 1 to {LARGEST_PAYLOAD_BYTES} bytes, not {payload_bytes}")
    parts = [trace[at : at + payload_bytes] for at in range(0, len(trace), payload_bytes)]
    for sequence, part in enumerate([*parts, b""]):
        yield frame(sequence, part)
