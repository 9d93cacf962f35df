"""Drift decisions on counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.drift_monitor.domain import (
    CALM_SHARE,
    CONSECUTIVE,
    RING_WINDOWS,
    Baseline,
    Counts,
    Memory,
    Policy,
    Production,
    Report,
    Tracker,
    Zone,
    counts_of,
    evaluate,
    inferences_of,
    judge,
    production_for_retraining,
    psi,
    remember,
    trim,
)
from tests.unit.rollout.releases import blob

POLICY = Policy(psi_threshold=0.5, minimum_windows=200, minimum_devices=3, minimum_production_rows=100)
histograms = hnp.arrays(np.int64, (2, 32), elements=st.integers(0, 100_000))


def bell(centre: float, rows: int = 20_000) -> Counts:
    weights = np.exp(-((np.arange(32) - centre) ** 2) / 18)
    counts: Counts = np.round(weights / weights.sum() * rows).astype(np.int64)
    return counts


def baseline(policy: Policy = POLICY) -> Baseline:
    return Baseline(policy, np.stack([bell(16), bell(16)]), np.array([500, 500]), ())


def report(device: int, inferences: int = 70, centre: float = 16, channel: int = 1) -> Report:
    inputs = np.stack([bell(16, inferences * 100)] * 2)
    inputs[channel] = bell(centre, inferences * 100)
    return Report(f"watch-{device}", inferences, inputs, np.array([inferences // 2, inferences - inferences // 2]))


@given(histograms, histograms)
def test_the_index_is_never_negative_and_is_symmetric(one: Counts, other: Counts) -> None:
    assert (psi(one, other) >= 0).all()
    np.testing.assert_array_equal(psi(one, other), psi(other, one))


@given(histograms)
def test_the_index_of_identical_counts_is_zero(counts: Counts) -> None:
    np.testing.assert_array_equal(psi(counts, counts), np.zeros(2))


def test_the_index_is_the_published_formula() -> None:
    observed, reference = np.array([30, 50, 20]), np.array([40, 40, 20])
    p, q = (observed + 0.5) / 101.5, (reference + 0.5) / 101.5
    assert psi(observed, reference) == pytest.approx(sum((p - q) * np.log(p / q)))


def test_the_same_distribution_in_another_amount_is_no_drift() -> None:
    assert psi(bell(16, 200_000), bell(16, 2_000)) < 0.01


def test_a_bin_that_training_never_saw_is_finite_evidence() -> None:
    reference, observed = np.zeros(32, np.int64), np.zeros(32, np.int64)
    reference[0], observed[31] = 10_000, 10_000
    assert 10 < psi(observed, reference) < 25


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 300), st.integers(4, 28)), min_size=1, max_size=8))
def test_the_order_of_reports_is_irrelevant(parts: list[tuple[int, int, int]]) -> None:
    reports = [report(device, inferences, centre) for device, inferences, centre in parts]
    assert evaluate(reports, baseline()) == evaluate(reports[::-1], baseline())


@given(st.lists(st.integers(1, 500), max_size=60))
def test_the_ring_never_exceeds_its_room_by_more_than_one_report(sizes: list[int]) -> None:
    ring: list[Report] = []
    room = RING_WINDOWS * POLICY.minimum_windows
    for device, inferences in enumerate(sizes):
        ring = list(trim([*ring, report(device, inferences)], POLICY))
        assert ring[-1].device == f"watch-{device}", "the newest stays"
        assert inferences_of(ring) - ring[0].inferences < room


@pytest.mark.parametrize(
    "reports",
    [
        [],
        [report(device, 60) for device in range(3)],
        [report(device % 2, 500) for device in range(4)],
    ],
    ids=["nothing", "too few inferences", "too few devices"],
)
def test_too_little_is_insufficient_evidence(reports: list[Report]) -> None:
    assert evaluate(reports, baseline()) is None


def test_the_verdict_names_the_channel_that_moved_most() -> None:
    verdict = evaluate([report(device, centre=22, channel=1) for device in range(3)], baseline())
    assert verdict is not None
    assert verdict.channel == 1
    assert verdict.statistic > 0.5 > verdict.class_statistic
    assert (verdict.windows, verdict.devices) == (210, 3)


def walk(statistics: list[float]) -> tuple[list[Zone], int]:
    tracker, zones, alarms = Tracker(), [], 0
    for statistic in statistics:
        tracker, drifted = judge(tracker, statistic, 0.5)
        zones.append(tracker.zone)
        alarms += drifted
    return zones, alarms


@pytest.mark.parametrize(
    ("statistics", "last", "alarms"),
    [
        ([0.1, 0.2], Zone.STABLE, 0),
        ([0.45], Zone.WARNING, 0),
        ([3.0, 0.1], Zone.STABLE, 0),
        ([3.0, 0.1, 3.0, 0.1], Zone.STABLE, 0),
        ([3.0, 3.0], Zone.DRIFT, 1),
        ([3.0] * 20, Zone.DRIFT, 1),
        ([3.0, 3.0, 0.45, 0.45, 0.45, 3.0, 3.0], Zone.DRIFT, 1),
        ([3.0, 3.0, 0.1, 3.0, 0.1, 3.0, 3.0], Zone.DRIFT, 1),
        ([3.0, 3.0, 0.1, 0.1], Zone.STABLE, 1),
        ([3.0, 3.0, 0.1, 0.1, 3.0, 3.0], Zone.DRIFT, 2),
    ],
)
def test_one_alarm_per_drift(statistics: list[float], last: Zone, alarms: int) -> None:
    zones, found = walk(statistics)
    assert (zones[-1], found) == (last, alarms)


@given(st.lists(st.sampled_from([0.1, 0.45, 0.6, 3.0]), max_size=40))
def test_alarms_alternate_with_recoveries(statistics: list[float]) -> None:
    tracker = Tracker()
    over = calm = 0
    for statistic in statistics:
        over = over + 1 if statistic >= 0.5 else 0
        calm = calm + 1 if statistic < CALM_SHARE * 0.5 else 0
        after, drifted = judge(tracker, statistic, 0.5)
        if drifted:
            assert over >= CONSECUTIVE
            assert tracker.zone is not Zone.DRIFT
            assert after.episode == tracker.episode + 1
        if tracker.zone is Zone.DRIFT and after.zone is not Zone.DRIFT:
            assert calm >= CONSECUTIVE
        tracker = after


def test_retraining_waits_for_enough_new_rows() -> None:
    trained, few, more = (Production(blob(name), rows) for name, rows in (("a", 500), ("b", 60), ("c", 40)))
    learnt = Baseline(POLICY, bell(16)[np.newaxis], np.array([1, 1]), production=(trained.blob,))
    assert production_for_retraining(learnt, [trained, few], frozenset()) == ()
    assert production_for_retraining(learnt, [trained, few, more], frozenset()) == (trained.blob, few.blob, more.blob)
    requested = frozenset({few.blob.digest, more.blob.digest})
    assert production_for_retraining(learnt, [trained, few, more], requested) == ()


@given(st.lists(st.integers(1, 30), max_size=60))
def test_a_report_is_taken_once(sequences: list[int]) -> None:
    memory, taken = Memory(), []
    for sequence in itertools.chain(sequences, sequences):
        answer = remember(memory, sequence, fingerprint=sequence)
        if answer is not None:
            memory, _ = answer
            taken.append(sequence)
    assert taken == list(dict.fromkeys(sequences))


def test_gaps_are_counted_and_a_restarted_device_is_heard() -> None:
    memory, missed = remember(Memory(), 7, 1) or (Memory(), -1)
    assert missed == 0, "what came before the first report is unknown"
    memory, missed = remember(memory, 10, 2) or (Memory(), -1)
    assert missed == 2
    assert remember(memory, 7, 99) is not None, "other content under an old sequence is a new report"
    assert remember(memory, 7, 1) is None


def test_histograms_of_another_shape_are_recognised() -> None:
    assert counts_of([[1] * 32, [2] * 32]).shape == (2, 32)
    assert counts_of([[1] * 32, [2] * 31]).shape == (0, 32)
    assert counts_of([]).shape == (0, 32)
