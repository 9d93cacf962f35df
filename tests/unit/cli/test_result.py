"""`edgeloop result`: signed results from files, for people, scripts and JUnit readers."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeloop.cli import execute
from edgeloop.errors import ExitCode
from edgeloop.lab.results import strangers
from shared.artifacts.keys import PublicKey
from shared.interop.signed_results import signed_result
from shared.lab import VerdictKind
from tests.support_interop import job_result

PRIVATE = Ed25519PrivateKey.from_private_bytes(b"7" * 32)
KEY = PublicKey(PRIVATE.public_key())


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "key.pem").write_bytes(KEY.pem)
    results = (job_result(0), job_result(1, verdict=VerdictKind.FAILED, reason="88 %"))
    for result in results:
        (tmp_path / f"{result.job}.json").write_bytes(signed_result(result, key_id=KEY.key_id, sign=PRIVATE.sign))
    return [*(str(tmp_path / f"{result.job}.json") for result in results), "--key", str(tmp_path / "key.pem")]


def test_honest_results_are_shown_whatever_they_say(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["result", "verify", *files, "--json"]) == ExitCode.OK
    shown = json.loads(capsys.readouterr().out)
    assert [(one["job"], one["verdict"]) for one in shown] == [("job-0", "passed"), ("job-1", "failed")]
    assert execute(["result", "verify", *files]) == ExitCode.OK
    assert "1,000,000" in capsys.readouterr().out


def test_an_altered_result_fails(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    altered = Path(files[0])
    altered.write_bytes(altered.read_bytes().replace(b'"sig":"', b'"sig":"AAAA', 1))
    assert execute(["result", "verify", *files]) == ExitCode.GATE_FAILED
    assert altered.name in " ".join(capsys.readouterr().err.split()).replace(" ", "")


def test_a_missing_file_is_bad_input(files: list[str], tmp_path: Path) -> None:
    assert execute(["result", "verify", str(tmp_path / "none.json"), *files[2:]]) == ExitCode.USAGE


def test_a_report_for_jenkins(files: list[str], tmp_path: Path) -> None:
    assert execute(["result", "junit", *files, "--out", str(tmp_path / "report.xml")]) == ExitCode.OK
    root = ET.parse(tmp_path / "report.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


def test_a_series_whose_newest_result_takes_more_fails(
    files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = job_result(2, instructions=1_001_001)
    (tmp_path / "job-2.json").write_bytes(signed_result(more, key_id=KEY.key_id, sign=PRIVATE.sign))
    assert execute(["result", "history", *files, "--json"]) == ExitCode.OK
    [series] = json.loads(capsys.readouterr().out)
    assert (series["counts"], series["step"], series["gate"]["outcome"]) == ([1_000_000], None, "passed")
    assert execute(["result", "history", str(tmp_path / "job-2.json"), *files, "--json"]) == ExitCode.GATE_FAILED
    [series] = json.loads(capsys.readouterr().out)
    assert (series["board"], series["counts"]) == ("cortex-m4", [1_000_000, 1_001_001])
    assert "+0.100%" in series["gate"]["observed"]


def test_results_of_another_series_are_named() -> None:
    candidate = job_result(3)
    assert strangers([job_result(0)], candidate) == ()
    assert strangers([job_result(0, toolchain="gcc 12"), job_result(1, verdict=VerdictKind.FAILED)], candidate) == (
        "kws, cortex-m4, emulated, tflm, gcc 12: passed",
        "kws, cortex-m4, emulated, tflm, zig 0.17: failed",
    )
