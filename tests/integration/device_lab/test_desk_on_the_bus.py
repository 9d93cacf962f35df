"""The desk and its place as a process on a real bus, killed in the middle: leases live on, jobs end once."""

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from nats.aio.client import Client

from shared.artifacts.keys import load_public_key
from shared.boards import image_board
from shared.bus import EmbeddedServer
from shared.bus.exchanges import NobodyAnsweredError, RefusedError, ask
from shared.events import Event, Payload, digest_of
from shared.events.catalogue import decode
from shared.events.lab import BoardClass, JobKind, LabJobEnded, VerdictKind
from shared.inference.tflm import tflm_outputs
from shared.interop.signed_results import Signature, read_result
from shared.lab.messages import (
    DESK_ROOT,
    PLACE_ROOT,
    AskBoards,
    AskHistory,
    AskJobs,
    Boards,
    Done,
    HeldBoard,
    History,
    Jobs,
    JobState,
    JobView,
    Release,
    Renew,
    Submit,
    Touch,
    Work,
)
from shared.procedures import Effort, Workload
from shared.procedures.workloads import write_workload
from shared.store import Blobs
from tests.data.gestures.release import INT8, MemoryBlobs
from tests.integration.device_lab.workshop import Workshop
from tests.support import ServiceProcess, eventually


@pytest.fixture
def service(nats_server: EmbeddedServer, tmp_path: Path, workshop: Workshop) -> Iterator[ServiceProcess]:
    key = str(workshop.folder / "signing.pem")
    process = ServiceProcess("device_lab_scheduler", nats_server.url, tmp_path, EDGELOOP_LAB_SIGNING_KEY=key)
    process.start()
    yield process
    process.stop(signal.SIGTERM)


async def job(nc: Client, name: str) -> JobView | None:
    """Return a job; None while nobody answers."""
    try:
        jobs = (await ask(nc, DESK_ROOT, AskJobs(id=name), Jobs)).jobs
    except NobodyAnsweredError:
        return None
    return jobs[0] if jobs else None


async def held(nc: Client, name: str) -> HeldBoard:
    """Wait until a job has its board."""

    async def look() -> HeldBoard | None:
        view = await job(nc, name)
        return view.held[0] if view is not None and view.held else None

    found = await eventually(look)
    assert found is not None
    return found


async def boards(nc: Client) -> Boards | None:
    try:
        found = await ask(nc, DESK_ROOT, AskBoards(), Boards)
    except NobodyAnsweredError:
        return None
    return found if found.boards and all(board.live for board in found.boards) else None


async def test_a_persons_lease_outlives_the_desk_and_its_place(nc: Client, service: ServiceProcess) -> None:
    there = await eventually(lambda: boards(nc))
    assert there is not None
    assert {board.board_class for board in there.boards} == {BoardClass.EMULATED}
    order = Submit(id="r", project="gait", kind=JobKind.RESERVATION, demands=("core = cortex-m4",), holder="ann")
    await ask(nc, DESK_ROOT, order, JobView)
    before = await held(nc, "r")
    service.stop(signal.SIGKILL)
    service.start()
    after = await held(nc, "r")
    assert (after.board, after.token) == (before.board, before.token)
    renewed = await ask(nc, DESK_ROOT, Renew(board=after.board, token=after.token), HeldBoard)
    assert renewed.left_s > 50
    place = f"{PLACE_ROOT}.{after.place}"
    with pytest.raises(RefusedError, match="no firmware yet"):
        await ask(nc, place, Touch(board=after.board, token=after.token, write=b"hi"), Done)
    with pytest.raises(RefusedError, match="found token"):
        await ask(nc, place, Touch(board=after.board, token=after.token - 1, write=b"late"), Done)
    await ask(nc, DESK_ROOT, Release(board=after.board, token=after.token), Done)

    async def passed() -> bool:
        view = await job(nc, "r")
        return view is not None and view.verdict is VerdictKind.PASSED

    await eventually(passed)


async def test_a_job_during_which_the_service_is_killed_ends_once_with_a_signed_result(
    nc: Client, service: ServiceProcess, workshop: Workshop
) -> None:
    said: dict[str, Event[Payload]] = {}

    async def note(message: object) -> None:
        event = decode(message.subject, message.data)  # type: ignore[attr-defined]
        said[str(event.id)] = event

    await nc.subscribe("edgeloop.evt.gait.lab.job_ended.v1", cb=note)
    await eventually(lambda: boards(nc))
    await ask(nc, DESK_ROOT, await endurance(nc, workshop), JobView)

    async def running() -> bool:
        view = await job(nc, "e")
        return view is not None and bool(view.held)

    await eventually(running)
    service.stop(signal.SIGKILL)
    service.start()

    async def ended() -> JobView | None:
        view = await job(nc, "e")
        return view if view is not None and view.state is JobState.ENDED else None

    view = await eventually(ended)
    assert view is not None
    assert (view.verdict, view.reason) == (VerdictKind.PASSED, "")
    assert [attempt.outcome for attempt in view.attempts][-1:] == ["passed"]
    ends = [event.data for event in said.values() if isinstance(event.data, LabJobEnded)]
    assert [(end.job, end.verdict) for end in ends] == [("e", VerdictKind.PASSED)]
    (document,) = (await ask(nc, DESK_ROOT, AskHistory(project="gait"), History)).results
    read = read_result(document.encode(), [load_public_key(workshop.folder / "signing.pub.pem")])
    assert (read.signature, read.result.job) == (Signature.VERIFIED, "e")


async def endurance(nc: Client, workshop: Workshop) -> Submit:
    """Return a job of a few seconds."""
    kept = MemoryBlobs()
    firmware = workshop.build(kept, "cortex-m4")
    inputs = np.zeros((1, 60), np.int8)
    workload = Workload(
        board=image_board("cortex-m4"),
        model_digest=digest_of(INT8),
        inputs=inputs,
        expected=tflm_outputs(INT8, inputs.reshape(1, 20, 3)).reshape(1, -1),
    )
    blobs = Blobs(nc.jetstream())
    image = await blobs.put(kept.kept[firmware.image.digest], media_type="application/octet-stream")
    asked = await blobs.put(write_workload(workload, Effort(inferences=300)), media_type="application/octet-stream")
    work = Work(procedure="endurance", image=image.digest, workload=asked.digest, deadline_s=120)
    return Submit(id="e", project="gait", kind=JobKind.TEST, demands=("board = cortex-m4",), work=(work,))
