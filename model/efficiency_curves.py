"""P2's efficiency curves: h(c) = h_max (1 - exp(-k c^a)), the share of peak that a call of c TFLOP reaches.

h is in percent of v_max, the catalogue's peak in the call's precision; a call then takes c / (v_max h) seconds. Fitted
on timings of isolated calls by least squares of h in percentage points, which is what the paper's own curves minimise;
residuals beyond ten (robust) standard deviations count linearly, so that a hiccup does not bend the curve.
Source: as in `operations`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

from joulelaw import InputError

Array = npt.NDArray[np.float64]

TERA = 1e12
FULL_PERCENT = 100.0  # the most that h_max can be
FEWEST_SIZES = 4  # different FLOPs: one more than a curve has parameters
REMEDY = f"time it at {FEWEST_SIZES} sizes at least"
A_BOUNDS = (0.02, 3.0)
LOG_K_BOUNDS = (-12.0, 12.0)  # of k c0^a, with c0 the geometric mean size: far beyond any saturation
OUTLIER_SD = 10.0


@dataclass(frozen=True)
class Curve:
    """A fitted curve. Errors are the least squares' own standard errors of (h_max, k, a), relative for k."""

    h_max: float  # percent
    k: float  # TFLOP^-a
    a: float
    c_low: float = float("nan")  # TFLOP; the range of the timings
    c_high: float = float("nan")
    n: int = 0
    rmse: float = float("nan")  # percentage points
    errors: tuple[float, float, float] = (float("nan"),) * 3

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Parameters at a bound. h_max: v_max is too low, or saturation was not seen; a: the sizes are few."""
        whole = self.h_max >= FULL_PERCENT * (1 - 1e-6)
        steep = not A_BOUNDS[0] * (1 + 1e-6) < self.a < A_BOUNDS[1] * (1 - 1e-6)
        return (*(["h_max"] if whole else []), *(["a"] if steep else []))

    def percent(self, flop: npt.ArrayLike) -> Array:
        """Efficiency of calls of so many FLOP, in percent of peak."""
        c = np.asarray(flop, dtype=float) / TERA
        return np.asarray(-self.h_max * np.expm1(-self.k * c**self.a))

    def seconds(self, flop: npt.ArrayLike, peak_flop_per_s: npt.ArrayLike) -> Array:
        """t = c / (v_max h). The paper's "us" are these seconds x 1e6 / 100, as its h is in percent."""
        work = np.asarray(flop, dtype=float)
        some = np.where(work > 0, work, 1.0)
        return np.where(work > 0, some / (np.asarray(peak_flop_per_s) * self.percent(some) / 100), 0.0)


def fit_curve(flop: npt.ArrayLike, percent: npt.ArrayLike, *, robust: bool = True, where: str = "timings") -> Curve:
    """The curve through efficiencies (percent of peak) of calls of so many FLOP; one value a timing.

    `robust=False` is plain least squares, the paper's. Raises InputError for too few different sizes.
    """
    c, h = np.asarray(flop, dtype=float) / TERA, np.asarray(percent, dtype=float)
    sizes = len(np.unique(c))
    if sizes < FEWEST_SIZES:
        what = f"{sizes} different sizes cannot fix an efficiency curve of three parameters"
        raise InputError(what, where=where, remedy=REMEDY)
    centre = float(np.exp(np.log(c).mean()))
    u = np.log(c / centre)

    def residuals(point: Array) -> Array:
        reached: Array = -np.expm1(-np.exp(point[1] + point[2] * u))
        missed: Array = _height(point) * reached - h
        return missed

    highest = float(h.max())
    if robust:  # the size of an ordinary residual, from a fit in which nearly all count linearly
        rough = _least_squares(residuals, highest, "huber", 1e-2 * highest, None)
        size = max(OUTLIER_SD * 1.4826 * float(np.median(np.abs(rough.fun))), 1e-9 * highest)
        fit = _least_squares(residuals, highest, "huber", size, rough.x)
    else:
        fit = _least_squares(residuals, highest, "linear", 1.0, None)
    missed = residuals(fit.x)
    log_k, a = float(fit.x[1]), float(fit.x[2])
    return Curve(
        h_max=min(_height(fit.x), FULL_PERCENT),
        k=float(np.exp(log_k - a * np.log(centre))),
        a=a,
        c_low=float(c.min()),
        c_high=float(c.max()),
        n=len(c),
        rmse=float(np.sqrt(np.mean(missed**2))),
        errors=_errors(fit, missed, centre),
    )


def _height(point: Array) -> float:
    return float(np.exp(point[0]))


def _least_squares(
    residuals: Callable[[Array], Array], highest: float, loss: str, scale: float, near: Array | None
) -> optimize.OptimizeResult:
    """The best of many starts within the bounds: heights, steepnesses and exponents that cover what devices show."""
    low = np.array([np.log(highest) - 3, LOG_K_BOUNDS[0], A_BOUNDS[0]])
    high = np.array([np.log(FULL_PERCENT), LOG_K_BOUNDS[1], A_BOUNDS[1]])
    low[0] = min(low[0], high[0] - 3)
    starts = [near] if near is not None else []
    heights = np.log(np.minimum([highest, 2 * highest], 0.99 * FULL_PERCENT))
    starts += [np.array([m, k, a]) for m in heights for k in (-2.0, 0.0, 1.5) for a in (0.4, 0.8)]
    inside = 1e-9 * (high - low)

    def fit(start: Array) -> optimize.OptimizeResult:
        point = np.clip(start, low + inside, high - inside)
        return optimize.least_squares(residuals, point, bounds=(low, high), loss=loss, f_scale=scale, x_scale="jac")

    return min((fit(start) for start in starts), key=lambda each: float(each.cost))


def _errors(fit: optimize.OptimizeResult, missed: Array, centre: float) -> tuple[float, float, float]:
    """Standard errors of h_max, of log k and of a, from the Jacobian."""
    freedom = max(len(missed) - 3, 1)
    covariance = np.linalg.pinv(fit.jac.T @ fit.jac) * float(missed @ missed) / freedom
    to_k = np.array([0.0, 1.0, -np.log(centre)])  # log k = point[1] - a log c0
    variances = (covariance[0, 0] * _height(fit.x) ** 2, to_k @ covariance @ to_k, covariance[2, 2])
    height, log_k, a = (float(np.sqrt(max(each, 0.0))) for each in variances)
    return height, log_k, a
