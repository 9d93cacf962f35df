"""Half an hour of a lab in which everything is killed at random: desks, agents of places, the broker, clients, boards.

The desk over its store, its stepper and the agents are the real ones, with their timers, in virtual time. Whether two
hold a board is seen at the boards; how long a board stays with somebody who is gone is read in the store's rows.
"""

import asyncio
import json
import logging
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from sqlalchemy import text

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.rules import Rules
from services.device_lab_scheduler.domain.scheduling import Policy
from services.device_lab_scheduler.stepping import Stepper
from services.device_lab_scheduler.store import METADATA
from shared.events import Payload
from shared.events.catalogue import decode
from shared.events.lab import LabJobEnded, VerdictKind
from shared.interop.signed_results import unsigned_result
from shared.places.agent import PlaceAgent
from shared.store import OutgoingMessage, Store, inbox, outbox
from tests.unit.device_lab.campaign.boards import CANARY, FAULTS, Observer, WatchedBoard
from tests.unit.device_lab.campaign.clients import Clients
from tests.unit.device_lab.campaign.line import Line, Places
from tests.unit.device_lab.campaign.virtual_time import run_in_virtual_time
from tests.unit.device_lab.desk_world import unit_of
from tests.unit.places.place_world import fetched, work

POLICY: Final = Policy(grace_s=2, ttl_s=10, longest_s=60, place_ttl_s=15)
RULES: Final = Rules(policy=POLICY, canaries={"cortex-m4": work(30, CANARY)}, canary_limit_s=40)
BOARDS: Final = ("p-1", "p-2", "q-1", "q-2", "r-1")
DESKS: Final = ("desk-1", "desk-2")
ANNOUNCES_S: Final = 3.0
STEPS_S: Final = 1.0
"""Between two steps of a desk in which nothing changes."""
LOOKS_S: Final = 1.0
"""Between two looks into the store."""
SLACK_S: Final = 3.0
"""Beyond TTL and grace: a step of the desk, a look into the store, an answer that was waited for."""


@dataclass
class Report:
    """What a campaign came to.

    Attributes:
        faults: How often each was injected.
        ended: Jobs by verdict.
        orphaned_s: The longest that a board stayed with somebody who was gone, while a desk was there to take it back.
        wrong: What must not happen.
    """

    seed: int
    simulated_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    submitted: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    touched: int = 0
    orphaned_s: float = 0.0
    wrong: list[str] = field(default_factory=list)

    @property
    def bound_s(self) -> float:
        return POLICY.ttl_s + POLICY.grace_s + SLACK_S


def run(seed: int, minutes: float = 30.0) -> Report:
    """Run a campaign."""
    return run_in_virtual_time(_run(seed, minutes))


async def _run(seed: int, minutes: float) -> Report:
    campaign = Campaign(seed)
    troubles = Troubles(campaign.report.wrong)
    logging.getLogger().addHandler(troubles)
    try:
        await campaign.fail_for(minutes * 60)
        await campaign.calm_down()
    finally:
        logging.getLogger().removeHandler(troubles)
        await campaign.close()
    return campaign.report


class Troubles(logging.Handler):
    """Writes down the failures that a loop survives: a step of the desk, a board that could not be let go of."""

    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.ERROR)
        self.wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        self.wrong.append(f"{record.getMessage()}: {record.exc_info and record.exc_info[1]!r}")


class Campaign:
    """A lab, and what goes wrong in it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.report = Report(seed)
        self.observer = Observer(self.loop.time, wrong=self.report.wrong)
        self.line = Line(self.rng, self.report.faults)
        self.boards = {name: WatchedBoard(name, self.observer, self.rng) for name in BOARDS}
        self.places = sorted({name[0] for name in BOARDS})
        self.clients = Clients(self.line, self.rng, self.report.faults, self.boards)
        self.store = Store("sqlite:///:memory:", METADATA, inbox.METADATA, outbox.METADATA)
        self.events: dict[str, Payload] = {}
        self.running: dict[str, list[asyncio.Task[Any]]] = {}
        self.steppers: dict[str, Stepper] = {}
        self.orphans = Orphans(self)

    # ---- who is there ----------------------------------------------------------------------------------------------

    def start_desk(self, name: str) -> None:
        desk = Desk(
            unit_of(self.store, self._publish),
            Places(self.line, self.observer, self.boards),
            RULES,
            clock=self.loop.time,
            document=unsigned_result,
        )
        self.steppers[name] = stepper = Stepper(desk, every_s=STEPS_S)
        self.line.there[name] = desk
        self.running[name] = [asyncio.create_task(stepper.run())]

    def start_agent(self, place: str) -> None:
        there = [board for name, board in self.boards.items() if name[0] == place]
        agent = PlaceAgent(place, there, fetched, clock=self.loop.time)
        self.line.there[place] = agent
        doing = (agent.keep_deadlines(), self._look_around(agent), self._announce(agent))
        self.running[place] = [asyncio.create_task(one) for one in doing]

    async def kill(self, name: str) -> None:
        """End it in the middle of whatever it does: it forgets all."""
        tasks = self.running.pop(name)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.line.killed(name)
        if stepper := self.steppers.pop(name, None):
            asked = list(stepper._asked.values())  # not closed: it has no time to say anything
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        for board, rig in self.boards.items():
            if board[0] == name:
                await rig.killed()  # its port is closed, its worker gone

    async def _look_around(self, agent: PlaceAgent) -> NoReturn:
        while True:
            await agent.look_around()
            await asyncio.sleep(ANNOUNCES_S)

    async def _announce(self, agent: PlaceAgent) -> NoReturn:
        while True:
            said = await agent.announced()
            for name in DESKS:
                self.line.tell(name, lambda desk, said=said: desk.announced(said))  # type: ignore[misc]
            await asyncio.sleep(ANNOUNCES_S)

    async def _publish(self, messages: "list[OutgoingMessage] | Any") -> None:
        for message in messages:
            data = decode(message.subject, message.body).data
            known = self.events.setdefault(message.message_id, data)
            assert known == data, f"two events have the id {message.message_id}"

    # ---- what goes wrong -------------------------------------------------------------------------------------------

    async def fail_for(self, seconds: float) -> None:
        """Let clients come and everything fail."""
        for place in self.places:
            self.start_agent(place)
        for desk in DESKS:
            self.start_desk(desk)
        self.orphans.start()
        doing = [
            asyncio.create_task(one)
            for one in (
                self.clients.come(8),
                self.clients.repair(20),
                self._kill_some(DESKS, 60, "schedulers killed"),
                self._kill_some(self.places, 45, "agents killed"),
                self._cut_off(50),
                self._break_boards(60),
                self._outages(180),
            )
        ]
        await asyncio.sleep(seconds)
        for task in doing:
            if task.done():
                task.result()
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)

    async def _kill_some(self, names: "tuple[str, ...] | list[str]", every_s: float, fault: str) -> NoReturn:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / every_s))
            name = self.rng.choice(list(names))
            self.report.faults[fault] += 1
            await self.kill(name)
            await asyncio.sleep(self.rng.choice([0.0, 0.5, 5.0]))
            self.start_agent(name) if name in self.places else self.start_desk(name)

    async def _cut_off(self, every_s: float) -> NoReturn:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / every_s))
            self.report.faults["places cut off"] += 1
            await self.line.away(self.rng.choice(self.places), self.rng.choice([2.0, 8.0, 30.0]))

    async def _outages(self, every_s: float) -> NoReturn:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / every_s))
            self.report.faults["broker killed"] += 1
            await self.line.outage(self.rng.choice([0.5, 5.0, 25.0]))

    async def _break_boards(self, every_s: float) -> NoReturn:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / every_s))
            board = self.rng.choice(list(self.boards.values()))
            if board.fault is None:
                board.fault = self.rng.choice(FAULTS)
                self.report.faults[f"boards: {board.fault}"] += 1

    # ---- how it ends -----------------------------------------------------------------------------------------------

    async def calm_down(self) -> None:
        """Nothing fails any more and nobody renews: every job ends, and every board is free."""
        report = self.report
        report.submitted = len(self.clients.submitted)
        self.line.worst = 0.0
        self.line.down.clear()
        for name in (*self.places, *DESKS):
            if name not in self.running:
                self.start_agent(name) if name in self.places else self.start_desk(name)
        for board in self.boards.values():
            board.fault = None
        repairs = asyncio.create_task(self.clients.repair(5))
        for _ in range(200):
            await asyncio.sleep(20)
            if not self.clients.tasks and not self.orphans.unended():
                break
        repairs.cancel()
        report.simulated_s = self.loop.time()
        report.touched = self.observer.touched
        report.orphaned_s = self.orphans.longest_s
        self._judge_the_end()

    def _judge_the_end(self) -> None:
        report = self.report
        jobs = self.orphans.rows("lab_jobs")
        stored = {name: job["verdict"] for name, job in jobs.items() if job["state"] == "ended"}
        if lost := self.clients.submitted - set(stored):
            report.wrong.append(f"jobs that never ended: {sorted(lost)}")
        said = Counter(event.job for event in self._ended())
        if twice := {job: count for job, count in said.items() if count > 1}:
            report.wrong.append(f"jobs that ended more than once: {twice}")
        if unsaid := set(stored) ^ set(said):
            report.wrong.append(f"jobs ended in the store or in events alone: {sorted(unsaid)}")
        report.ended = Counter(stored.values())
        if report.ended[VerdictKind.FAILED]:
            report.wrong.append("a model was blamed for a board, and every model was good")

    def _ended(self) -> list[LabJobEnded]:
        return [said for said in self.events.values() if isinstance(said, LabJobEnded)]

    async def close(self) -> None:
        self.orphans.stop()
        for task in list(self.clients.tasks):
            task.cancel()
        await asyncio.gather(*self.clients.tasks, return_exceptions=True)
        for name in list(self.running):
            await self.kill(name)
        await self.line.close()
        self.store.close()


@dataclass(frozen=True)
class _Sign:
    """The last sign of life of a holder: when, and after how much time with a leader."""

    at_s: float
    led_s: float


class Orphans:
    """Looks into the store's rows: which lease has lost its holder, and since when. Counts only time with a leader."""

    def __init__(self, campaign: Campaign) -> None:
        self.campaign = campaign
        self.longest_s = 0.0
        self.led_s = 0.0
        self._alive: dict[tuple[str, int], _Sign] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def rows(self, table: str) -> dict[str, Any]:
        with self.campaign.store._engine.connect() as connection:
            found = connection.execute(text(f"SELECT name, body FROM {table}")).all()
            connection.rollback()
        return {name: json.loads(body) for name, body in found}

    def unended(self) -> set[str]:
        return {name for name, job in self.rows("lab_jobs").items() if job["state"] != "ended"}

    async def _watch(self) -> NoReturn:
        while True:
            await asyncio.sleep(LOOKS_S)
            self._look()

    def _look(self) -> None:
        campaign, now_s = self.campaign, self.campaign.loop.time()
        desks = {desk.name for name, desk in campaign.line.there.items() if name in DESKS}
        with campaign.store._engine.connect() as connection:
            leader = connection.execute(text("SELECT leader FROM lab_desk")).scalar()
            connection.rollback()
        if leader in desks:
            self.led_s += LOOKS_S
        alive: dict[tuple[str, int], _Sign] = {}
        for name, board in self.rows("lab_boards").items():
            if board["held"] is None:
                continue
            key = name, board["held"]["lease"]["token"]
            signs = max(campaign.clients.renewed_s.get(key, 0.0), campaign.observer.seen_s.get(key, 0.0))
            before = self._alive.get(key)
            if before is None:
                before = _Sign(signs, self.led_s)
            elif signs > before.at_s:
                before = _Sign(signs, self.led_s - (now_s - signs))
            alive[key] = before
            self._note(key, self.led_s - before.led_s, now_s)
        self._alive = alive

    def _note(self, key: tuple[str, int], orphaned_s: float, now_s: float) -> None:
        if orphaned_s > self.longest_s:
            self.longest_s = orphaned_s
            if orphaned_s > self.campaign.report.bound_s:
                board, token = key
                self.campaign.report.wrong.append(
                    f"{now_s:.1f} s: token {token} keeps {board} {orphaned_s:.1f} s after its last sign of life"
                )
