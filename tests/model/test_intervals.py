"""Intervals: whole cases resampled and folded, and the conformal level kept."""

import numpy as np
import pandas as pd
import pytest

from joulelaw.model.intervals import case_bootstrap, case_folds, conformal_half_width

CASES = ["a", "a", "a", "b", "c", "c"]


def test_a_bootstrap_draw_takes_whole_cases_and_as_many_as_there_are() -> None:
    sizes = {"a": 3, "b": 1, "c": 2}
    for at in case_bootstrap(CASES, 50, seed=1):
        counts = pd.Series(np.array(CASES)[at]).value_counts()
        times = {case: count / sizes[case] for case, count in counts.items()}
        assert all(time == int(time) for time in times.values())
        assert sum(times.values()) == 3


def test_folds_partition_the_rows_and_never_split_a_case() -> None:
    masks = case_folds([f"case {k // 3}" for k in range(60)])
    assert np.sum(masks, axis=0).tolist() == [1] * 60
    for mask in masks:
        assert all(mask[3 * k : 3 * k + 3].all() or not mask[3 * k : 3 * k + 3].any() for k in range(20))
    assert case_folds(["one"] * 5) == []


def test_with_one_row_a_case_the_half_width_is_the_textbook_conformal_quantile() -> None:
    residuals = np.arange(1, 101, dtype=float)
    half, level = conformal_half_width(residuals, [str(k) for k in range(100)])
    assert half == np.sort(residuals)[int(np.ceil(0.95 * 101)) - 1]
    assert level == pytest.approx(0.95)


def test_few_cases_support_a_lower_level_which_is_stated() -> None:
    half, level = conformal_half_width(np.array([0.1, 0.3, -0.2]), ["a", "b", "c"])
    assert half == pytest.approx(0.3)
    assert level == pytest.approx(3 / 4)


def test_a_case_with_many_rows_does_not_outvote_the_others() -> None:
    """99 rows of one easy case beside 19 hard ones: the interval is that of a new case, not of a new row."""
    residuals = np.concatenate([np.full(99, 0.01), np.full(19, 0.5)])
    half, _ = conformal_half_width(residuals, ["easy"] * 99 + [f"hard {k}" for k in range(19)])
    assert half == pytest.approx(0.5)


def test_new_cases_are_covered_as_often_as_aimed() -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        shift = rng.normal(size=41)
        rows = shift[:, None] + 0.5 * rng.normal(size=(41, 3))
        half, _ = conformal_half_width(rows[:40].ravel(), [str(k // 3) for k in range(120)])
        covered.append(np.mean(np.abs(rows[40]) <= half))
    assert 0.93 <= np.mean(covered) <= 0.99
