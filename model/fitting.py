"""Two solvers: least squares with cluster-robust errors, and positive coefficients on log residuals with Huber loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

from joulelaw.model.levenberg import DONE, Minimum, Problem, Residuals, minimise

Array = npt.NDArray[np.float64]

# Log residuals are divided by their own size, so that data and prior weigh against each other as their doubts do.
# That size is found from a first fit at NOISE, and is never taken below what good repeats reach or above a misfit.
NOISE = 0.05
SMALLEST_NOISE, LARGEST_NOISE = 0.005, 0.2
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


@dataclass(frozen=True)
class PositiveFit:
    """The logarithms of the coefficients, the size of the log residuals that data and prior were weighed by, and
    whether the search came to rest (`levenberg.Minimum`)."""

    logs: Array
    noise: float
    settled: bool


def fit_positive(
    coefficients: Sequence[Positive],
    residuals: Residuals,
    *,
    start: Array | None = None,
    centre: Array | None = None,
    precision: Array | None = None,
    noise: float | None = None,
    done: float = DONE,
    starts: int = 3,
    seed: int = 0,
) -> PositiveFit:
    """The logarithms of the coefficients that minimise Huber's loss of the log residuals plus the weak prior.

    `start` fits from there alone (a refit near a known optimum); otherwise the prior and `starts` - 1 random
    points around it are tried and the best is kept. `centre` moves the prior's centre (log), which a bootstrap
    does at random, so that coefficients the rows say nothing about spread as widely as the prior does; `precision` is
    the prior's inverse covariance where it is not that of the coefficients' own factors, and `noise` the size of the
    residuals where the rows are too few to tell. `done` is the relative decrease of the loss that ends the search.
    """
    low, high = np.array([c.log_bounds for c in coefficients]).T
    expected, spread = priors(coefficients)
    middle = expected if centre is None else centre
    sharp = np.diag(spread**-2.0) if precision is None else precision

    def minimum(point: Array, noise: float) -> Minimum:
        return minimise(Problem(residuals, noise, middle, sharp, low, high, done), point)

    best = start
    if best is None:
        rng = np.random.default_rng(seed)
        points = [middle, *(rng.normal(middle, spread / 2) for _ in range(starts - 1))]
        best = min((minimum(point, NOISE) for point in points), key=lambda found: found.loss).u
    size = noise or min(max(size_of(residuals(best)[0]), SMALLEST_NOISE), LARGEST_NOISE)
    last = minimum(best, size)
    return PositiveFit(last.u, size, last.settled)


def priors(coefficients: Sequence[Positive]) -> tuple[Array, Array]:
    """Centre and standard deviation of the coefficients' logarithms before any row."""
    return np.log([c.prior for c in coefficients]), np.log([c.factor for c in coefficients])


def size_of(residuals: Array) -> float:
    """Standard deviation of a normal distribution with their median size: no outlier moves it."""
    return 1.4826 * float(np.median(np.abs(residuals)))
