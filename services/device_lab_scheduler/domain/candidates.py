"""Joins the verdicts of the two validators into one decision a pipeline run.

The verdicts come in any order and possibly again. A repeated push gives the same release in a new run, hence one
candidate a run and digest.
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeAlias

from shared.events import Check
from shared.releases.gates import explain


class Validator(StrEnum):
    """Whose verdict it is."""

    DATA = "data"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one validator said; `failed` holds the checks that did not pass."""

    validator: Validator
    passed: bool
    failed: tuple[Check, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """Decision: test the release on boards."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Decision: no board sees the release."""

    reason: str
    checks: tuple[Check, ...]


Decision: TypeAlias = Stage | Refuse


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a release in a run."""

    data: Verdict | None = None
    model: Verdict | None = None


NEW: Final = Candidate()


def join(candidate: Candidate, verdict: Verdict) -> tuple[Candidate, Decision | None]:
    """Add a verdict. The decision comes once: with the verdict that completes the pair.

    A validator's first verdict counts; later ones in the same run are repeats and change nothing. A rejection waits for
    the other verdict too, so that the author reads everything that is wrong at once.
    """
    if (candidate.data if verdict.validator is Validator.DATA else candidate.model) is not None:
        return candidate, None
    joined = (
        replace(candidate, data=verdict) if verdict.validator is Validator.DATA else replace(candidate, model=verdict)
    )
    if joined.data is None or joined.model is None:
        return joined, None
    return joined, _decide((joined.data, joined.model))


def _decide(verdicts: tuple[Verdict, ...]) -> Decision:
    rejected = [verdict for verdict in verdicts if not verdict.passed]
    if not rejected:
        return Stage()
    return Refuse(
        reason=". ".join(
            f"{verdict.validator.capitalize()} rejected: {explain(verdict.failed)}" for verdict in rejected
        ),
        checks=tuple(check for verdict in rejected for check in verdict.failed),
    )
