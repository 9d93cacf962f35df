"""Carrying out an order on boards that are slow, busy, deaf or stubborn."""

import asyncio
from collections.abc import AsyncIterator

from device_gateway.domain import Order, Progress
from device_gateway.drivers import (
    DeviceBusyError,
    DeviceRefusedError,
    DeviceSilentError,
    Identity,
    ReadReport,
    SlotState,
)
from device_gateway.install import Ended, Installation
from shared.events.device import GoldenVector, InstallOutcome
from shared.events.lab import BoardClass

OLD, NEW = "0" * 64, "1" * 64


class Board:
    """A driver to a board that exists in memory; subclasses misbehave."""

    def __init__(self) -> None:
        self.primary, self.second, self.pending, self.trial = OLD, "", False, False
        self.resets = 0

    async def identify(self) -> Identity:
        return Identity(board="cortex-m4", board_class=BoardClass.VIRTUAL)

    async def read_state(self) -> tuple[SlotState, ...]:
        first = SlotState(self.primary, "1.0.0", active=True, confirmed=not self.trial)
        if not self.second:
            return (first,)
        return (first, SlotState(self.second, "1.0.0", confirmed=self.trial, pending=self.pending))

    async def upload(self, image: bytes) -> AsyncIterator[int]:
        self.second = NEW
        yield len(image)

    async def test(self, image_hash: str) -> None:
        assert image_hash == self.second
        self.pending = True

    async def confirm(self, image_hash: str) -> None:
        assert image_hash == self.primary
        self.trial = False

    async def reset(self) -> None:
        self.resets += 1
        if self.pending or self.trial:
            self.primary, self.second = self.second, self.primary
            self.trial, self.pending = self.pending, False

    async def infer(self, tensor: bytes) -> bytes:
        return tensor

    async def read_telemetry(self, after: int) -> ReadReport | None:
        raise NotImplementedError(after)

    async def close(self) -> None:
        pass


async def install(board: Board, *, deadline_s: float = 5.0, trials: list[int] | None = None) -> Ended:
    begun = trials if trials is not None else []

    async def count_trial() -> None:
        assert not board.trial, "a trial must be counted before it begins"
        begun.append(board.resets)

    return await Installation(
        driver=board,
        order=Order(wanted=NEW, has_image=True),
        image=b"image",
        golden=GoldenVector(input=b"\x01", output=b"\x01"),
        progress=Progress(),
        count_trial=count_trial,
        deadline_s=deadline_s,
    ).run()


async def test_a_good_board_is_verified_after_one_reset_and_one_counted_trial() -> None:
    board, trials = Board(), list[int]()
    ended = await install(board, trials=trials)
    assert (ended.verdict.outcome, board.resets, trials) == (InstallOutcome.VERIFIED, 1, [0])


async def test_a_board_that_is_busy_until_the_deadline_is_deferred() -> None:
    class Busy(Board):
        async def test(self, image_hash: str) -> None:
            raise DeviceBusyError(image_hash)

    ended = await install(Busy(), deadline_s=0.3)
    assert ended.verdict.outcome is InstallOutcome.DEFERRED
    assert ended.active is not None


async def test_a_board_that_refuses_every_time_ends_the_order_with_its_reason() -> None:
    class Stubborn(Board):
        async def test(self, image_hash: str) -> None:
            raise DeviceRefusedError(f"no free slot for {image_hash[:4]}")

    ended = await install(Stubborn())
    assert ended.verdict.outcome is InstallOutcome.REFUSED
    assert "no free slot" in ended.verdict.detail


async def test_a_model_that_silences_the_board_again_and_again_is_reverted() -> None:
    class Mute(Board):
        async def infer(self, tensor: bytes) -> bytes:
            raise DeviceSilentError(f"no answer to {len(tensor)} bytes")

    ended = await install(Mute())
    assert ended.verdict.outcome is InstallOutcome.REVERTED
    assert "goes silent when it runs the model" in ended.verdict.detail


async def test_an_image_that_cannot_be_confirmed_is_reverted() -> None:
    class Denied(Board):
        async def confirm(self, image_hash: str) -> None:
            raise DeviceRefusedError(f"IMAGE_CONFIRMATION_DENIED {image_hash[:4]}")

    board = Denied()
    ended = await install(board)
    assert (ended.verdict.outcome, board.primary) == (InstallOutcome.REVERTED, OLD)


async def test_a_slow_reset_is_waited_for_and_not_repeated() -> None:
    class Slow(Board):
        async def reset(self) -> None:
            self.resets += 1
            asyncio.get_running_loop().call_later(0.7, self.swap)

        def swap(self) -> None:
            self.primary, self.second = self.second, self.primary
            self.trial, self.pending = True, False

    board = Slow()
    ended = await install(board)
    assert (ended.verdict.outcome, board.resets) == (InstallOutcome.VERIFIED, 1)
