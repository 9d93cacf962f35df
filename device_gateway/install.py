"""Carries out the plan for one order on one board: every step is followed by a new look at the board."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from device_gateway.domain import Order, Progress, Step, Verdict, after_step, plan, smoke_failure
from device_gateway.drivers import (
    DeviceBusyError,
    DeviceRefusedError,
    DeviceSilentError,
    Driver,
    DriverError,
    SlotState,
)
from shared.events.device import GoldenVector, InstallOutcome

_log = logging.getLogger(__name__)
LOOK_AGAIN_S = 0.25
"""MCUmgr resets about this long after it answered."""
SETTLE_S = 8.0
"""How long a reset may take until the board answers with something new."""
UNDER_WAY_S = 1.5
"""How long a board that was asked to reset may still answer as before: several times what MCUmgr takes."""
MAX_REFUSALS = 4
MAX_SILENT_SMOKE_TESTS = 2


@dataclass(frozen=True, slots=True)
class Ended:
    """The verdict, and the slots as they were last seen; none when the board never answered."""

    verdict: Verdict
    slots: tuple[SlotState, ...]

    @property
    def active(self) -> SlotState | None:
        """The running image."""
        return next((slot for slot in self.slots if slot.active), None)


@dataclass(slots=True)
class Installation:
    """One order on one board. The caller holds the board's lock.

    Attributes:
        image: The signed image, verified; None when it must be in the second slot.
        golden: Input and output of the smoke test; None: answering is enough.
        count_trial: Stores that a trial is about to begin.
        deadline_s: Seconds from now after which silence counts as lost.
    """

    driver: Driver
    order: Order
    image: bytes | None
    golden: GoldenVector | None
    progress: Progress
    count_trial: Callable[[], Awaitable[None]]
    deadline_s: float
    _slots: tuple[SlotState, ...] = ()
    _silent_smoke_tests: int = 0

    async def run(self) -> Ended:
        """Work until the board is where the order wants it, or will not be."""
        deadline = time.monotonic() + self.deadline_s
        await self._let_reset_end()
        refusals, problem = 0, DriverError("no answer yet")
        while True:
            try:
                self._slots = await self.driver.read_state()
                step = plan(self.order, self._slots, self.progress)
                if isinstance(step, Verdict):
                    return Ended(step, self._slots)
                await self._take(step)
            except DeviceRefusedError as refusal:
                refusals, problem = refusals + 1, refusal
                if refusals >= MAX_REFUSALS:
                    return Ended(Verdict(InstallOutcome.REFUSED, str(refusal)), self._slots)
            except DriverError as trouble:
                problem = trouble
            else:
                continue
            if time.monotonic() >= deadline:
                return Ended(self._too_late(problem), self._slots)
            await asyncio.sleep(LOOK_AGAIN_S)

    def _too_late(self, problem: DriverError) -> Verdict:
        if isinstance(problem, DeviceBusyError):
            return Verdict(InstallOutcome.DEFERRED, f"the board was busy for {self.deadline_s:g} s; order it again")
        return Verdict(
            InstallOutcome.LOST, f"not done after {self.deadline_s:g} s: {problem}; check its power and its link"
        )

    async def _take(self, step: Step) -> None:
        _log.info("step %s towards %s", step, self.order.wanted[:12])
        failure = ""
        match step:
            case Step.UPLOAD:
                assert self.image is not None, "the plan uploads only an image that is there"
                async for _ in self.driver.upload(self.image):
                    pass
            case Step.MARK_FOR_TEST:
                await self.driver.test(self.order.wanted)
            case Step.BEGIN_TRIAL:
                await self.count_trial()
                await self._reset()
            case Step.RESET:
                await self._reset()
            case Step.SMOKE_TEST:
                failure = await self._smoke_test()
            case Step.CONFIRM:
                failure = await self._confirm()
        self.progress = after_step(self.progress, step, failure)

    async def _reset(self) -> None:
        """Reset, and wait until the board answers with other slots than before, or long enough."""
        with contextlib.suppress(DeviceSilentError):
            # It may have reset before its answer got out: look, do not send it again.
            await self.driver.reset()
        await self._changed(self._slots, within_s=SETTLE_S)

    async def _let_reset_end(self) -> None:
        """A gateway that was killed may have asked for a reset just before: a second one would end the trial."""
        if not self.progress.trials:
            return
        with contextlib.suppress(DriverError):
            slots = await self.driver.read_state()
            if any(slot.pending for slot in slots):
                await self._changed(slots, within_s=UNDER_WAY_S)

    async def _changed(self, before: tuple[SlotState, ...], *, within_s: float) -> None:
        """Wait until the board answers with other slots than before, or long enough."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            await asyncio.sleep(LOOK_AGAIN_S)
            try:
                if await self.driver.read_state() != before:
                    return
            except DeviceSilentError:
                continue

    async def _smoke_test(self) -> str:
        """Run the golden input on the board itself; return why it failed, or nothing."""
        if self.golden is None:
            return ""
        try:
            answered = await self.driver.infer(self.golden.input)
        except DeviceSilentError:
            # Silence may be the link; a board that is silent again and again at this very question is broken.
            self._silent_smoke_tests += 1
            if self._silent_smoke_tests < MAX_SILENT_SMOKE_TESTS:
                raise
            return "smoke test: the board goes silent when it runs the model"
        except DeviceRefusedError as refusal:
            return f"smoke test: {refusal}"
        return smoke_failure(self.golden.output, answered)

    async def _confirm(self) -> str:
        try:
            await self.driver.confirm(self.order.wanted)
        except DeviceRefusedError as refusal:
            return f"it cannot be confirmed: {refusal}"
        return ""
