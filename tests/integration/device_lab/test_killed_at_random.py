"""Real processes on a real bus, killed at random: scheduler, agent, broker and clients. The boards tell who came."""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nats.errors
import pytest
from nats.aio.client import Client

from shared.bus import EmbeddedServer
from shared.bus.exchanges import NobodyAnsweredError, RefusedError, ask
from shared.events import digest_of
from shared.events.catalogue import decode
from shared.events.lab import JobKind, LabJobEnded, VerdictKind
from shared.lab.messages import (
    DESK_ROOT,
    PLACE_ROOT,
    AskBoards,
    AskJobs,
    Boards,
    Done,
    HeldBoard,
    Jobs,
    JobState,
    JobView,
    Renew,
    Request,
    Submit,
    Touch,
    Work,
)
from tests.support import ROOT, ServiceProcess, eventually

VICTIMS = ("desk", "desk", "place", "place", "broker", "client")
BOARDS = ("a", "b")
DIGEST = digest_of(b"-")


class Bench:
    """The processes, and the clients that ask them."""

    def __init__(self, server: EmbeddedServer, nc: Client, folder: Path) -> None:
        self.server, self.nc, self.file = server, nc, folder / "boards.jsonl"
        script = str(ROOT / "tests/integration/device_lab/logging_place.py")
        self.desk = ServiceProcess(
            "device_lab_scheduler",
            server.url,
            folder,
            EDGELOOP_LAB_BOARDS="0",
            EDGELOOP_LAB_LEASE_S="3.5",
            EDGELOOP_LAB_LONGEST_S="20",
            EDGELOOP_LAB_PLACE_TTL_S="5",
        )
        command = (script, server.url, "rack-1", str(self.file), *BOARDS)
        self.place = ServiceProcess("rack-1", server.url, folder, command=command)
        self.desk.start()
        self.place.start()

    async def insist(self, question: Request, answer: type[JobView] | type[Jobs] | type[Boards]) -> object:
        """Ask the desk until it answers."""
        while True:
            try:
                return await ask(self.nc, DESK_ROOT, question, answer, timeout_s=2)
            except (NobodyAnsweredError, RefusedError, nats.errors.Error, OSError):
                await asyncio.sleep(0.2)

    async def job(self, name: str) -> JobView:
        jobs = await self.insist(AskJobs(id=name), Jobs)
        assert isinstance(jobs, Jobs)
        return jobs.jobs[0]

    async def program(self, name: str) -> None:
        work = Work(procedure=name, image=DIGEST, workload=DIGEST, deadline_s=15)
        await self.submit(name, JobKind.TEST, (work,))

    async def submit(self, name: str, kind: JobKind, work: tuple[Work, ...]) -> None:
        asked = Submit(id=name, project="gait", kind=kind, demands=("any",), work=work, holder="ann", limit_s=20)
        await self.insist(asked, JobView)

    async def person(self, name: str) -> None:
        """Renew and write until killed. The token is written, whether it still holds or not."""
        await self.submit(name, JobKind.RESERVATION, ())
        held: tuple[HeldBoard, ...] = ()
        while True:
            held = held or (await self.job(name)).held
            for one in held:
                touch = Touch(board=one.board, token=one.token, write=f"token {one.token}".encode())
                await self.try_once(f"{PLACE_ROOT}.{one.place}", touch, Done)
                await self.try_once(DESK_ROOT, Renew(board=one.board, token=one.token), HeldBoard)
            await asyncio.sleep(0.1)

    async def try_once(self, root: str, question: Request, answer: type[Done] | type[HeldBoard]) -> None:
        try:
            await ask(self.nc, root, question, answer, timeout_s=1)
        except (NobodyAnsweredError, RefusedError, nats.errors.Error, OSError):
            return  # the next time

    async def ended(self) -> Counter[str]:
        """Read the events of the stream: jobs by how often their end was said."""
        stream = self.nc.jetstream()
        last = (await stream.stream_info("EVENTS")).state.last_seq
        said: Counter[str] = Counter()
        for number in range(1, last + 1):
            message = await stream.get_msg("EVENTS", number)
            assert message.subject is not None
            assert message.data is not None
            event = decode(message.subject, message.data)
            if isinstance(event.data, LabJobEnded):
                said[event.data.job] += 1
        return said


@pytest.fixture
def bench(nats_server: EmbeddedServer, nc: Client, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(nats_server, nc, tmp_path)
    yield bench
    for process in (bench.desk, bench.place):
        if process.running:
            process.stop(signal.SIGKILL)


@pytest.mark.slow
async def test_real_processes_killed_at_random_give_no_board_two_holders_and_end_every_job_once(bench: Bench) -> None:
    chance = random.Random(4)
    await eventually(lambda: bench.file.exists() and len(bench.file.read_text()) > 0)  # the canaries run
    clients: list[asyncio.Task[None]] = []
    names: list[str] = []
    for turn, victim in enumerate(chance.sample(VICTIMS, len(VICTIMS))):
        for kind in ("program", "person", "program"):
            names.append(f"{kind}-{turn}-{len(names)}")
            doing = bench.program(names[-1]) if kind == "program" else bench.person(names[-1])
            clients.append(asyncio.create_task(doing))
        await eventually(lambda: {"token", "program"} <= who_came(bench.file))  # the first turn waits for that
        await asyncio.sleep(chance.uniform(0.3, 1.5))
        if victim == "client":
            chance.choice(clients).cancel()
        elif victim == "broker":
            bench.server.kill()
            bench.server.start()
        else:
            process = bench.desk if victim == "desk" else bench.place
            process.stop(signal.SIGKILL)
            process.start()
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)

    async def all_ended() -> tuple[JobView, ...]:
        jobs = await bench.insist(AskJobs(ended=True, limit=500), Jobs)
        assert isinstance(jobs, Jobs)
        return jobs.jobs if all(job.state is JobState.ENDED for job in jobs.jobs) else ()

    jobs = await eventually(all_ended, within_s=120)
    assert {job.id for job in jobs} <= set(names)
    assert VerdictKind.FAILED not in {job.verdict for job in jobs}
    assert await bench.ended() == Counter(job.id for job in jobs)
    boards = await bench.insist(AskBoards(), Boards)
    assert isinstance(boards, Boards)
    assert {board.name for board in boards.boards} == set(BOARDS)
    nobody_came_late_or_to_a_board_in_use(bench.file)


def who_came(file: Path) -> set[str]:
    """Return whose bytes reached boards: of a person's token, of a program."""
    return {
        json.loads(line)["who"].replace("-", " ").split(" ")[0]
        for line in file.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    }


def nobody_came_late_or_to_a_board_in_use(file: Path) -> None:
    user: dict[str, tuple[str, int]] = {}
    newest: dict[str, int] = {}
    for line in map(json.loads, file.read_text().splitlines()):
        board, who, agent = line["board"], line["who"], line["agent"]
        if not who:
            user.pop(board, None)
            continue
        before, of_agent = user.get(board, (who, agent))
        assert before == who or of_agent != agent, f"{board}: {who} while {before} was there"
        user[board] = who, agent
        if who.startswith("token "):
            token = int(who.removeprefix("token "))
            assert token >= newest.get(board, 0), f"{board}: {who} after {newest[board]}"
            newest[board] = token
