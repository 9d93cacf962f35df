"""How gates answer, and what their answers add up to."""

import pytest

from shared.events import Check, CheckOutcome
from shared.releases.gates import not_passed, outcome, passes


@pytest.mark.parametrize(
    ("passed", "rows", "answer"),
    [
        (True, None, CheckOutcome.PASSED),
        (False, None, CheckOutcome.FAILED),
        (True, 3, CheckOutcome.PASSED),
        (True, 0, CheckOutcome.INSUFFICIENT_EVIDENCE),
        (False, 0, CheckOutcome.INSUFFICIENT_EVIDENCE),
    ],
)
def test_no_rows_are_insufficient_evidence(passed: bool, rows: int | None, answer: CheckOutcome) -> None:
    assert outcome(passed, rows=rows) is answer


def test_only_passed_checks_pass() -> None:
    met, unmet, unknown = (
        Check(name=answer, outcome=answer, observed="", allowed="")
        for answer in (CheckOutcome.PASSED, CheckOutcome.FAILED, CheckOutcome.INSUFFICIENT_EVIDENCE)
    )
    assert not_passed([unmet, met, unknown]) == (unmet, unknown)
    assert (passes([met]), passes([met, unknown]), passes([met, unmet])) == (True, False, False)
