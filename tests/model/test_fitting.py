"""The solvers: least squares equals statsmodels, positive coefficients come back from exact data."""

import numpy as np
import pytest
import statsmodels.api as sm

from joulelaw.model.fitting import Positive, fit_positive, independent_columns, least_squares

rng = np.random.default_rng(5)


def clustered_data(n: int = 80, clusters: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    X = np.column_stack([np.ones(n), rng.normal(size=(n, 3))])
    member = rng.integers(clusters, size=n)
    y = X @ [1.0, -2.0, 0.5, 0.1] + rng.normal(size=clusters)[member] + 0.3 * rng.normal(size=n)
    return X, y, member


def test_least_squares_and_cluster_robust_errors_are_those_of_statsmodels() -> None:
    X, y, member = clustered_data()
    ours = least_squares(X, y, list(member), list("abcd"))
    theirs = sm.OLS(y, X).fit(cov_type="cluster", cov_kwds={"groups": member}, use_t=True)
    np.testing.assert_allclose(ours.values, theirs.params, rtol=1e-9)
    np.testing.assert_allclose(ours.covariance, theirs.cov_params(), rtol=1e-8)
    np.testing.assert_allclose(np.column_stack(ours.interval()), theirs.conf_int(), rtol=1e-8)


def test_a_dependent_column_is_dropped_named_and_zero_and_the_others_unchanged() -> None:
    X, y, member = clustered_data()
    wide = np.column_stack([X, X[:, 1] - 2 * X[:, 0]])
    ours = least_squares(wide, y, list(member), list("abcde"))
    assert ours.dropped == ("e",)
    assert ours.values[4] == 0.0
    np.testing.assert_allclose(ours.values[:4], least_squares(X, y, list(member), list("abcd")).values, rtol=1e-9)


def test_scale_does_not_make_a_column_dependent() -> None:
    X = np.column_stack([np.ones(30), 1e9 * rng.normal(size=30), 1e-9 * rng.normal(size=30), np.zeros(30)])
    assert independent_columns(X) == [0, 1, 2]


COEFFICIENTS = (
    Positive("a", "duration", "s", "", 1.0),
    Positive("b", "duration", "s", "", 1.0),
    Positive("unseen", "duration", "s", "", 0.3),
)


def two_terms(features: np.ndarray, y: np.ndarray):
    def residuals(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = features * np.exp(logs)
        total = values.sum(axis=1)
        return np.log(total) - np.log(y), values / total[:, None]

    return residuals


def test_exact_data_give_the_coefficients_back_and_the_unseen_one_stays_at_its_prior() -> None:
    features = np.column_stack([rng.uniform(0.1, 10, (40, 2)), np.zeros(40)])
    y = features @ [0.5, 2.0, 1.0]
    found = np.exp(fit_positive(COEFFICIENTS, two_terms(features, y)).logs)
    np.testing.assert_allclose(found, [0.5, 2.0, 0.3], rtol=5e-3)


def test_one_row_gone_wrong_by_a_factor_of_ten_hardly_moves_the_fit() -> None:
    features = np.column_stack([rng.uniform(0.1, 10, (40, 2)), np.zeros(40)])
    y = features @ [0.5, 2.0, 1.0] * np.exp(0.02 * rng.normal(size=40))
    y[7] *= 10
    found = np.exp(fit_positive(COEFFICIENTS, two_terms(features, y)).logs)
    np.testing.assert_allclose(found[:2], [0.5, 2.0], rtol=0.05)


def test_a_coefficient_does_not_leave_its_bounds_and_says_that_it_is_at_one() -> None:
    share = Positive("share", "duration", "1", "", 0.5, upper=1.0)
    features = np.ones((10, 1))

    def residuals(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (features @ logs) - np.log(4.0), features

    found = float(np.exp(fit_positive([share], residuals).logs)[0])
    assert found == pytest.approx(1.0, rel=1e-3)
    assert share.at_bound(found)
    assert not share.at_bound(0.9)
