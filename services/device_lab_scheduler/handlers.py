"""Joins the validators' verdicts, then runs the release on every board it was built for."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from services.device_lab_scheduler.domain.acceptance import Expectation, judge_board, judge_candidate, not_runnable
from services.device_lab_scheduler.domain.candidates import Refuse, Stage, Validator, Verdict, join
from services.device_lab_scheduler.domain.records import JobRecord
from services.device_lab_scheduler.growth import judge_growth
from services.device_lab_scheduler.metrics import count_infrastructure_failure, count_result, count_runs
from services.device_lab_scheduler.results import Document, Found, staged_result
from services.device_lab_scheduler.staging import BoardJob, LabBrokenError, Staged
from services.device_lab_scheduler.store import (
    find_result,
    keep_document,
    keep_result,
    load_candidate,
    result_documents,
    save_candidate,
)
from shared.boards import image_board
from shared.bus.outcomes import Retry
from shared.emulation.emulators import Emulator
from shared.events import Check, Event
from shared.events.lab import CandidateAccepted, CandidateRefused, RunStaging
from shared.events.validation import DataRejected, DataValidated, ModelRejected, ModelValidated
from shared.inference import InferenceError, ReferenceUnavailableError
from shared.inference.reference import reference_outputs
from shared.procedures import Workload
from shared.releases.datasets import read_dataset
from shared.releases.gates import not_passed
from shared.releases.histograms import quantise
from shared.releases.manifest import Budget
from shared.releases.release import Firmware, Release
from shared.runtime.handlers import Emissions, Route, Transaction, handles, works_on
from shared.store import Blobs, Store, load_release

RECEIVER: Final = "device-lab-scheduler"

PROCEDURE: Final = "staging-1"
"""Grows when the tests change: results of another procedure are not reused."""

_HISTORY: Final = 200
"""Results of a board that are looked through for the last accepted one."""

_LAB_BROKEN_DELAY_S: Final = 15.0
_RUNTIME_MISSING_DELAY_S: Final = 60.0


class Boards(Protocol):
    """Where firmware is run."""

    async def run(self, jobs: Sequence[BoardJob]) -> list[Staged]:
        """Run every job. Raises LabBrokenError when the lab itself fails."""


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    blobs: Blobs
    store: Store
    boards: Boards
    emulator: Emulator
    document: Document
    """Makes what is kept of a job's result."""


AnyVerdict = DataValidated | DataRejected | ModelValidated | ModelRejected


@handles(DataValidated, emits=(RunStaging, CandidateRefused))
async def note_valid_data(event: Event[DataValidated], _deps: Deps, tx: Transaction) -> Emissions:
    """The data may be trusted."""
    return _join(event, Verdict(Validator.DATA, passed=True), tx)


@handles(DataRejected, emits=(CandidateRefused,))
async def note_rejected_data(event: Event[DataRejected], _deps: Deps, tx: Transaction) -> Emissions:
    """The data may not be trusted."""
    return _join(event, _rejection(Validator.DATA, event.data), tx)


@handles(ModelValidated, emits=(RunStaging, CandidateRefused))
async def note_valid_model(event: Event[ModelValidated], _deps: Deps, tx: Transaction) -> Emissions:
    """The model reached its gates."""
    return _join(event, Verdict(Validator.MODEL, passed=True), tx)


@handles(ModelRejected, emits=(CandidateRefused,))
async def note_rejected_model(event: Event[ModelRejected], _deps: Deps, tx: Transaction) -> Emissions:
    """The model did not reach its gates."""
    return _join(event, _rejection(Validator.MODEL, event.data), tx)


@works_on(RunStaging, emits=(CandidateAccepted, CandidateRefused), concurrency=4, key=lambda order: order.digest)
async def run_staging(event: Event[RunStaging], deps: Deps) -> Emissions:
    """Test the release on boards, unless the very same release was tested before."""
    order = event.data
    procedure = f"{PROCEDURE}/{deps.emulator}"
    async with deps.store.transaction() as tx:
        known = find_result(tx, order.digest, procedure)
    if known is not None:
        count_result(known, reused=True)
        return [known.model_copy(update={"project": order.project})]
    release = await load_release(deps.blobs, order.digest)
    try:
        jobs = await _jobs(release, event, deps.blobs)
    except InferenceError as error:
        return [await _kept(not_runnable(order.project, order.digest, str(error)), procedure, deps)]
    except ReferenceUnavailableError as error:
        raise Retry(str(error), delay_s=_RUNTIME_MISSING_DELAY_S) from error
    try:
        staged = await deps.boards.run(jobs)
    except LabBrokenError as error:
        count_infrastructure_failure()
        raise Retry(str(error), delay_s=_LAB_BROKEN_DELAY_S) from error
    count_runs(one.run for one in staged)
    expectations = [_expectation(release, firmware) for firmware in release.firmware]
    tested = list(zip(staged, expectations, strict=True))
    growth, documents = await _results(order, release, tested, deps)
    pairs = [(one.run, expected) for one, expected in tested]
    result = judge_candidate(order.project, order.digest, pairs, growth)
    return [await _kept(result, procedure, deps, documents)]


ROUTES: Final[tuple[Route, ...]] = (
    note_valid_data,
    note_rejected_data,
    note_valid_model,
    note_rejected_model,
    run_staging,
)


def _join(event: Event[AnyVerdict], verdict: Verdict, tx: Transaction) -> Emissions:
    project, digest, run_id = event.data.project, event.data.digest, event.correlationid
    before = load_candidate(tx, run_id, digest)
    after, decision = join(before, verdict)
    if after is not before:
        save_candidate(tx, run_id, digest, after)
    match decision:
        case Stage():
            return [RunStaging(project=project, receiver=RECEIVER, digest=digest)]
        case Refuse(reason, checks):
            return [CandidateRefused(project=project, digest=digest, reason=reason, checks=checks)]
        case None:
            return []


def _rejection(validator: Validator, said: DataRejected | ModelRejected) -> Verdict:
    return Verdict(validator, passed=False, failed=not_passed(said.checks))


async def _kept(
    result: CandidateAccepted | CandidateRefused,
    procedure: str,
    deps: Deps,
    documents: Sequence[tuple[JobRecord, Found]] = (),
) -> CandidateAccepted | CandidateRefused:
    count_result(result, reused=False)
    async with deps.store.transaction() as tx:
        keep_result(tx, procedure, result)
        for job, found in documents:
            keep_document(tx, job, found, deps.document(found.result))
    return result


async def _jobs(release: Release, event: Event[RunStaging], blobs: Blobs) -> list[BoardJob]:
    test = read_dataset(await blobs.get(release.datasets.test.digest), name="test")
    windows = quantise(test.x, release.model.input)
    model = await blobs.get(release.model.int8.digest)
    expected = await asyncio.to_thread(reference_outputs, release.manifest.model.numerics, model, windows)
    inputs = np.ascontiguousarray(windows).reshape(len(windows), -1)
    return [
        BoardJob(
            event.data.project,
            event.data.digest,
            event.correlationid,
            firmware,
            Workload(
                board=image_board(firmware.board),
                model_digest=release.model.int8.digest,
                inputs=inputs,
                expected=expected.reshape(len(inputs), -1),
                labels=test.y,
                numerics=release.manifest.model.numerics,
                static_ram_bytes=firmware.ram_bytes,
                accuracy=release.manifest.gates.accuracy,
                ram_bytes=release.manifest.budgets.get(firmware.board, Budget()).ram_bytes,
                golden_input=release.golden.input,
            ),
        )
        for firmware in release.firmware
    ]


async def _results(
    order: RunStaging, release: Release, tested: Sequence[tuple[Staged, Expectation]], deps: Deps
) -> tuple[list[Check], list[tuple[JobRecord, Found]]]:
    """Return how instructions grew, and the result of each firmware with that among its checks."""
    growth: list[Check] = []
    documents: list[tuple[JobRecord, Found]] = []
    for one, expected in tested:
        checks = judge_board(one.run, expected)
        result = staged_result(one.job, one.run, expected.board.name, checks)
        async with deps.store.transaction() as tx:
            before = result_documents(tx, order.project, expected.board.name, _HISTORY)
        check = judge_growth(before, result, release.manifest.gates.instructions_growth)
        if check is not None:
            growth.append(check)
            result = staged_result(one.job, one.run, expected.board.name, (*checks, check))
        documents.append((one.job, Found(0, one.last.board, result)))
    return growth, documents


def _expectation(release: Release, firmware: Firmware) -> Expectation:
    return Expectation(
        board=image_board(firmware.board),
        budget=release.manifest.budgets.get(firmware.board, Budget()),
        gates=release.manifest.gates,
        model_digest=release.model.int8.digest,
        golden_output=release.golden.output,
        flash_bytes=firmware.flash_bytes,
        static_ram_bytes=firmware.ram_bytes,
        numerics=release.manifest.model.numerics,
    )
