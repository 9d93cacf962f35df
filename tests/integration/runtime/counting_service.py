"""A small real service for the tests: counts pushes in SQL and answers each with one event."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import Column, MetaData, String, Table, func, insert, select

from shared.bus import Reject, Retry
from shared.events import Event, Trigger
from shared.events.artifact import BuildFailed, BuildStage
from shared.events.drift import DriftDetected
from shared.events.lab import RunStaging
from shared.events.source import SourcePushed
from shared.runtime import (
    BaseServiceSettings,
    Emissions,
    Resources,
    Service,
    Transaction,
    every,
    handles,
    handles_telemetry,
    run,
    works_on,
)
from shared.telemetry import Telemetry

METADATA = MetaData()
COUNTED = Table("counted", METADATA, Column("commit", String(64)), Column("kind", String(16)))


def _failed(event: Event[SourcePushed]) -> BuildFailed:
    return BuildFailed(
        project=event.data.project,
        commit=event.data.commit,
        trigger=Trigger.PUSH,
        stage=BuildStage.TRAIN,
        reason=event.data.delivery,
    )


@handles(SourcePushed, emits=(BuildFailed,), max_attempts=3)
async def count_push(event: Event[SourcePushed], _deps: None, tx: Transaction) -> Emissions:
    tx.execute(insert(COUNTED).values(commit=event.data.commit, kind="push"))
    match event.data.ref:
        case "refs/heads/reject":
            raise Reject("this branch is never handled")
        case "refs/heads/retry":
            raise Retry("this branch is handled later", delay_s=0.05)
        case "refs/heads/crash":
            raise ZeroDivisionError("a bug")
        case "refs/heads/undeclared":
            return [RunStaging(project="p", receiver="lab", digest="sha256:" + "0" * 64)]
    return [_failed(event)]


@works_on(BuildFailed, emits=(DriftDetected,), concurrency=2, key=lambda failed: failed.commit)
async def work_long(event: Event[BuildFailed], _deps: None) -> Emissions:
    await asyncio.sleep(0.01)
    return [
        DriftDetected(
            project=event.data.project,
            drift_id=event.id,
            digest="sha256:" + "0" * 64,
            detector=event.data.commit,
            channel=0,
            statistic=1,
            threshold=1,
            windows=1,
            devices=1,
        )
    ]


@handles_telemetry()
async def count_batch(telemetry: Telemetry, _deps: None, tx: Transaction) -> Emissions:
    tx.execute(insert(COUNTED).values(commit=str(telemetry.batch.sequence), kind="batch"))
    return []


@every(0.2)
async def note_time(now: datetime, _deps: None, tx: Transaction) -> Emissions:
    if tx.scalar(select(func.count()).where(COUNTED.c.kind == "tick")) == 0:
        tx.execute(insert(COUNTED).values(commit=now.isoformat(), kind="tick"))
    return []


@asynccontextmanager
async def no_deps(_settings: BaseServiceSettings, _resources: Resources) -> AsyncIterator[None]:
    yield None


if __name__ == "__main__":
    run(
        Service(
            name="counting_service",
            settings=BaseServiceSettings,
            deps=no_deps,
            routes=(count_push, work_long, count_batch, note_time),
            metadata=METADATA,
        )
    )
