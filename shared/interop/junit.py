"""JUnit XML of the lab's jobs, as Jenkins and GitLab read it.

One suite per job, one case per check. A check that failed is a ``failure``; one without evidence is ``skipped``; an
infrastructure failure is an ``error``, which both tools keep apart from failures. Source: Jenkins, junit-10.xsd.
"""

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as ET

from shared.events import Check, CheckOutcome
from shared.interop.results import JobResult
from shared.lab import VerdictKind

_NOT_XML: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(results: Sequence[JobResult]) -> bytes:
    """Return the report of some jobs, as UTF-8 with a declaration."""
    suites = [_suite(result) for result in results]
    root = ET.Element("testsuites", {"name": "edgeloop lab", **_totals(suites)})
    root.extend(suites)
    ET.indent(root)
    report: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return report


def printable(text: str) -> str:
    """Return the text with what XML 1.0 cannot hold replaced, and lines that end in a newline alone."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n").replace("\r", "\n"))


def _suite(result: JobResult) -> ET.Element:
    cases = [_case(result, check) for check in result.checks]
    if result.verdict is VerdictKind.INFRASTRUCTURE:
        cases.append(_told(_named(result, "infrastructure"), "error", "infrastructure", result.reason))
    elif not cases or (result.verdict is VerdictKind.FAILED and all(case.find("failure") is None for case in cases)):
        cases.append(_whole(result))
    suite = ET.Element(
        "testsuite",
        {
            "name": printable(f"{result.project} on {result.board}"),
            "id": printable(result.job),
            "timestamp": result.finished.isoformat(timespec="seconds"),
            "time": f"{result.seconds:.3f}",
            "tests": str(len(cases)),
            "failures": _count(cases, "failure"),
            "errors": _count(cases, "error"),
            "skipped": _count(cases, "skipped"),
        },
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in _properties(result).items():
        ET.SubElement(properties, "property", {"name": name, "value": printable(value)})
    suite.extend(cases)
    return suite


def _properties(result: JobResult) -> dict[str, str]:
    counted = {} if result.instructions is None else {"instructions": str(result.instructions)}
    return {
        "digest": result.digest,
        "board": result.board,
        "board_class": result.board_class,
        "numerics": result.numerics,
        "toolchain": result.toolchain,
        "verdict": result.verdict,
        **counted,
    }


def _case(result: JobResult, check: Check) -> ET.Element:
    case = _named(result, check.name)
    said = f"found {check.observed}; allowed is {check.allowed}"
    if check.outcome is CheckOutcome.FAILED:
        return _told(case, "failure", said, check.detail)
    if check.outcome is CheckOutcome.INSUFFICIENT_EVIDENCE:
        return _told(case, "skipped", said, check.detail)
    return case


def _whole(result: JobResult) -> ET.Element:
    """Return the case of a job that has no check to show for its verdict."""
    case = _named(result, "job")
    return case if result.verdict.accepted else _told(case, "failure", result.reason, "")


def _named(result: JobResult, name: str) -> ET.Element:
    classname = f"{result.project}.{result.board}"
    return ET.Element("testcase", {"name": printable(name), "classname": printable(classname), "time": "0"})


def _told(case: ET.Element, kind: str, message: str, detail: str) -> ET.Element:
    told = ET.SubElement(case, kind, {"message": printable(message)})
    told.text = printable(detail)
    return case


def _count(cases: Sequence[ET.Element], kind: str) -> str:
    return str(sum(case.find(kind) is not None for case in cases))


def _totals(suites: Sequence[ET.Element]) -> dict[str, str]:
    counted = ("tests", "failures", "errors", "skipped")
    return {name: str(sum(int(suite.get(name, "0")) for suite in suites)) for name in counted}
