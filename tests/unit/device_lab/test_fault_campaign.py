"""Thirty minutes of a failing lab in accelerated time; `benchmarks/lab_faults.py` runs as many as are asked for."""

import pytest

from tests.unit.device_lab.campaign.campaign import run


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_board_has_two_holders_or_one_who_is_gone_and_every_job_ends_once(seed: int) -> None:
    report = run(seed, minutes=10)
    assert not report.wrong
    assert report.orphaned_s <= report.bound_s
    assert sum(report.ended.values()) == report.submitted
    injected = {"schedulers killed", "agents killed", "clients killed", "clients that came late", "places cut off"}
    assert injected <= set(report.faults), "else nothing is shown"
    assert report.touched, "else nothing is shown"
