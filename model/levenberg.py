"""Levenberg and Marquardt's method for log residuals under Huber's loss, a Gaussian prior and bounds.

SciPy's least_squares does the same by a singular value decomposition of all rows in every step; the normal equations of
few coefficients are some ten times cheaper, which a bootstrap of hundreds of fits needs. A test holds the two equal.
Sources: Marquardt 1963; Huber 1964, by iteratively reweighted least squares; bounds by projection (Kanzow, Yamashita
and Fukushima 2004).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Residuals = Callable[[Array], tuple[Array, Array]]  # logarithms of coefficients -> residuals and their Jacobian

MOST_STEPS = 200
DONE = 1e-7  # relative decrease of the loss, twice in a row
HUBER_AT = 2.0  # in units of the residuals' size


@dataclass(frozen=True)
class Problem:
    """What is minimised, in bounds: sum of Huber(residual / noise) + (u - centre)' precision (u - centre) / 2."""

    residuals: Residuals
    noise: float
    centre: Array
    precision: Array
    low: Array
    high: Array
    done: float = DONE

    def loss(self, residuals: Array, u: Array) -> float:
        size = np.abs(residuals / self.noise)
        away = u - self.centre
        huber = np.where(size <= HUBER_AT, 0.5 * size**2, HUBER_AT * (size - 0.5 * HUBER_AT))
        return float(huber.sum() + 0.5 * away @ self.precision @ away)


@dataclass(frozen=True)
class Minimum:
    u: Array
    loss: float
    settled: bool  # False: stopped after MOST_STEPS, while steps still made the loss smaller


def minimise(problem: Problem, start: Array) -> Minimum:
    """The minimum that the start leads to."""
    u = np.clip(start, problem.low, problem.high)
    residuals, jacobian = problem.residuals(u)
    loss, damping, still = problem.loss(residuals, u), 1e-3, 0
    for _ in range(MOST_STEPS):
        gradient, hessian = _normal_equations(problem, residuals, jacobian, u)
        free = ~(((u <= problem.low) & (gradient > 0)) | ((u >= problem.high) & (gradient < 0)))
        moved = _step(problem, u, gradient, hessian, free, damping)
        tried, slope = problem.residuals(moved)
        better = problem.loss(tried, moved)
        if not better < loss:
            damping *= 4.0
            if damping > 1e12:  # no step is small enough: as near as numbers tell
                return Minimum(u, loss, settled=True)
            continue
        still = still + 1 if loss - better <= problem.done * max(loss, 1.0) else 0
        u, residuals, jacobian, loss, damping = moved, tried, slope, better, max(damping / 5.0, 1e-9)
        if still == 2:
            return Minimum(u, loss, settled=True)
    return Minimum(u, loss, settled=False)


def unsettled(what: str) -> str:
    """The note on a search that was stopped."""
    return f"{what}: the search was stopped after {MOST_STEPS} steps, before it came to rest; it may be off"


def weights(residuals: Array, noise: float) -> Array:
    """Of each row, by Huber: 1 near the fit, less the farther it is off."""
    return np.minimum(1.0, HUBER_AT * noise / np.maximum(np.abs(residuals), 1e-300))


def _normal_equations(problem: Problem, residuals: Array, jacobian: Array, u: Array) -> tuple[Array, Array]:
    weighted = jacobian * (weights(residuals, problem.noise) / problem.noise**2)[:, None]
    gradient = weighted.T @ residuals + problem.precision @ (u - problem.centre)
    return gradient, weighted.T @ jacobian + problem.precision


def _step(
    problem: Problem, u: Array, gradient: Array, hessian: Array, free: npt.NDArray[np.bool_], damping: float
) -> Array:
    """The damped step of the coefficients that are not held at a bound, projected into the bounds."""
    some = hessian[np.ix_(free, free)]
    some = some + damping * np.diag(np.diag(some))
    moved = u.copy()
    moved[free] -= np.linalg.solve(some, gradient[free])
    return np.clip(moved, problem.low, problem.high)
