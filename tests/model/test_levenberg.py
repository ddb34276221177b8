"""Our minimiser finds what SciPy's least_squares finds: with outliers, a prior, and coefficients held at a bound."""

import numpy as np
import pytest
from scipy.optimize import least_squares

from joulelaw.model import levenberg
from joulelaw.model.levenberg import HUBER_AT, Minimum, Problem, minimise

rng = np.random.default_rng(8)
FEATURES = rng.uniform(0.1, 10, (60, 4))
MEASURED = np.log(FEATURES @ [0.5, 2.0, 0.1, 1.0]) + 0.05 * rng.normal(size=60)
MEASURED[7] += 3.0


def residuals(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = FEATURES * np.exp(u)
    total = values.sum(axis=1)
    return np.log(total) - MEASURED, values / total[:, None]


@pytest.mark.parametrize("high", [np.full(4, 5.0), np.array([-1.0, 0.3, 5.0, 5.0])])
def test_it_finds_the_minimum_that_scipy_finds(high: np.ndarray) -> None:
    noise, spread, low = 0.05, np.array([1.0, 0.5, 2.0, 0.2]), np.full(4, -5.0)
    found = minimise(Problem(residuals, noise, np.zeros(4), np.diag(spread**-2), low, high), np.full(4, 0.2))
    # SciPy's Huber loss would also soften the prior: the prior rows are scaled to stay in its quadratic part.
    peer = least_squares(
        lambda u: np.concatenate([residuals(u)[0] / noise, u / spread]),
        np.full(4, -1.5),
        bounds=(low, high),
        loss="huber",
        f_scale=HUBER_AT,
        xtol=1e-12,
        ftol=1e-12,
        gtol=1e-12,
    )
    assert found.settled
    assert np.abs(peer.x / spread).max() < HUBER_AT
    np.testing.assert_allclose(found.u, peer.x, atol=2e-4)
    assert found.loss == pytest.approx(peer.cost, rel=1e-6)


def test_a_prior_with_correlations_ties_what_the_rows_leave_open() -> None:
    """Two coefficients that the rows know only the sum of; the prior knows their difference."""

    def both(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array([u.sum() - 1.0]), np.array([[1.0, 1.0]])

    precision = np.array([[1.0, -1.0], [-1.0, 1.0]]) * 1e4 + np.eye(2) * 1e-9
    found = minimise(Problem(both, 1e-3, np.zeros(2), precision, np.full(2, -9.0), np.full(2, 9.0)), np.zeros(2))
    np.testing.assert_allclose(found.u, [0.5, 0.5], atol=1e-5)


def test_a_search_says_whether_it_came_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same problem with as many steps as it takes, and with one fewer; at the minimum itself nothing is left."""

    def search(steps: int, start: np.ndarray) -> Minimum:
        monkeypatch.setattr(levenberg, "MOST_STEPS", steps)
        wide = np.full(4, 9.0)
        return minimise(Problem(residuals, 0.05, np.zeros(4), np.eye(4), -wide, wide), start)

    taken = next(steps for steps in range(200) if search(steps, np.full(4, 0.2)).settled)
    assert taken > 3
    best = search(taken, np.full(4, 0.2))
    assert not search(taken - 1, np.full(4, 0.2)).settled
    assert search(200, best.u).settled
