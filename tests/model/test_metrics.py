"""Metrics equal scikit-learn's, and keep silent where there is nothing to say."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_absolute_percentage_error, r2_score

from joulelaw.model.metrics import bias, calibration_slope, mape, r2_log, score, worst_group

rng = np.random.default_rng(3)
MEASURED = np.exp(rng.normal(3, 2, 50))
PREDICTED = MEASURED * np.exp(rng.normal(0.1, 0.3, 50))
TOKENS = np.exp(rng.normal(8, 1, 50))


def test_r2_of_the_logarithm_is_that_of_scikit_learn() -> None:
    assert r2_log(MEASURED, PREDICTED) == pytest.approx(r2_score(np.log(MEASURED), np.log(PREDICTED)), rel=1e-12)


def test_mape_is_that_of_scikit_learn() -> None:
    assert mape(MEASURED, PREDICTED) == pytest.approx(mean_absolute_percentage_error(MEASURED, PREDICTED), rel=1e-12)


def test_calibration_slope_is_that_of_a_linear_regression() -> None:
    slope = LinearRegression().fit(np.log(PREDICTED)[:, None], np.log(MEASURED)).coef_[0]
    assert calibration_slope(MEASURED, PREDICTED) == pytest.approx(slope, rel=1e-9)


def test_a_forecast_a_tenth_too_high_everywhere_has_a_bias_of_a_tenth() -> None:
    assert bias(MEASURED, 1.1 * MEASURED) == pytest.approx(0.1)


def test_r2_per_token_takes_the_length_of_the_run_out() -> None:
    """A forecast that knows only how long a run is explains the total, and nothing of a token's cost."""
    cost = np.exp(rng.normal(0, 0.1, 50))
    scores = score(TOKENS * cost, TOKENS, TOKENS, pd.DataFrame({"strategy": ["single"] * 50}))
    assert scores.r2_log > 0.95
    assert scores.r2_log_per_token < 0.01


def test_the_worst_group_is_found_and_small_groups_are_not_it() -> None:
    groups = pd.DataFrame({"strategy": ["tp"] * 10 + ["single"] * 38 + ["zero1"] * 2, "gpu_count": [1] * 50})
    predicted = MEASURED.copy()
    predicted[:10] *= 2.0
    predicted[48:] *= 9.0
    assert worst_group(MEASURED, predicted, groups) == ("strategy=tp", pytest.approx(1.0))


def test_coverage_and_half_width_of_an_interval() -> None:
    measured = np.array([1.0, 2.0, 4.0, 8.0])
    low, high = np.array([0.5, 1.0, 5.0, 4.0]), np.array([2.0, 4.0, 20.0, 16.0])
    groups = pd.DataFrame({"strategy": ["single"] * 4})
    scores = score(measured, measured, np.ones(4), groups, low, high)
    assert scores.coverage == 0.75
    assert scores.half_width_factor == pytest.approx(2.0)


def test_one_row_or_equal_values_have_no_r2() -> None:
    assert math.isnan(r2_log(np.array([2.0]), np.array([3.0])))
    assert math.isnan(r2_log(np.array([2.0, 2.0]), np.array([3.0, 2.0])))
    assert math.isnan(calibration_slope(np.array([2.0, 3.0]), np.array([5.0, 5.0])))
