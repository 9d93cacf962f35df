"""Requests and answers over the sockets of an emulator that runs beside us, until the firmware is ready or hangs."""

import re
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from shared.emulation import EmulationError
from shared.emulation.dut import READY, Unanswered


class Conversation:
    """What is on its way to a board's console and to its sensor, and what it still owes an answer to."""

    def __init__(self, emulator: str, timeout_s: float) -> None:
        """Args: emulator: as errors call it. timeout_s: of every exchange; what takes longer counts as a hang."""
        self._emulator: Final = emulator
        self._timeout_s: Final = timeout_s
        self.forget()

    def forget(self) -> None:
        """Drop all: nothing that was sent or said before a boot counts after it."""
        self._to_console = bytearray()
        self._to_sensor = bytearray()
        self._unanswered = Unanswered()

    def feed(self, data: bytes) -> None:
        """Let bytes arrive at the sensor with the next exchange."""
        self._to_sensor += data

    def exchange(
        self,
        console: socket.socket,
        sensor: socket.socket,
        request: bytes,
        answers: int,
        last_words: Callable[[], str],
    ) -> bytes:
        """Send a request, and return all that came until the firmware was ready as often.

        Args:
            console: the board's.
            sensor: likewise.
            request: for the console.
            answers: how many commands are in it.
            last_words: what the emulator said when it ended.

        Raises:
            EmulationError: the firmware faulted or hung, or the emulator ended.
        """
        self._to_console += request
        wanted = self._unanswered.count + answers
        return self._unanswered.skip(self._converse(console, sensor, wanted, last_words))

    def _converse(
        self, console: socket.socket, sensor: socket.socket, wanted: int, last_words: Callable[[], str]
    ) -> bytes:
        deadline = time.monotonic() + self._timeout_s
        answer = bytearray(self._unanswered.begun)
        outgoing = {console: self._to_console, sensor: self._to_sensor}
        while answer.count(READY) < wanted:
            waiting = [channel for channel, data in outgoing.items() if data]
            left_s = deadline - time.monotonic()
            readable, writable, _ = select.select([console], waiting, [], max(left_s, 0))
            if not readable and left_s <= 0:
                self._unanswered.give_up(bytes(answer), wanted)
                said = bytes(answer[-80:]).decode("ascii", "replace").strip() or "nothing"
                raise EmulationError(f"the firmware hung: not ready after {self._timeout_s:g} s; it said: {said}")
            try:
                for channel in writable:
                    del outgoing[channel][: channel.send(outgoing[channel])]
                part = console.recv(65536) if readable else None
            except OSError as error:
                raise EmulationError(f"{self._emulator} ended ({error}): {last_words()}") from error
            if part == b"":
                raise EmulationError(f"{self._emulator} ended: {last_words()}")
            answer += part or b""
            _raise_fault(answer)
        return bytes(answer)


def drain(channel: socket.socket) -> None:
    """Read what a channel still holds."""
    while select.select([channel], [], [], 0)[0] and channel.recv(65536):
        pass


def _raise_fault(answer: bytearray) -> None:
    found = re.search(rb"^e-\[hardfault ([^\r\n]*)\]\r\n", answer, re.MULTILINE)
    if found:
        raise EmulationError(f"the firmware faulted at {found[1].decode('ascii', 'replace')}")
