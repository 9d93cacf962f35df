"""What sensors do to their signals: each perturbation alone, on the channels it was given, the same every time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.procedures.perturbations import PERTURBATIONS, perturbed

SPAN = (-4.0, 4.0)
X = np.random.default_rng(3).normal(0, 1, (6, 50, 3)).astype(np.float32)

names = st.sampled_from(list(PERTURBATIONS))


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_grid_is_in_order_and_holds_the_level_that_changes_nothing(name: str) -> None:
    perturbation = PERTURBATIONS[name]
    assert sorted(set(perturbation.levels)) == list(perturbation.levels)
    assert perturbation.neutral in perturbation.levels


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_other_level_changes_the_channels_it_is_given_and_no_other(name: str) -> None:
    for level in PERTURBATIONS[name].levels:
        after = perturbed(X, name, level, channels=(0, 2), span=SPAN, seed=1)
        assert after.dtype == np.float32
        assert after.shape == X.shape
        np.testing.assert_array_equal(after[..., 1], X[..., 1])
        assert np.array_equal(after, X) == (level == PERTURBATIONS[name].neutral)


@given(name=names, data=st.data(), seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_and_the_input_stays_as_it_was(name: str, data: st.DataObject, seed: int) -> None:
    level = data.draw(st.sampled_from(PERTURBATIONS[name].levels))
    before = X.copy()
    first, second = (perturbed(X, name, level, channels=(1,), span=SPAN, seed=seed) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(X, before)


def test_gain_offset_and_clipping_are_what_they_say() -> None:
    every = (0, 1, 2)
    np.testing.assert_allclose(perturbed(X, "gain", 1.5, channels=every, span=SPAN, seed=0), X * 1.5, rtol=1e-6)
    np.testing.assert_allclose(perturbed(X, "offset", 0.1, channels=every, span=SPAN, seed=0), X + 0.8, rtol=1e-5)
    clipped = perturbed(X, "clipping", 0.1, channels=every, span=SPAN, seed=0)
    np.testing.assert_allclose(clipped, np.clip(X, -0.4, 0.4), rtol=1e-6)


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    x = np.zeros((50, 100, 2), np.float32)
    noise = perturbed(x, "noise", 0.05, channels=(0, 1), span=SPAN, seed=4)
    assert noise.std() == pytest.approx(0.05 * 8, rel=0.05)


def test_a_dropped_sample_repeats_the_one_before_on_every_channel_of_the_sensor() -> None:
    x = np.arange(200, dtype=np.float32).reshape(1, 100, 2)
    dropped = perturbed(x, "dropped", 0.4, channels=(0, 1), span=SPAN, seed=4)[0]
    held = [step for step in range(1, 100) if np.array_equal(dropped[step], dropped[step - 1])]
    assert 20 < len(held) < 60
    for step in set(range(100)) - set(held):
        np.testing.assert_array_equal(dropped[step], x[0, step])


def test_more_dropped_samples_are_the_dropped_ones_and_more() -> None:
    x = np.arange(100, dtype=np.float32).reshape(1, 100, 1)
    few, many = (perturbed(x, "dropped", level, channels=(0,), span=SPAN, seed=9)[0, :, 0] for level in (0.1, 0.4))
    assert set(many) < set(few)


@given(level=st.floats(-0.3, 0.3))
def test_a_rate_error_stretches_time(level: float) -> None:
    ramp = np.arange(40, dtype=np.float32).reshape(1, 40, 1)
    stretched = perturbed(ramp, "rate", level, channels=(0,), span=SPAN, seed=0)[0, :, 0]
    np.testing.assert_allclose(stretched, np.minimum(np.arange(40) / (1 + level), 39), rtol=1e-4, atol=1e-4)
