"""The handlers: verdicts in SQL, and stagings on boards that only pretend."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from services.device_lab_scheduler.domain.records import JobRecord, Try
from services.device_lab_scheduler.handlers import (
    ROUTES,
    Deps,
    note_rejected_data,
    note_rejected_model,
    note_valid_data,
    note_valid_model,
    run_staging,
)
from services.device_lab_scheduler.staging import BoardJob, LabBrokenError, Staged
from services.device_lab_scheduler.store import METADATA, result_documents
from shared.bus.outcomes import Retry
from shared.emulation.emulators import Emulator
from shared.events import Check, CheckOutcome, Event, Payload, digest_of, envelop
from shared.events.lab import CandidateAccepted, CandidateRefused, RunStaging
from shared.events.validation import DataRejected, DataValidated, ModelRejected, ModelValidated
from shared.inference.tflm import tflm_outputs
from shared.interop.signed_results import read_result, unsigned_result
from shared.lab import AttemptOutcome, Job, VerdictKind
from shared.lab.messages import JobState, Work
from shared.procedures.staging import BoardRun
from shared.runtime import Emissions, Handler
from shared.store import Store
from tests.data.gestures.release import INT8, MemoryBlobs, gestures_release
from tests.tflite_models import AS_AFTER_TRAINING_ON_ZEROS

DIGEST = "sha256:" + "a" * 64
CHECKS = (
    Check(name="enough-rows", outcome=CheckOutcome.PASSED, observed="90", allowed="30"),
    Check(name="accuracy", outcome=CheckOutcome.FAILED, observed="0.5", allowed="0.8", detail="train longer"),
)
HANDLERS: dict[type[Payload], Handler] = {
    DataValidated: note_valid_data,
    DataRejected: note_rejected_data,
    ModelValidated: note_valid_model,
    ModelRejected: note_rejected_model,
}


class PretendedBoards:
    """Boards that answer what TFLM answers, and count how often they were asked."""

    def __init__(self) -> None:
        self.asked: list[Sequence[BoardJob]] = []
        self.broken = False
        self.fault = ""
        self.instructions = 1000

    async def run(self, jobs: Sequence[BoardJob]) -> list[Staged]:
        self.asked.append(jobs)
        if self.broken:
            raise LabBrokenError("a lab worker process died")
        return [Staged(self._record(job), self._answer(job)) for job in jobs]

    def _record(self, job: BoardJob) -> JobRecord:
        work = Work(
            procedure="staging",
            image=job.firmware.image.digest,
            workload=DIGEST,
            deadline_s=1,
            release=job.release,
            toolchain=job.firmware.toolchain,
        )
        attempt = Try(0, "local-1", 1, 0.0, AttemptOutcome.PASSED, ended_s=2.0)
        order = Job(f"staging-{len(self.asked)}-{job.firmware.board}", job.project)
        return JobRecord(
            order,
            work=(work,),
            state=JobState.ENDED,
            tries=(attempt,),
            verdict=VerdictKind.PASSED,
            ended_s=float(len(self.asked)),
        )

    def _answer(self, job: BoardJob) -> BoardRun:
        workload = job.workload
        assert workload.golden_input is not None
        assert workload.labels is not None
        run = BoardRun(
            board=workload.board.name,
            emulator="pretended",
            model_digest=digest_of(INT8),
            golden_output=tflm_outputs(INT8, np.frombuffer(workload.golden_input, dtype=np.int8)[None]).tobytes(),
            instructions=self.instructions,
            inputs=len(workload.inputs),
            correct=int((np.argmax(workload.expected, axis=1) == workload.labels).sum()),
            stack_bytes=100,
        )
        return replace(run, fault=self.fault)


@pytest.fixture
async def deps(tmp_path: Path) -> AsyncIterator[Deps]:
    store = Store(f"sqlite:///{tmp_path / 'lab.db'}", METADATA)
    yield Deps(MemoryBlobs(), store, PretendedBoards(), Emulator.UNICORN, unsigned_result)
    store.close()


def event(payload: Payload, run_id: UUID) -> Event[Payload]:
    return envelop(payload, event_id=uuid4(), source="test", time=datetime.now(UTC), correlation_id=run_id)


async def say(deps: Deps, run_id: UUID, *payloads: Payload) -> list[Payload]:
    """Hand the payloads to their handlers, each in a transaction of its own."""
    said: list[Payload] = []
    for payload in payloads:
        async with deps.store.transaction() as tx:
            emissions: Emissions = await HANDLERS[type(payload)].call(event(payload, run_id), deps, tx)
        said += [emission for emission in emissions if isinstance(emission, Payload)]
    return said


async def stage(deps: Deps, digest: str, project: str = "acme-gestures") -> CandidateAccepted | CandidateRefused:
    order = RunStaging(project=project, receiver="device-lab-scheduler", digest=digest)
    (said,) = await run_staging.call(event(order, uuid4()), deps)
    assert isinstance(said, CandidateAccepted | CandidateRefused)
    return said


GOOD = (
    DataValidated(project="gait", digest=DIGEST, checks=CHECKS[:1]),
    ModelValidated(project="gait", digest=DIGEST, checks=CHECKS[:1]),
)
BAD = (
    DataRejected(project="gait", digest=DIGEST, checks=CHECKS),
    ModelRejected(project="gait", digest=DIGEST, checks=CHECKS),
)


async def test_both_verdicts_in_any_order_and_repeated_give_one_order(deps: Deps) -> None:
    for order in permutations([*GOOD, *GOOD]):
        assert await say(deps, uuid4(), *order) == [
            RunStaging(project="gait", receiver="device-lab-scheduler", digest=DIGEST)
        ]


async def test_a_rejection_is_refused_once_and_names_what_failed(deps: Deps) -> None:
    (refused,) = await say(deps, uuid4(), BAD[1], BAD[0], *GOOD, *BAD)
    assert isinstance(refused, CandidateRefused)
    assert refused.reason == (
        "Data rejected: accuracy: 0.5, allowed 0.8: train longer. "
        "Model rejected: accuracy: 0.5, allowed 0.8: train longer"
    )
    assert refused.checks == (CHECKS[1], CHECKS[1])


async def test_runs_and_releases_do_not_mix(deps: Deps) -> None:
    one, other = uuid4(), uuid4()
    another_digest = GOOD[1].model_copy(update={"digest": "sha256:" + "b" * 64})
    assert await say(deps, one, GOOD[0], another_digest) == []
    assert await say(deps, other, GOOD[1]) == []
    assert len(await say(deps, other, GOOD[0])) == 1
    assert len(await say(deps, one, GOOD[1])) == 1


async def test_every_emission_is_declared(deps: Deps) -> None:
    declared = {route.consumes: route.emits for route in ROUTES if isinstance(route, Handler)}
    for first in (*GOOD, *BAD):
        for second in (*GOOD, *BAD):
            for said in await say(deps, uuid4(), first, second):
                assert type(said) in declared[type(second)]


async def test_a_release_that_passes_on_its_boards_is_accepted(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    digest, release = gestures_release(deps.blobs)
    accepted = await stage(deps, digest)
    assert isinstance(accepted, CandidateAccepted), accepted
    assert accepted.digest == digest
    assert isinstance(deps.boards, PretendedBoards)
    ((job,),) = deps.boards.asked
    assert (job.firmware, job.release) == (release.firmware[0], digest)


async def test_the_same_release_in_another_run_is_not_run_again(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    assert isinstance(deps.boards, PretendedBoards)
    digest, _ = gestures_release(deps.blobs)
    assert await stage(deps, digest) == await stage(deps, digest)
    assert len(deps.boards.asked) == 1


async def test_a_refusal_is_kept_too(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    assert isinstance(deps.boards, PretendedBoards)
    digest, _ = gestures_release(deps.blobs)
    deps.boards.fault = "test row 3: unmapped read at 0x40009000, pc 0x00010344"
    first, second = await stage(deps, digest), await stage(deps, digest)
    assert isinstance(first, CandidateRefused)
    assert "cortex-m4: test row 3" in first.reason
    assert first == second
    assert len(deps.boards.asked) == 1


async def test_another_emulator_tests_again(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    assert isinstance(deps.boards, PretendedBoards)
    digest, _ = gestures_release(deps.blobs)
    await stage(deps, digest)
    await stage(replace(deps, emulator=Emulator.QEMU), digest)
    assert len(deps.boards.asked) == 2


async def test_a_broken_lab_asks_for_a_retry_and_refuses_nothing(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    assert isinstance(deps.boards, PretendedBoards)
    digest, _ = gestures_release(deps.blobs)
    deps.boards.broken = True
    with pytest.raises(Retry, match="worker process died"):
        await stage(deps, digest)
    deps.boards.broken = False
    assert isinstance(await stage(deps, digest), CandidateAccepted)


async def test_a_model_over_which_tflm_aborts_is_refused_and_the_next_order_is_served(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    hostile, _ = gestures_release(deps.blobs, int8=AS_AFTER_TRAINING_ON_ZEROS)
    sound, _ = gestures_release(deps.blobs)
    refused = await stage(deps, hostile)
    assert isinstance(refused, CandidateRefused)
    assert refused.reason.startswith("runs-in-reference: TFLM ends with signal 6 (SIGABRT) on model sha256:")
    assert await stage(deps, hostile) == refused
    assert isinstance(await stage(deps, sound), CandidateAccepted)


async def test_each_staging_leaves_a_result_and_growth_is_held_against_the_one_before(deps: Deps) -> None:
    assert isinstance(deps.blobs, MemoryBlobs)
    assert isinstance(deps.boards, PretendedBoards)
    stagings = [(None, 0.88, 1000, True), (None, 0.89, 1100, True), (0.001, 0.9, 1200, False), (0.5, 0.9, 1300, True)]
    for gate, accuracy, count, accepted in stagings:
        deps.boards.instructions = count
        digest, _ = gestures_release(deps.blobs, gates={"accuracy": accuracy, "instructions_growth": gate})
        said = await stage(deps, digest)
        assert isinstance(said, CandidateAccepted if accepted else CandidateRefused)
        (growth,) = (check for check in said.checks if check.name == "instructions-history-cortex-m4")
        assert f"{count:,} instructions" in growth.observed
    async with deps.store.transaction() as tx:
        kept = [read_result(document, ()).result for document in result_documents(tx, "acme-gestures", "cortex-m4", 9)]
    assert [(one.instructions, one.verdict) for one in kept] == [
        (1300, VerdictKind.PASSED),
        (1200, VerdictKind.FAILED),
        (1100, VerdictKind.PASSED),
        (1000, VerdictKind.PASSED),
    ]
    assert kept[2].checks[-1].detail.startswith("it grew")
