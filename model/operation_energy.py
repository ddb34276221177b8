"""P2's linear law of energy: E = e0 + sum e_i t_i, joules from the seconds that each operation takes.

Two fits: ordinary least squares as published, and with non-negative coefficients, as watts are. Columns that are equal
in every row cannot be told apart: they are merged, and each of the twins is given the same coefficient.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize

Array = npt.NDArray[np.float64]
Twins = tuple[tuple[int, ...], ...]

EQUAL = 1e-9  # relative; twins of the published data differ by rounding


@dataclass(frozen=True)
class LinearLaw:
    """A fitted E = e0 + sum e_i t_i. `twins` are the positions of columns that were merged."""

    intercept: float
    slopes: Array
    twins: Twins = ()

    def predict(self, times: Array) -> Array:
        """One value a row of `times` (rows x operations)."""
        return np.asarray(self.intercept + times @ self.slopes)

    def r2(self, times: Array, measured: Array) -> float:
        """The share of the variance explained; of rows it was not fitted on it may be negative."""
        return r2(measured, self.predict(times))


def r2(measured: Array, predicted: Array) -> float:
    spread = float(((measured - measured.mean()) ** 2).sum())
    return 1.0 - float(((measured - predicted) ** 2).sum()) / spread if spread > 0 else float("nan")


def fit_linear(times: Array, measured: Array, *, non_negative: bool = True, relative: bool = False) -> LinearLaw:
    """Least squares of the measured values (rows) on the times (rows x operations).

    `relative` weighs each row by its value, so that runs of a second and of an hour count alike.
    """
    merged, groups = merge_twins(times)
    weight = 1.0 / measured if relative else np.ones(len(measured))
    X = np.column_stack([np.ones(len(measured)), merged]) * weight[:, None]
    size = np.linalg.norm(X, axis=0)
    size[size == 0] = 1.0
    y = measured * weight
    if non_negative:
        scaled, _ = optimize.nnls(X / size, y, maxiter=100 * X.shape[1])
    else:
        scaled = np.linalg.lstsq(X / size, y)[0]
    values = scaled / size
    slopes = np.zeros(times.shape[1])
    for value, group in zip(values[1:], groups, strict=True):
        slopes[list(group)] = value
    return LinearLaw(float(values[0]), slopes, tuple(group for group in groups if len(group) > 1))


def merge_twins(times: Array) -> tuple[Array, Sequence[tuple[int, ...]]]:
    """The sums of equal columns, and the positions that each sums."""
    groups: list[list[int]] = []
    for j in range(times.shape[1]):
        twin = next((g for g in groups if np.allclose(times[:, g[0]], times[:, j], rtol=EQUAL, atol=0)), None)
        if twin is None:
            groups.append([j])
        else:
            twin.append(j)
    sums = [times[:, group].sum(axis=1) for group in groups]
    return np.column_stack(sums) if sums else times, [tuple(group) for group in groups]
