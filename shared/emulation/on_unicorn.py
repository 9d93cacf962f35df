"""Runs firmware images in this process, on Unicorn's Cortex-M cores.

Memory is the board's own: flash and RAM of its size, a UART, a timer and the system control space.
Anything else faults.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import unicorn
from unicorn import arm_const

from shared.boards import Core, ImageBoard
from shared.emulation import EmulationError
from shared.emulation.dut import INSTRUCTION_NS, READY, EmulatedDut, Unanswered
from shared.emulation.mcuboot_image import read_image

_PAGE_BYTES = 0x1000
_TIMER_VALUE = 0x4
_UART_DATA, _UART_STATE = 0x0, 0x4
_UART_RECEIVED = 2
_SYSTEM_CONTROL_ADDRESS = 0xE000E000
_UINT32_MAX = 0xFFFFFFFF
# Wide Thumb instructions begin with one of these in their five highest bits.
_WIDE = frozenset({0b11101, 0b11110, 0b11111})
_DEFAULT_TIMEOUT_S = 60.0

_CORES = {
    # Unicorn has no M0+; it is an M0 with the same instructions.
    Core.CORTEX_M0PLUS: arm_const.UC_CPU_ARM_CORTEX_M0,
    Core.CORTEX_M4: arm_const.UC_CPU_ARM_CORTEX_M4,
    Core.CORTEX_M7: arm_const.UC_CPU_ARM_CORTEX_M7,
    Core.CORTEX_M33: arm_const.UC_CPU_ARM_CORTEX_M33,
}


def boot_unicorn(
    image: bytes, board: ImageBoard, *, count_instructions: bool = False, timeout_s: float = _DEFAULT_TIMEOUT_S
) -> EmulatedDut:
    """Boot a signed image.

    Args:
        image: the whole MCUboot image, header included.
        board: whose memory and core it runs on.
        count_instructions: serve the firmware's timer from a count of instructions. It takes several times as long.
        timeout_s: limit of the processor time of every exchange, so that a busy host does not look like a hang.

    Raises:
        ImageFormatError: the image is damaged.
        EmulationError: the firmware faulted or hung before it was ready.
    """
    console = _UnicornConsole(image, board, count_instructions=count_instructions, timeout_s=timeout_s)
    console.power_on()
    timer_hz = board.peripheral_hz if count_instructions else None
    return EmulatedDut(f"unicorn {metadata.version('unicorn')}", console, timer_hz=timer_hz)


@dataclass(slots=True)
class _Receiver:
    """What arrives at a UART. Firmware that reads without having looked, as it does at its start, loses nothing."""

    waiting: bytearray = field(default_factory=bytearray)
    seen: bool = False

    def clear(self) -> None:
        self.waiting.clear()
        self.seen = False

    def take(self) -> int:
        if not self.seen:
            return 0
        self.seen = False
        return self.waiting.pop(0)


class _UnicornConsole:
    def __init__(self, image: bytes, board: ImageBoard, *, count_instructions: bool, timeout_s: float) -> None:
        parsed = read_image(image)
        if parsed.size_bytes > board.slot_bytes:
            raise EmulationError(
                f"the image has {parsed.size_bytes:,} bytes, the slot of {board.name} {board.slot_bytes:,}"
            )
        self._image = image[: parsed.size_bytes]
        self._vectors = parsed.payload[:8]
        self._board = board
        self._count_instructions = count_instructions
        self._timeout_s = timeout_s
        self._tick_ns = 1_000_000_000 // board.peripheral_hz
        self._to_firmware = _Receiver()
        self._to_sensor = _Receiver()
        self._from_firmware = bytearray()
        self._closed = False
        self._uc: Any = None

    def exchange(self, request: bytes, answers: int) -> bytes:
        self._require_supply()
        self._to_firmware.waiting += request
        wanted = self._unanswered.count + answers
        try:
            if self._stopped:
                raise EmulationError(f"the firmware hung: its core is stopped at pc {self._pc:#010x}")
            self._run()
        finally:
            answer = self._unanswered.begun + bytes(self._from_firmware)
            self._from_firmware.clear()
            if answer.count(READY) < wanted:
                self._unanswered.give_up(answer, wanted)
        if answer.count(READY) < wanted:
            said = answer[-80:].decode("ascii", "replace").strip() or "nothing"
            raise EmulationError(
                f"the firmware waits for input at pc {self._pc:#010x} without being ready; it said: {said}"
            )
        return self._unanswered.skip(answer)

    def reset(self) -> None:
        self._require_supply()
        self._boot()

    def hang(self) -> None:
        self._require_supply()
        self._stopped = True

    def resume(self) -> None:
        self._require_supply()
        self._stopped = False

    def power_cut(self) -> None:
        self._require_supply()
        # Unicorn frees its memory when nothing refers to it; hooks do.
        self._uc = None

    def power_on(self) -> None:
        if self._uc is not None:
            raise EmulationError("the board has its supply already")
        # Not UC_MODE_MCLASS: with it Unicorn runs a Cortex-M33, whatever core is asked for.
        self._uc = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB)
        self._uc.ctl_set_cpu_model(_CORES[self._board.core])
        self._map(self._board)
        self._uc.mem_write(self._board.slot_address, self._image)
        self._uc.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._note_bad_access)
        if self._count_instructions:
            self._uc.hook_add(unicorn.UC_HOOK_BLOCK, self._make_counter())
        self._boot()

    def feed(self, data: bytes) -> None:
        self._to_sensor.waiting += data

    def flash(self) -> bytes:
        # Memory that firmware cannot write to.
        return self._image.ljust(self._board.slot_bytes, b"\xff")

    def close(self) -> None:
        self._closed = True
        self._uc = None

    def _boot(self) -> None:
        for queue in (self._to_firmware, self._to_sensor, self._from_firmware):
            queue.clear()
        self._unanswered = Unanswered()
        self._polls = 0
        self._timed_out = False
        self._stopped = False
        self._fault = ""
        self._executed = 0
        self._uc.reg_write(arm_const.UC_ARM_REG_SP, int.from_bytes(self._vectors[:4], "little"))
        self._pc = int.from_bytes(self._vectors[4:], "little")
        self.exchange(b"", 1)

    def _require_supply(self) -> None:
        if self._closed:
            raise EmulationError("the board was closed")
        if self._uc is None:
            raise EmulationError("the board has no supply")

    def _map(self, board: ImageBoard) -> None:
        executable = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        self._uc.mem_map(board.slot_address, _pages(board.slot_bytes), executable)
        self._uc.mem_map(board.ram_address, _pages(board.ram_bytes), unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self._uc.mem_map(_SYSTEM_CONTROL_ADDRESS, _PAGE_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        for address, arrived, write in (
            (board.uart_address, self._to_firmware, self._write_uart),
            (board.sensor_uart_address, self._to_sensor, _ignore_write),
        ):
            self._uc.mmio_map(address, _PAGE_BYTES, self._read_uart, arrived, write, None)
        self._uc.mmio_map(board.timer_address, _PAGE_BYTES, self._read_timer, None, _ignore_write, None)

    def _run(self) -> None:
        self._polls = 0
        self._timed_out = False
        finished = threading.Event()
        clock = time.pthread_getcpuclockid(threading.get_ident())
        threading.Thread(target=self._watch, args=(finished, clock), daemon=True).start()
        try:
            self._uc.emu_start(self._pc | 1, 0)
        except unicorn.UcError as error:
            raise self._faulted(error) from error
        finally:
            finished.set()
        self._pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        if self._timed_out:
            raise EmulationError(
                f"the firmware hung: after {self._timeout_s:g} s of processor time it was at pc {self._pc:#010x}"
            )

    def _watch(self, finished: threading.Event, clock: int) -> None:
        limit_s = time.clock_gettime(clock) + self._timeout_s
        while not finished.wait(self._timeout_s):
            if time.clock_gettime(clock) >= limit_s:
                self._timed_out = True
                self._uc.emu_stop()
                return

    def _faulted(self, error: unicorn.UcError) -> EmulationError:
        pc = self._uc.reg_read(arm_const.UC_ARM_REG_PC)
        link = self._uc.reg_read(arm_const.UC_ARM_REG_LR)
        what = self._fault or str(error)
        return EmulationError(f"the firmware faulted at pc {pc:#010x} (called from {link:#010x}): {what}")

    def _note_bad_access(self, _uc: object, access: int, address: int, size: int, _value: int, _data: object) -> bool:
        kinds = {
            unicorn.UC_MEM_READ_UNMAPPED: "read of",
            unicorn.UC_MEM_WRITE_UNMAPPED: "write to",
            unicorn.UC_MEM_FETCH_UNMAPPED: "execution of",
            unicorn.UC_MEM_WRITE_PROT: "write to read-only",
            unicorn.UC_MEM_FETCH_PROT: "execution of non-executable",
        }
        self._fault = f"{kinds.get(access, 'access to')} {size} bytes at {address:#010x}, outside the board's memory"
        return False

    def _read_uart(self, _uc: object, offset: int, _size: int, receiver: _Receiver) -> int:
        if offset == _UART_DATA:
            return receiver.take()
        if offset != _UART_STATE:
            return 0
        receiver.seen = bool(receiver.waiting)
        if receiver.seen:
            return _UART_RECEIVED
        # Two looks in a row, with nothing sent between them: the firmware waits for input.
        self._polls += 1
        if self._polls > 1:
            self._uc.emu_stop()
        return 0

    def _write_uart(self, _uc: object, offset: int, _size: int, value: int, _data: object) -> None:
        if offset == _UART_DATA:
            self._polls = 0
            self._from_firmware.append(value & 0xFF)

    def _read_timer(self, _uc: object, offset: int, _size: int, _data: object) -> int:
        if offset != _TIMER_VALUE:
            return 0
        return _UINT32_MAX - (self._executed * INSTRUCTION_NS // self._tick_ns & _UINT32_MAX)

    def _make_counter(self) -> Callable[[object, int, int, object], None]:
        lengths: dict[tuple[int, int], int] = {}

        def count(_uc: object, address: int, size: int, _data: object) -> None:
            try:
                self._executed += lengths[address, size]
            except KeyError:
                lengths[address, size] = _instructions_in(bytes(self._uc.mem_read(address, size)))
                self._executed += lengths[address, size]

        return count


def _ignore_write(_uc: object, _offset: int, _size: int, _value: int, _data: object) -> None:
    """Let the firmware start the timer, which always runs, and the second UART, which only listens."""


def _instructions_in(code: bytes) -> int:
    count = at = 0
    while at < len(code):
        at += 4 if code[at + 1] >> 3 in _WIDE else 2
        count += 1
    return count


def _pages(size_bytes: int) -> int:
    return -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES
