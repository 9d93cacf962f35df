"""Who a board says it is: by its USB serial number and path where it has them, else by what its firmware answers.

Two boards without a USB identity that run firmware of one vendor cannot be told apart.
"""

import os
from typing import Final

from serial.tools import list_ports

from shared.mlperf_tiny import Line
from shared.mlperf_tiny.session import Session

_USB: Final = "usb:"
_DUT: Final = "dut:"


def usb_identity(port: str) -> str | None:
    """Return ``usb:<vendor>:<product>:<serial>@<path>``; None where the port is no USB device of this machine."""
    if "://" in port:
        return None
    device = os.path.realpath(port)  # links in /dev/serial/by-id
    for info in list_ports.comports():
        if info.device == device and info.vid is not None:
            return f"{_USB}{info.vid:04x}:{info.pid:04x}:{info.serial_number or ''}@{info.location or ''}"
    return None


def dut_identity(line: Line) -> str:
    """Return ``dut:<vendor>``, as the firmware behind a line says.

    Raises:
        DutError: nobody answers, or nobody who speaks the protocol.
    """
    return f"{_DUT}{Session(line).greet().vendor}"


def same_board(found: str, wanted: str) -> bool:
    """Tell whether it is the board that is meant: by its serial number wherever it hangs, else by where it hangs.

    A bare serial number will do as what is wanted: hardware maps have no more.
    """
    if is_serial_number(wanted):
        return found.startswith(_USB) and found.partition("@")[0].split(":", 3)[3] == wanted
    (board, _, _), (wanted_board, _, wanted_path) = found.partition("@"), wanted.partition("@")
    if board != wanted_board:
        return False
    has_serial = not board.startswith(_USB) or not board.endswith(":")
    return has_serial or not wanted_path or found == wanted


def is_serial_number(identity: str) -> bool:
    """Tell whether it is no more than what a USB device calls its serial number."""
    return bool(identity) and not identity.startswith((_USB, _DUT))
