"""Two solvers: least squares with cluster-robust errors, and positive coefficients on log residuals with Huber loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Array = npt.NDArray[np.float64]
Residuals = Callable[[Array], tuple[Array, Array]]  # log coefficients -> (log residuals, their Jacobian)

# Log residuals are divided by their own size, so that data and prior weigh against each other as their doubts do.
# That size is found from a first fit at NOISE, and is never taken below what good repeats reach or above a misfit.
NOISE = 0.05
SMALLEST_NOISE, LARGEST_NOISE = 0.005, 0.2
HUBER_AT = 2.0  # in units of that size
# A column is dependent when what the others leave of it is this small a share of it.
DEPENDENT = 1e-8


@dataclass(frozen=True)
class LeastSquares:
    """A linear fit: one coefficient a column, 0 for the columns that were dropped as dependent on earlier ones."""

    names: tuple[str, ...]
    values: Array
    covariance: Array  # cluster-robust (CR1), zero rows for dropped columns
    clusters: int
    dropped: tuple[str, ...]

    def interval(self, level: float = 0.95) -> tuple[Array, Array]:
        """Confidence limits of each coefficient, by Student's t with clusters - 1 degrees of freedom."""
        errors = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))  # rounding can leave a variance just below 0
        reach = stats.t.ppf((1 + level) / 2, max(self.clusters - 1, 1)) * errors
        return self.values - reach, self.values + reach


@dataclass(frozen=True)
class Positive:
    """A positive coefficient to be fitted in its logarithm, with what is assumed where the rows say nothing.

    `prior` is the value expected of ordinary hardware and `factor` its standard deviation as a factor either
    way. It is weak: one row in doubt by 5 % outweighs it by far, so that it decides only what the rows leave open.
    """

    name: str
    target: Literal["duration", "energy"]
    unit: str
    meaning: str
    prior: float
    factor: float = 10.0
    lower: float = 0.0  # 0: no bound but 1e-4 of the prior
    upper: float = np.inf  # inf: no bound but 1e4 times the prior

    @property
    def log_bounds(self) -> tuple[float, float]:
        return float(np.log(max(self.lower, 1e-4 * self.prior))), float(np.log(min(self.upper, 1e4 * self.prior)))

    def at_bound(self, value: float) -> bool:
        low, high = self.log_bounds
        return bool(min(np.log(value) - low, high - np.log(value)) < 1e-3)


def least_squares(X: Array, y: Array, clusters: Sequence[object], names: Sequence[str]) -> LeastSquares:
    """Ordinary least squares with errors robust to correlation within clusters.

    The covariance is the sandwich with the CR1 factor G/(G-1) (n-1)/(n-k), as statsmodels' cov_type="cluster".
    A column that is a combination of earlier ones is dropped and named; its coefficient is 0.
    """
    beta, kept = solve(X, y)
    K = X[:, kept]
    n, k = K.shape
    inverse = np.linalg.pinv(K.T @ K)
    scores = K * (y - K @ beta)[:, None]
    _, member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
    groups = int(member.max()) + 1
    sums = np.zeros((groups, k))
    np.add.at(sums, member, scores)
    small = groups / max(groups - 1, 1) * (n - 1) / max(n - k, 1)
    values = np.zeros(X.shape[1])
    covariance = np.zeros((X.shape[1], X.shape[1]))
    values[kept] = beta
    covariance[np.ix_(kept, kept)] = small * inverse @ sums.T @ sums @ inverse
    dropped = tuple(name for j, name in enumerate(names) if j not in set(kept))
    return LeastSquares(tuple(names), values, covariance, groups, dropped)


def solve(X: Array, y: Array) -> tuple[Array, list[int]]:
    """The least-squares coefficients of the independent columns, and which columns those are."""
    kept = independent_columns(X)
    beta = np.linalg.lstsq(X[:, kept], y, rcond=None)[0].astype(np.float64)
    return beta, kept


def independent_columns(X: Array) -> list[int]:
    """The columns that are not combinations of earlier ones, by Gram-Schmidt in the order given."""
    kept: list[int] = []
    basis: list[Array] = []
    for j in range(X.shape[1]):
        rest = X[:, j].copy()
        for _ in range(2):  # twice: once leaves rounding errors of the size of what was taken off
            for unit in basis:
                rest -= (unit @ rest) * unit
        size = float(np.linalg.norm(rest))
        if size > DEPENDENT * max(float(np.linalg.norm(X[:, j])), 1e-300):
            kept.append(j)
            basis.append(rest / size)
    return kept


def fit_positive(
    coefficients: Sequence[Positive],
    residuals: Residuals,
    *,
    start: Array | None = None,
    centre: Array | None = None,
    starts: int = 5,
    seed: int = 0,
) -> Array:
    """The logarithms of the coefficients that minimise Huber's loss of the log residuals plus the weak prior.

    `start` fits from there alone (a refit near a known optimum); otherwise the prior and `starts` - 1 random
    points around it are tried and the best is kept. `centre` moves the prior's centre (log), which a bootstrap
    does at random, so that coefficients the rows say nothing about spread as widely as the prior does.
    """
    low, high = np.array([c.log_bounds for c in coefficients]).T
    expected = np.log([c.prior for c in coefficients])
    spread = np.log([c.factor for c in coefficients])
    middle = expected if centre is None else centre
    inside = 1e-6 * (high - low)

    def minimise(point: Array, noise: float) -> optimize.OptimizeResult:
        return optimize.least_squares(
            lambda u: np.concatenate([residuals(u)[0] / noise, (u - middle) / spread]),
            np.clip(point, low + inside, high - inside),
            jac=lambda u: np.vstack([residuals(u)[1] / noise, np.diag(1.0 / spread)]),
            bounds=(low, high),
            loss="huber",
            f_scale=HUBER_AT,
            max_nfev=200,
        )

    best = start
    if best is None:
        rng = np.random.default_rng(seed)
        points = [expected, *(rng.normal(expected, spread / 2) for _ in range(starts - 1))]
        best = min((minimise(point, NOISE) for point in points), key=lambda fit: float(fit.cost)).x
    size = 1.4826 * float(np.median(np.abs(residuals(best)[0])))  # a normal distribution's, and no outlier's
    logs: Array = minimise(best, min(max(size, SMALLEST_NOISE), LARGEST_NOISE)).x
    return logs
