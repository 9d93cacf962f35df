"""JUnit reports: what stands in them, and that nothing anybody says breaks them."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.events import Check, CheckOutcome
from shared.interop.junit import junit_xml, printable
from shared.lab import VerdictKind
from tests.support_interop import job_result

ANY_TEXT = st.text(st.characters(), max_size=40)  # surrogates and control characters included


def check(outcome: CheckOutcome, **parts: str) -> Check:
    return Check(**{"name": "accuracy", "observed": "88 %", "allowed": "at least 90 %"} | parts, outcome=outcome)


@pytest.mark.parametrize(
    ("outcome", "verdict", "element"),
    [
        (CheckOutcome.PASSED, VerdictKind.PASSED, None),
        (CheckOutcome.PASSED, VerdictKind.FLAKY, None),
        (CheckOutcome.FAILED, VerdictKind.FAILED, "failure"),
        (CheckOutcome.INSUFFICIENT_EVIDENCE, VerdictKind.FAILED, "skipped"),
    ],
)
def test_a_check_is_a_case(outcome: CheckOutcome, verdict: VerdictKind, element: str | None) -> None:
    suite = ET.fromstring(junit_xml([job_result(checks=(check(outcome),), verdict=verdict, reason="it is")])).find(
        "testsuite"
    )
    assert suite is not None
    case = suite.find("testcase")
    assert case is not None
    assert (case.get("classname"), case.get("name")) == ("kws.cortex-m4", "accuracy")
    assert [child.tag for child in case] == ([element] if element else [])


def test_an_infrastructure_failure_is_an_error_and_no_failure() -> None:
    lost = job_result(verdict=VerdictKind.INFRASTRUCTURE, reason="the board is gone", instructions=None)
    root = ET.fromstring(junit_xml([lost]))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("1", "0", "1")
    assert root.findtext("testsuite/testcase/error") == "the board is gone"


def test_a_failed_job_never_looks_green() -> None:
    failed = job_result(verdict=VerdictKind.FAILED, reason="no answer", checks=(check(CheckOutcome.PASSED),))
    assert ET.fromstring(junit_xml([failed])).get("failures") == "1"


def test_totals_are_the_sum_of_the_suites() -> None:
    root = ET.fromstring(junit_xml([job_result(0), job_result(1, verdict=VerdictKind.FAILED, reason="no")]))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert [suite.get("tests") for suite in root] == ["1", "1"]


def test_a_flaky_pass_keeps_its_label() -> None:
    root = ET.fromstring(junit_xml([job_result(verdict=VerdictKind.FLAKY)]))
    properties = {found.get("name"): found.get("value") for found in root.iter("property")}
    assert properties["verdict"] == "flaky"
    assert root.get("failures") == "0"


@given(name=ANY_TEXT, observed=ANY_TEXT, detail=ANY_TEXT)
def test_whatever_a_board_says_is_read_back(name: str, observed: str, detail: str) -> None:
    failed = check(CheckOutcome.FAILED).model_copy(update={"name": name, "observed": observed, "detail": detail})
    root = ET.fromstring(junit_xml([job_result(verdict=VerdictKind.FAILED, checks=(failed,), reason=observed)]))
    case = root.find("testsuite/testcase")
    assert case is not None
    failure = case.find("failure")
    assert failure is not None
    assert case.get("name") == printable(name)
    assert printable(observed) in (failure.get("message") or "")
    assert (failure.text or "") == printable(detail)


@given(text=ANY_TEXT)
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert printable(printable(text)) == printable(text)
    assert printable("°C → 温度\t\n") == "°C → 温度\t\n"
