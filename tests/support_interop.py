"""Results of jobs, as the tests of reports and history need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.events.lab import BoardClass, Numerics
from shared.interop.results import JobResult
from shared.lab import VerdictKind

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


def job_result(day: int = 0, **changes: Any) -> JobResult:
    parts: dict[str, Any] = {
        "job": f"job-{day}",
        "project": "kws",
        "board": "cortex-m4",
        "board_class": BoardClass.EMULATED,
        "digest": "sha256:" + "5a" * 32,
        "numerics": Numerics.TFLM,
        "toolchain": "zig 0.17",
        "verdict": VerdictKind.PASSED,
        "finished": START + timedelta(days=day),
        "seconds": 12.5,
        "instructions": 1_000_000,
    }
    return JobResult(**(parts | changes))
