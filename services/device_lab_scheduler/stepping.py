"""What the desk does of itself, step by step: one pass over the books, then what places are to be told."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, NoReturn

from services.device_lab_scheduler.desk import Books, Desk
from services.device_lab_scheduler.domain.passing import live_places, make_pass, needs_pass
from services.device_lab_scheduler.domain.records import BoardRecord
from services.device_lab_scheduler.domain.telling import Saying, heard, next_saying, refused, told
from services.device_lab_scheduler.links import PlaceSilentError
from services.device_lab_scheduler.metrics import show_lab, time_step
from services.device_lab_scheduler.store import Leader, lead
from shared.bus.exchanges import RefusedError
from shared.lab.messages import AskProgress, Begin, Grant, Progress, Shut

log = logging.getLogger(__name__)

LEADS_S: Final = 5.0
"""How long nobody else acts after the leader was killed."""
_PROGRESS_PER_S: Final = 200.0
"""Questions after progress a second, over all boards: more boards are asked less often each."""
_SILENCE_S: Final = 1.0
"""Before a place that did not answer is told anything again."""


@dataclass(frozen=True, slots=True)
class _Answer:
    saying: Saying
    deadline_s: float
    epoch: str
    progress: Progress | None = None
    refused: RefusedError | None = None


@dataclass
class Stepper:
    """Acts for a desk. Of several replicas only the leader does.

    Attributes:
        patience_s: How long a step waits for answers; those that come later count in a later step.
    """

    desk: Desk
    patience_s: float = 0.25
    every_s: float = 0.25
    _asked: dict[str, "asyncio.Task[_Answer | None]"] = field(default_factory=dict)
    _silent_until_s: dict[str, float] = field(default_factory=dict)
    _progress_at_s: dict[str, float] = field(default_factory=dict)
    _live: frozenset[str] = frozenset()

    async def run(self) -> NoReturn:
        """Step whenever something changed, and at least every `every_s`."""
        changed = asyncio.Event()
        self.desk.changed = changed.set
        loop = asyncio.get_running_loop()
        while True:
            changed.clear()
            began_s = loop.time()
            try:
                await self.step()
            except Exception:
                log.exception("a step of the lab's desk failed; the next one begins where the books are")
            # Half of the time belongs to others, however large the lab is.
            await asyncio.sleep(min(loop.time() - began_s, self.every_s))
            try:
                async with asyncio.timeout(self.every_s):
                    await changed.wait()
            except TimeoutError:
                continue

    async def step(self) -> bool:
        """Do what is to be done now. Tell whether this desk leads."""
        desk = self.desk
        async with desk.books() as books:
            began_s = time.perf_counter()
            if not self._leads(books):
                return False
            now_s = desk.clock()
            live = live_places(desk.seen, desk.rules, now_s)
            if live != self._live or needs_pass(books.ledger, desk.rules, live, now_s):
                make_pass(books.ledger, desk.rules, desk.seen, now_s)
                self._live = live
            sayings = list(self._sayings(books, live, now_s))
            self._show(books, live)
            time_step(time.perf_counter() - began_s)
        for place, saying, deadline_s, epoch in sayings:
            self._asked[saying.board] = asyncio.create_task(self._say(place, saying, deadline_s, epoch))
        if self._asked:
            await asyncio.wait(self._asked.values(), timeout=self.patience_s)
            await self._note()
        return True

    async def close(self) -> None:
        """Ask nothing more, and let another desk lead at once."""
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self.desk.books() as books:
            if books.leader.name == self.desk.name:
                lead(books.unit.tx, Leader("", 0.0))

    @staticmethod
    def _show(books: Books, live: frozenset[str]) -> None:
        ledger = books.ledger
        jobs = {"waiting": len(ledger.waiting), "running": len(ledger.running)}
        show_lab(jobs, (board.record.health for board in ledger.boards.values()), len(live))

    def _leads(self, books: Books) -> bool:
        now_s, leader = self.desk.clock(), books.leader
        if leader.name != self.desk.name and now_s < leader.until_s:
            return False
        if leader.name != self.desk.name or leader.until_s - now_s < LEADS_S / 2:
            lead(books.unit.tx, Leader(self.desk.name, now_s + LEADS_S))
        return True

    def _sayings(self, books: Books, live: frozenset[str], now_s: float) -> Iterable[tuple[str, Saying, float, str]]:
        held = books.ledger.held()
        every_s = max(self.every_s, len(held) / _PROGRESS_PER_S)
        for board in held:
            saying = next_saying(books.ledger, board, now_s)
            if saying is None or board.name in self._asked or not self._may_ask(board, live, now_s):
                continue
            if isinstance(saying, AskProgress):
                if now_s < self._progress_at_s.get(board.name, 0.0) + every_s:
                    continue
                self._progress_at_s[board.name] = now_s
            assert board.held is not None
            yield board.place, saying, board.held.lease.deadline_s, books.ledger.places[board.place].epoch

    def _may_ask(self, board: BoardRecord, live: frozenset[str], now_s: float) -> bool:
        return board.place in live and now_s >= self._silent_until_s.get(board.place, 0.0)

    async def _say(self, place: str, saying: Saying, deadline_s: float, epoch: str) -> _Answer | None:
        link, progress = self.desk.link, None
        try:
            match saying:
                case Grant():
                    await link.grant(place, saying)
                case Begin():
                    await link.begin(place, saying)
                case AskProgress():
                    progress = await link.progress(place, saying)
                case Shut():
                    await link.shut(place, saying)
        except RefusedError as error:
            return _Answer(saying, deadline_s, epoch, refused=error)
        except PlaceSilentError as error:
            log.warning("place %s: %s", place, error)
            self._silent_until_s[place] = self.desk.clock() + _SILENCE_S
            return None
        return _Answer(saying, deadline_s, epoch, progress)

    async def _note(self) -> None:
        """Write down what places answered."""
        done = {board: task for board, task in self._asked.items() if task.done()}
        for board in done:
            del self._asked[board]
        answers = [answer for task in done.values() if (answer := task.result()) is not None]
        if not answers:
            return
        async with self.desk.books() as books:
            for answer in answers:
                self._count(books, answer)

    def _count(self, books: Books, answer: _Answer) -> None:
        ledger, rules, now_s = books.ledger, self.desk.rules, self.desk.clock()
        if answer.refused is not None:
            refused(ledger, rules, answer.saying, answer.refused, now_s)
        elif isinstance(answer.saying, AskProgress):
            assert answer.progress is not None, "progress was asked for"
            heard(ledger, rules, answer.saying, answer.progress, now_s)
        else:
            told(ledger, answer.saying, answer.deadline_s, answer.epoch)
