"""What a job came to, as a document that anybody may keep: signed where the lab has a key."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from pydantic import TypeAdapter, ValidationError

from services.device_lab_scheduler.domain.records import JobRecord, Try
from shared.events import Check
from shared.events.lab import BoardClass, VerdictKind
from shared.interop.results import JobResult
from shared.procedures import staging
from shared.procedures.staging import BoardRun
from shared.releases.gates import explain, passes

Document: TypeAlias = Callable[[JobResult], bytes]
"""Makes a document of a result: `signed_result` with a key, or `unsigned_result`."""

_CHECKS: Final = TypeAdapter(tuple[Check, ...])


@dataclass(frozen=True, slots=True)
class Found:
    """A result, and the board that it is of."""

    demand: int
    board: str
    result: JobResult


def results_of(job: JobRecord, kinds: Mapping[str, tuple[str, BoardClass]]) -> list[Found]:
    """Return a result for each demand of a job that a program worked on. `kinds`: of boards, by their names."""
    assert job.verdict is not None, "a job without a verdict has no result"
    last = {one.demand: one for one in job.tries}
    return [
        Found(demand, one.board, result_of(job, one, *kinds[one.board]))
        for demand, one in sorted(last.items())
        if job.work and not _judged_elsewhere(job, demand)
    ]


def _judged_elsewhere(job: JobRecord, demand: int) -> bool:
    judges = job.verdict is not VerdictKind.INFRASTRUCTURE
    # Its gates are the release's: whoever ordered it judges, and writes its result.
    return judges and job.work[demand].procedure == staging.NAME


def result_of(job: JobRecord, one: Try, kind: str, board_class: BoardClass) -> JobResult:
    """Return what one demand of an ended job came to on the board where it was tried last."""
    assert job.verdict is not None, "a job without a verdict has no result"
    assert job.ended_s is not None, "a job with a verdict has ended"
    work = job.work[one.demand]
    report = _report(one.report)
    figures = report.get("figures")
    counted = (figures if isinstance(figures, dict) else report).get("instructions")
    return JobResult(
        job=job.id,
        project=job.job.project,
        board=kind,
        board_class=board_class,
        digest=work.release or work.image,
        numerics=work.numerics,
        toolchain=work.toolchain,
        verdict=job.verdict,
        finished=datetime.fromtimestamp(job.ended_s, UTC),
        seconds=round(one.ended_s - one.began_s, 3),
        instructions=counted if isinstance(counted, int) and counted > 0 else None,
        checks=_checks(report),
        reason=job.reason,
    )


def staged_result(job: JobRecord, run: BoardRun, board: str, checks: Sequence[Check]) -> JobResult:
    """Return what a staging came to, judged by the gates of its release."""
    judged = result_of(job, job.tries[-1], board, BoardClass.EMULATED)
    flaky = judged.verdict is VerdictKind.FLAKY
    passed = VerdictKind.FLAKY if flaky else VerdictKind.PASSED
    return replace(
        judged,
        verdict=passed if passes(checks) else VerdictKind.FAILED,
        instructions=run.instructions or None,
        checks=tuple(checks),
        reason=explain(checks),
    )


def _report(data: bytes) -> dict[str, Any]:
    """Return a place's report; an empty one where it got as far as none, or sent something else."""
    try:
        found = json.loads(data or b"{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _checks(report: Mapping[str, Any]) -> tuple[Check, ...]:
    try:
        return _CHECKS.validate_python(report.get("checks", ()))
    except ValidationError:
        return ()
