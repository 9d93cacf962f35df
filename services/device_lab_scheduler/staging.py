"""Staging as jobs of the lab: one for each firmware of a release, under ids that a repeated order finds again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from services.device_lab_scheduler.desk import Desk
from services.device_lab_scheduler.domain.records import JobRecord, Try
from shared.events import Digest
from shared.events.lab import JobKind, VerdictKind
from shared.lab.messages import Submit, Work
from shared.procedures import Workload, staging
from shared.procedures.staging import BoardRun, read_run
from shared.procedures.workloads import MEDIA_TYPE, write_workload
from shared.releases.release import Firmware
from shared.store import Blobs

_LOOK_EVERY_S: Final = 1.0
"""Another replica may have ended a job without telling this one."""
_TIDY_UP_S: Final = 60.0
"""What a lease lasts longer than the work under it."""


class LabBrokenError(RuntimeError):
    """The lab itself failed. It says nothing about the release."""


@dataclass(frozen=True, slots=True)
class BoardJob:
    """One firmware of a release, and what to ask of it."""

    project: str
    release: Digest
    run: UUID
    firmware: Firmware
    workload: Workload


@dataclass(frozen=True, slots=True)
class Staged:
    """What a board did with one firmware, and the job that it did it in."""

    job: JobRecord
    run: BoardRun

    @property
    def last(self) -> Try:
        """The try that decided."""
        return self.job.tries[-1]


class DeskBoards:
    """The boards of the lab, behind its desk."""

    def __init__(self, desk: Desk, blobs: Blobs, *, procedure: str, deadline_s: float) -> None:
        """Args: procedure: what the ids begin with, beside the release; deadline_s: how long a board may take."""
        self._desk, self._blobs = desk, blobs
        self._procedure, self._deadline_s = procedure, deadline_s

    async def run(self, jobs: Sequence[BoardJob]) -> list[Staged]:
        """Run every firmware on a board; return what came of it, in the order of `jobs`.

        Raises:
            LabBrokenError: a job ended without a word on its firmware.
        """
        ids = [await self._submitted(job) for job in jobs]
        ended = await self._ended(ids)
        broken = [job for job in ended if job.verdict is VerdictKind.INFRASTRUCTURE]
        if broken:
            raise LabBrokenError("; ".join(f"job {job.id}: {job.reason}" for job in broken))
        return [Staged(record, _run_of(record, job.firmware.board)) for record, job in zip(ended, jobs, strict=True)]

    async def _submitted(self, job: BoardJob) -> str:
        workload = await self._blobs.put(write_workload(job.workload), media_type=MEDIA_TYPE, name="workload.npz")
        work = Work(
            procedure=staging.NAME,
            image=job.firmware.image.digest,
            workload=workload.digest,
            deadline_s=self._deadline_s,
            release=job.release,
            toolchain=job.firmware.toolchain,
            numerics=job.workload.numerics,
        )
        order = Submit(
            id=await self._id_of(job, work),
            project=job.project,
            kind=JobKind.STAGING,
            demands=(f"board = {job.firmware.board}; class = emulated",),
            limit_s=self._deadline_s + _TIDY_UP_S,
            work=(work,),
            holder="staging",
            run=job.run,
        )
        await self._desk.submit(order)
        return order.id

    async def _id_of(self, job: BoardJob, work: Work) -> str:
        """Return the id of the first job for this work that has not ended by the lab's own fault."""
        about = sha256(f"{job.project}/{self._procedure}/{work.model_dump_json()}".encode()).hexdigest()[:16]
        number = 1
        while True:
            name = f"staging-{about}-{job.firmware.board}-{number}"
            ended = (await self._desk.ended([name])).get(name)
            if ended is None or ended.verdict is not VerdictKind.INFRASTRUCTURE:
                return name
            number += 1

    async def _ended(self, ids: Sequence[str]) -> list[JobRecord]:
        while True:
            more = self._desk.ends
            found = await self._desk.ended(ids)
            if len(found) == len(ids):
                return [found[name] for name in ids]
            try:
                async with asyncio.timeout(_LOOK_EVERY_S):
                    await more.wait()
            except TimeoutError:
                continue


def _run_of(record: JobRecord, board: str) -> BoardRun:
    """Return what the deciding try reported; firmware that misbehaved reports nothing."""
    last = record.tries[-1]
    try:
        return read_run(last.report)
    except ValidationError:
        return BoardRun(board=board, fault=last.said or record.reason)
