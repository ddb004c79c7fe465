"""The score's curve: recovered from data drawn from a known one, and its error by hand."""

import numpy as np
import pytest
from scipy.special import expit

from siamtrack.errors import DatasetError
from siamtrack.evaluation.calibration import (
    Observations,
    expected_calibration_error,
    fit,
    probabilities,
    reliability,
)


def drawn(gain, offset, count=20_000):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, count)
    good = rng.random(count) < expit(gain * (logits - offset))
    return Observations(logits, good, np.full(count, 1 / count))


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (0.5, -2.0), (2.0, 1.5)])
def test_the_curve_that_made_the_data_is_found(gain, offset):
    found = fit(drawn(gain, offset))
    assert found[0] == pytest.approx(gain, rel=0.1)
    assert found[1] == pytest.approx(offset, abs=0.15)


def test_fitting_makes_scores_true():
    seen = drawn(0.5, -2.0)
    before = expected_calibration_error(probabilities(seen, 1.0, 0.0), *seen[1:])
    after = expected_calibration_error(probabilities(seen, *fit(seen)), *seen[1:])
    assert before > 0.1 and after < 0.02


def test_separable_frames_have_a_finite_curve():
    logits = np.array([-2.0, -1.0, 1.0, 2.0])
    gain, offset = fit(Observations(logits, logits > 0, np.full(4, 0.25)))
    assert 0 < gain < 100 and abs(offset) < 1


def test_frames_count_by_weight():
    logits = np.array([-1.0, -1.0, 1.0, 1.0])
    good = np.array([False, True, False, True])
    heavy_good = Observations(logits, good, np.array([0.1, 0.4, 0.1, 0.4]))
    heavy_bad = Observations(logits, good, np.array([0.4, 0.1, 0.4, 0.1]))
    assert (probabilities(heavy_good, *fit(heavy_good)) > 0.5).all()
    assert (probabilities(heavy_bad, *fit(heavy_bad)) < 0.5).all()


def test_reliability_and_error_by_hand():
    scores = np.array([0.1, 0.15, 0.95, 1.0])
    good = np.array([False, True, True, True])
    weights = np.full(4, 0.25)
    mass, promised, found = reliability(scores, good, weights, bins=10)
    assert mass[[1, 9]].tolist() == [0.5, 0.5]
    assert promised[1] == pytest.approx(0.125) and found[1] == 0.5
    assert promised[9] == pytest.approx(0.975) and found[9] == 1.0
    assert np.isnan(found[5])
    expected = 0.5 * 0.375 + 0.5 * 0.025
    assert expected_calibration_error(scores, good, weights) == pytest.approx(expected)


@pytest.mark.parametrize(("value", "says"), [(True, "right"), (False, "wrong")])
def test_one_kind_of_frames_is_no_data(value, says):
    seen = Observations(np.zeros(3), np.full(3, value), np.full(3, 1 / 3))
    with pytest.raises(DatasetError, match=f"every box was {says}"):
        fit(seen)
