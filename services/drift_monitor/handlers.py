"""What the drift monitor reacts to."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID
from zlib import crc32

import numpy as np

from services.drift_monitor import metrics, store
from services.drift_monitor.adapters import Baselines
from services.drift_monitor.domain import (
    Baseline,
    Memory,
    Production,
    Report,
    Tracker,
    Verdict,
    Zone,
    counts_of,
    evaluate,
    inferences_of,
    judge,
    production_for_retraining,
    remember,
    shape_problem,
    trim,
)
from shared.events import Digest, Event, derived_id
from shared.events.dataset import DatasetAdded, DatasetRole
from shared.events.drift import DriftDetected, RetrainingRequested
from shared.events.rollout import RolloutSucceeded
from shared.runtime.handlers import Emissions, InRun, Route, Transaction, handles, handles_telemetry
from shared.telemetry import DeviceReport, Telemetry, TelemetryBatch

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers need."""

    baselines: Baselines


@handles_telemetry(emits=(DriftDetected, RetrainingRequested))
async def watch_inputs(telemetry: Telemetry, deps: Deps, tx: Transaction) -> Emissions:
    """Add what devices saw to their release's window, and judge it when it is full."""
    project = telemetry.batch.project
    by_release: dict[Digest, list[Report]] = {}
    for report in _unseen(tx, telemetry.batch):
        if report.digest:
            by_release.setdefault(report.digest, []).append(_parse(report))
        else:
            _count(project, "no-release", 1)
    emissions: list[InRun] = []
    for digest, reports in by_release.items():
        emissions += await _add_to_window(tx, deps, project, digest, reports)
    return emissions


@handles(DatasetAdded, emits=(RetrainingRequested,))
async def take_production_data(event: Event[DatasetAdded], deps: Deps, tx: Transaction) -> Emissions:
    """Remember labelled rows from the field; a drift may have been waiting for them."""
    if event.data.role is not DatasetRole.PRODUCTION:
        return []
    project = event.data.project
    store.add_production(tx, project, Production(event.data.blob, event.data.rows))
    emissions: list[InRun] = []
    for digest in store.open_cohorts(tx, project):
        cohort = store.load_cohort(tx, project, digest)
        baseline = await deps.baselines.of(digest)
        if cohort.tracker.zone is Zone.DRIFT and baseline is not None:
            emissions += _request_retraining(tx, project, digest, cohort, baseline)
    return emissions


@handles(RolloutSucceeded)
async def turn_to_release(event: Event[RolloutSucceeded], _deps: Deps, tx: Transaction) -> Emissions:
    """Look only at the release that the fleet runs now."""
    project, digest = event.data.project, event.data.digest
    for other in store.open_cohorts(tx, project):
        if other != digest:
            store.save_cohort(tx, project, other, replace(store.load_cohort(tx, project, other), closed=True))
            store.forget_reports(tx, project, other)
    cohort = store.load_cohort(tx, project, digest)
    if cohort.closed:
        # The fleet came back to it: an old drift is over, its number is not used again.
        cohort = replace(cohort, tracker=Tracker(episode=cohort.tracker.episode), closed=False)
    store.save_cohort(tx, project, digest, cohort)
    metrics.DRIFTING.labels(project).set(cohort.tracker.zone is Zone.DRIFT)
    return []


ROUTES: Final[tuple[Route, ...]] = (watch_inputs, take_production_data, turn_to_release)


def drift_id_of(project: str, digest: Digest, episode: int) -> UUID:
    """Return the id of a drift, which is also the pipeline run that answers it."""
    return derived_id("drift", project, digest, episode)


def _unseen(tx: Transaction, batch: TelemetryBatch) -> list[DeviceReport]:
    """Return the reports of a batch that were not taken before, and remember them."""
    devices = sorted({report.device for report in batch.reports})
    known = store.load_memories(tx, batch.project, devices)
    memories, unseen = dict(known), []
    for report in batch.reports:
        fingerprint = crc32(report.SerializeToString(deterministic=True))
        taken = remember(memories.get(report.device, Memory()), report.sequence, fingerprint)
        if taken is None:
            _count(batch.project, "repeated", 1)
            continue
        memories[report.device], missed = taken
        metrics.MISSED.labels(batch.project).inc(missed)
        if report.inferences:
            unseen.append(report)
    store.save_memories(tx, batch.project, memories, known)
    return unseen


def _parse(report: DeviceReport) -> Report:
    return Report(
        device=report.device,
        inferences=report.inferences,
        inputs=counts_of([list(histogram.counts) for histogram in report.inputs]),
        classes=np.array(list(report.class_counts), np.int64),
    )


async def _add_to_window(
    tx: Transaction, deps: Deps, project: str, digest: Digest, reports: Sequence[Report]
) -> Sequence[InRun]:
    baseline = await deps.baselines.of(digest)
    cohort = store.load_cohort(tx, project, digest)
    if baseline is None or cohort.closed:
        _count(project, "unknown-release" if baseline is None else "closed-release", len(reports))
        return []
    problems = [problem for report in reports if (problem := shape_problem(report, baseline))]
    if problems:
        log.warning("release %s: %s", digest, problems[0], extra={"reports": len(problems)})
        _count(project, "malformed", len(problems))
    fitting = [report for report in reports if not shape_problem(report, baseline)]
    _count(project, "taken", len(fitting))
    store.add_reports(tx, project, digest, fitting)
    return _judge_window(tx, project, digest, cohort, baseline)


def _judge_window(
    tx: Transaction, project: str, digest: Digest, cohort: store.Cohort, baseline: Baseline
) -> Sequence[InRun]:
    ids, window = store.load_reports(tx, project, digest)
    verdict = evaluate(window, baseline)
    if verdict is None:
        kept = trim(window, baseline.policy)
        if len(kept) < len(window):
            store.forget_reports(tx, project, digest, up_to=ids[len(window) - len(kept) - 1])
        metrics.WAITING_INFERENCES.labels(project).set(inferences_of(kept))
        store.save_cohort(tx, project, digest, cohort)
        return []
    store.forget_reports(tx, project, digest)
    threshold = baseline.policy.psi_threshold
    tracker, drifted = judge(cohort.tracker, verdict.statistic, threshold)
    cohort = replace(cohort, tracker=tracker)
    store.save_cohort(tx, project, digest, cohort)
    metrics.WAITING_INFERENCES.labels(project).set(0)
    metrics.show(project, verdict, tracker.zone, threshold)
    _log_verdict(project, digest, verdict, tracker)
    if not drifted:
        return []
    detected = _detected(project, digest, verdict, tracker, threshold)
    return [detected, *_request_retraining(tx, project, digest, cohort, baseline)]


def _detected(project: str, digest: Digest, verdict: Verdict, tracker: Tracker, threshold: float) -> InRun:
    drift_id = drift_id_of(project, digest, tracker.episode)
    payload = DriftDetected(
        project=project,
        drift_id=drift_id,
        digest=digest,
        detector="psi",
        channel=verdict.channel,
        statistic=verdict.statistic,
        threshold=threshold,
        windows=verdict.windows,
        devices=verdict.devices,
    )
    return InRun(payload, drift_id)


def _request_retraining(
    tx: Transaction, project: str, digest: Digest, cohort: store.Cohort, baseline: Baseline
) -> Sequence[InRun]:
    """Ask for a retraining as soon as there is enough new data for it, and never twice for the same."""
    production = production_for_retraining(baseline, store.load_production(tx, project), cohort.requested)
    if not production or not store.add_request(tx, project, digest, production):
        return []
    requested = cohort.requested.union(blob.digest for blob in production)
    store.save_cohort(tx, project, digest, replace(cohort, requested=requested))
    drift_id = drift_id_of(project, digest, cohort.tracker.episode)
    payload = RetrainingRequested(project=project, drift_id=drift_id, digest=digest, production=production)
    return [InRun(payload, drift_id)]


def _count(project: str, outcome: str, reports: int) -> None:
    metrics.REPORTS.labels(project, outcome).inc(reports)


def _log_verdict(project: str, digest: Digest, verdict: Verdict, tracker: Tracker) -> None:
    log.info(
        "window judged",
        extra={
            "project": project,
            "digest": digest,
            "psi": round(verdict.statistic, 4),
            "class_psi": round(verdict.class_statistic, 4),
            "channel": verdict.channel,
            "windows": verdict.windows,
            "devices": verdict.devices,
            "zone": str(tracker.zone),
        },
    )
