"""Commands that read and change what is on the bus, against a real server."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from nats.aio.client import Client

from edgeloop.cli import execute
from edgeloop.events import follow, history
from shared.bus import MESSAGE_ID, Delivery, EmbeddedServer, Publisher
from shared.bus.deadletters import dead_letter_of
from shared.events import Payload, Trigger, derived_id
from shared.events.artifact import ArtifactBuilt, BuildFailed, BuildStage
from shared.events.catalogue import decode
from shared.events.dataset import DatasetAdded
from shared.events.source import Forge, SourcePushed
from shared.store import Blobs

COMMIT = "ab" * 20
RUN, OTHER_RUN = derived_id("one"), derived_id("other")
PUSHED = SourcePushed(
    project="acme-gait",
    repository="file:///r.git",
    ref="refs/heads/main",
    commit=COMMIT,
    forge=Forge.GITHUB,
    delivery="d",
)
FAILED = BuildFailed(
    project="acme-gait", commit=COMMIT, trigger=Trigger.PUSH, stage=BuildStage.TRAIN, reason="train.py: exit code 1"
)
TYPES = (SourcePushed, BuildFailed, ArtifactBuilt)


class Cli:
    """Runs command lines in a thread: they have an event loop of their own."""

    def __init__(self, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self._url = url
        self._capsys = capsys

    async def __call__(self, *arguments: str) -> tuple[int, Any]:
        code = await asyncio.to_thread(execute, [*arguments, "--nats-url", self._url, "--json"])
        return code, json.loads(self._capsys.readouterr().out)


@pytest.fixture
def cli(nats_server: EmbeddedServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(nats_server.url, capsys)


async def say(nc: Client, payload: Payload, run_id: UUID, *, after_s: float = 0) -> None:
    time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=after_s)
    event_id = derived_id(run_id, payload.TYPE)
    await Publisher(nc, "test").publish(payload, event_id=event_id, run_id=run_id, time=time)


async def test_runs_are_listed_and_shown_by_the_first_digits_of_their_id(cli: Cli, nc: Client) -> None:
    assert await cli("run", "list") == (0, [])
    await say(nc, PUSHED, RUN)
    await say(nc, PUSHED, OTHER_RUN, after_s=1)
    code, runs = await cli("run", "list")
    assert (code, [run["run_id"] for run in runs]) == (0, [str(RUN), str(OTHER_RUN)])
    code, run = await cli("run", "show", str(RUN)[:8])
    assert (code, run["outcome"], run["commit"]) == (0, "running", COMMIT)
    code, run = await cli("run", "show")
    assert run["run_id"] == str(OTHER_RUN)


async def test_an_unknown_run_is_bad_input(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    code, answer = await cli("run", "show", "ffff-no-such-run")
    assert code == 2
    assert str(RUN)[:8] in answer["error"]


async def test_a_failed_run_is_exit_code_1_with_its_reason(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    await say(nc, FAILED, RUN, after_s=2)
    code, run = await cli("run", "show")
    assert (code, run["reason"]) == (1, "train: train.py: exit code 1")


async def test_watching_ends_when_the_run_ends(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    watching = asyncio.create_task(cli("run", "watch"))
    await asyncio.sleep(0.5)
    assert not watching.done()
    await say(nc, FAILED, RUN, after_s=2)
    code, run = await watching
    assert (code, run["outcome"]) == (1, "failed")


async def test_a_run_that_was_begun_a_moment_ago_is_waited_for(cli: Cli, nc: Client) -> None:
    watching = asyncio.create_task(cli("run", "watch", str(RUN)[:8]))
    await asyncio.sleep(0.7)
    await say(nc, FAILED, RUN)
    code, run = await watching
    assert (code, run["run_id"]) == (1, str(RUN))
    assert (await cli("run", "watch", "ffff-no-such-run"))[0] == 2


async def test_watching_gives_up_when_asked_to(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    code, run = await cli("run", "watch", "--timeout", "1")
    assert (code, run["outcome"]) == (3, "running")


async def test_following_goes_on_after_the_server_was_killed(nc: Client, nats_server: EmbeddedServer) -> None:
    await say(nc, PUSHED, RUN)
    seen: list[str] = []
    async with asyncio.timeout(60):
        async for batch in follow(nc, TYPES):
            seen += [event.type for event in batch.events]
            if len(seen) == 1 and batch.events:
                await asyncio.to_thread(nats_server.kill)
                await asyncio.to_thread(nats_server.start)
                await say(nc, FAILED, RUN)
            if len(seen) == 2:
                break
    assert seen == ["dev.edgeloop.source.pushed.v1", "dev.edgeloop.artifact.build_failed.v1"]


async def test_following_ends_when_it_is_cancelled_however_much_is_going_on(nc: Client) -> None:
    async def read() -> None:
        async for _ in follow(nc, TYPES):
            pass

    quiet = asyncio.Event()

    async def chatter() -> None:
        # Ended by a flag: publishing loses cancellations in the same way.
        while not quiet.is_set():
            await nc.jetstream().publish("edgeloop.evt.acme-gait.source.pushed.v1", b"{}")

    talking = asyncio.create_task(chatter())
    ended: set[asyncio.Task[None]] = set()
    for attempt in range(40):
        reading = asyncio.create_task(read())
        await asyncio.sleep(0.01 + attempt / 5000)
        reading.cancel()
        ended |= (await asyncio.wait([reading], timeout=5))[0]
    quiet.set()
    await talking
    assert len(ended) == 40


async def test_what_this_version_cannot_read_is_left_out(nc: Client) -> None:
    await nc.jetstream().publish("edgeloop.evt.acme-gait.source.pushed.v1", b'{"newer": true}')
    await say(nc, PUSHED, RUN)
    assert [event.correlationid for event in await history(nc, TYPES)] == [RUN]


async def bury(nc: Client, number: int, body: bytes | None = None) -> None:
    """Put a dead letter where a consumer that gave up would."""
    delivery = Delivery(
        subject="edgeloop.evt.acme-gait.source.pushed.v1",
        data=body or (b'{"poison": true}' if number % 2 else b"\xff\x00"),
        headers={MESSAGE_ID: f"m-{number}"},
        stream="EVENTS",
        consumer="artifact_builder",
        stream_sequence=number,
        attempt=8,
        stored_unix_ns=1_767_225_600_000_000_000,
        reply="",
    )
    message = dead_letter_of(delivery, "cannot read it")
    await Publisher(nc, "test").publish_message(message.subject, message.body, message.message_id, message.headers)


async def test_dead_letters_are_listed_shown_replayed_and_dropped(cli: Cli, nc: Client) -> None:
    for number in (1, 2, 3):
        await bury(nc, number)
    code, letters = await cli("dlq", "ls")
    assert (code, [letter["number"] for letter in letters]) == (0, [1, 2, 3])
    code, letter = await cli("dlq", "show", "1")
    assert (letter["reason"], letter["message"], letter["consumer"]) == (
        "cannot read it",
        {"poison": True},
        "artifact_builder",
    )
    code, letter = await cli("dlq", "show", "2")
    assert letter["message"] == "ff00"
    assert await cli("dlq", "replay", "1") == (0, {"published_again": [1]})
    assert (await nc.jetstream().stream_info("EVENTS")).state.messages == 1
    assert await cli("dlq", "drop", "--all") == (0, {"dropped": [2, 3]})
    assert await cli("dlq", "ls") == (0, [])


async def test_a_run_that_a_service_gave_up_on_says_which_dead_letter(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    await say(nc, PUSHED, OTHER_RUN, after_s=1)
    await bury(nc, 1)
    stored = await nc.jetstream().get_msg("EVENTS", seq=1)
    await bury(nc, 2, stored.data)
    found = {run["run_id"]: run["dead_letters"] for run in (await cli("run", "list"))[1]}
    assert found == {str(RUN): [2], str(OTHER_RUN): []}


async def test_a_run_finds_its_dead_letter_behind_many_others(cli: Cli, nc: Client) -> None:
    await say(nc, PUSHED, RUN)
    stored = await nc.jetstream().get_msg("EVENTS", seq=1)
    for number in range(1, 121):
        await bury(nc, number)
    await bury(nc, 121, stored.data)
    assert (await cli("run", "show"))[1]["dead_letters"] == [121]


async def test_a_dead_letter_that_is_not_there_is_bad_input(cli: Cli, nc: Client) -> None:
    await bury(nc, 1)
    for action in ("show", "replay", "drop"):
        code, answer = await cli("dlq", action, "7")
        assert (code, "no dead letter 7" in answer["error"]) == (2, True)
    code, answer = await cli("dlq", "drop", "1", "7")
    assert (code, "done before it: 1" in answer["error"]) == (2, True)


def dataset_file(directory: Path, rows: int) -> Path:
    buffer = io.BytesIO()
    x = np.zeros((rows, 4, 2), np.float32)
    np.savez_compressed(buffer, x=x, y=np.zeros(rows, np.int64), group=np.arange(rows) % 3)
    file = directory / "field.npz"
    file.write_bytes(buffer.getvalue())
    return file


async def test_a_dataset_is_stored_and_announced_once(cli: Cli, nc: Client, tmp_path: Path) -> None:
    file = dataset_file(tmp_path, 6)
    code, first = await cli("data", "add", str(file), "--project", "acme-gait", "--description", "left wrist")
    assert (code, first["rows"], first["groups"], first["role"], first["duplicate"]) == (0, 6, 3, "production", False)
    _, second = await cli("data", "add", str(file), "--project", "acme-gait")
    assert second["duplicate"] is True
    message = await nc.jetstream().get_msg("EVENTS", seq=1)
    event = decode(message.subject or "", message.data or b"")
    assert isinstance(event.data, DatasetAdded)
    assert await Blobs(nc.jetstream()).get(event.data.blob.digest) == file.read_bytes()
    assert (await nc.jetstream().stream_info("EVENTS")).state.messages == 1


async def test_a_dataset_for_a_project_that_nobody_pushed_is_noted(
    nats_server: EmbeddedServer, nc: Client, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await say(nc, PUSHED, RUN)
    add = ["data", "add", str(dataset_file(tmp_path, 6)), "--nats-url", nats_server.url, "--project"]
    assert await asyncio.to_thread(execute, [*add, "acme-gate"]) == 0
    assert "nothing was ever pushed to a project acme-gate" in capsys.readouterr().err
    assert await asyncio.to_thread(execute, [*add, "acme-gait"]) == 0
    assert "nothing was ever pushed" not in capsys.readouterr().err


async def test_an_empty_dataset_is_bad_input(cli: Cli, tmp_path: Path) -> None:
    code, answer = await cli("data", "add", str(dataset_file(tmp_path, 0)), "--project", "acme-gait")
    assert (code, "no rows" in answer["error"]) == (2, True)


async def test_a_bus_without_streams_says_what_to_start(cli: Cli) -> None:
    code, answer = await cli("run", "list")
    assert (code, "EVENTS" in answer["error"], "edgeloop up" in answer["next_step"]) == (3, True, True)
