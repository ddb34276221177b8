"""The residuals that resamples draw from: those of the textbook's hat matrix, without its square of memory."""

import tracemalloc

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from joulelaw.model.fitting import priors, size_of
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import Rows
from joulelaw.model.laws.roofline import Roofline, layouts, measured_models
from joulelaw.model.laws.roofline_forms import Layout
from joulelaw.model.laws.roofline_resamples import LEAST_LEFT, _enlarged
from joulelaw.model.levenberg import weights
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()
Array = npt.NDArray[np.float64]


def of_duration(copies: int = 1) -> tuple[Rows, Layout, Array, Array]:
    """Rows, the formula of their durations, its logarithms, and what it misses them by."""
    table = pd.concat([measured(CATALOGUE, noise=0.05, seed=k) for k in range(copies)], ignore_index=True)
    rows = Rows.of(table, CATALOGUE)
    law = Roofline()
    found = law.fit(rows.take(np.arange(120)), seed=0).parameters
    time, _, _ = layouts(found, rows, measured_models(found))
    missed = np.log(rows.column("duration_s") / law.forecast(found, rows.pre_run()).duration_s)
    return rows, time, time.logs(found), missed


def by_hat_matrix(layout: Layout, logs: Array, missed: Array, cases: list[npt.NDArray[np.intp]]) -> Array:
    """Bell and McCaffrey (2002): (I - H_cc)^(-1/2) times each case's residuals, H of all rows written out."""
    _, slope = layout.log_and_slope(logs)
    _, spread = priors(layout.coefficients)
    noise = size_of(missed)
    scaled = slope * (np.sqrt(weights(missed, noise)) / noise)[:, None]
    hat = scaled @ np.linalg.inv(scaled.T @ scaled + np.diag(spread**-2)) @ scaled.T
    result = np.empty_like(missed)
    for case in cases:
        left, axes = np.linalg.eigh(np.eye(len(case)) - hat[np.ix_(case, case)])
        result[case] = axes @ ((axes.T @ missed[case]) / np.sqrt(np.clip(left, LEAST_LEFT, 1.0)))
    return result


@pytest.mark.parametrize("of_one_case", [1, 3, 40, 120])
def test_residuals_are_enlarged_as_by_the_whole_hat_matrix(of_one_case: int) -> None:
    rows, layout, logs, missed = of_duration()
    cases = np.split(np.arange(len(rows)), range(of_one_case, len(rows), of_one_case))
    enlarged = _enlarged(layout, logs, missed, cases)
    np.testing.assert_allclose(enlarged, by_hat_matrix(layout, logs, missed, cases), rtol=0, atol=1e-10)
    assert np.sum(enlarged**2) > 1.02 * np.sum(missed**2)


@pytest.mark.parametrize("of_one_case", [3, 4800])
def test_memory_grows_with_the_rows_and_not_with_their_square(of_one_case: int) -> None:
    rows, layout, logs, missed = of_duration(copies=40)
    cases = np.split(np.arange(len(rows)), range(of_one_case, len(rows), of_one_case))
    tracemalloc.start()
    try:
        _enlarged(layout, logs, missed, cases)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 * len(rows) ** 2 / 4
