"""How good a forecast is: R2 of the logarithm, error, bias, calibration, worst group, interval coverage and width."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

Array = npt.NDArray[np.float64]

# A group of fewer rows is not called the worst of anything.
SMALLEST_GROUP = 3


@dataclass(frozen=True)
class Score:
    """Scores of one law and target on one set of rows. Ratios and shares are plain numbers (0.1 is 10 %)."""

    n: int
    r2_log: float  # of the logarithm
    r2_log_per_token: float  # of the logarithm of the target per token: what is left when run length explains nothing
    mape: float  # mean absolute error relative to the measured value
    bias: float  # geometric mean of predicted / measured, less 1
    calibration_slope: float  # slope of log measured on log predicted: 1 is calibrated
    worst_group: str  # column=value
    worst_group_mape: float
    coverage: float  # share of measured values inside their interval; nan without intervals
    half_width_factor: float  # median of sqrt(high / low): the interval is a factor this much either way


def r2_log(measured: Array, predicted: Array) -> float:
    """Coefficient of determination of log(predicted); nan where fewer than two values or no variance."""
    return r2(np.log(measured), np.log(predicted))


def r2(truth: Array, forecast: Array) -> float:
    """1 - SS_residual / SS_total; nan where fewer than two values or no variance."""
    total = float(np.sum((truth - truth.mean()) ** 2)) if truth.size > 1 else 0.0
    if total <= 0:
        return float("nan")
    return 1.0 - float(np.sum((truth - forecast) ** 2)) / total


def mape(measured: Array, predicted: Array) -> float:
    """Mean of |predicted - measured| / measured."""
    return float(np.mean(np.abs(predicted - measured) / measured))


def bias(measured: Array, predicted: Array) -> float:
    """Geometric mean of predicted / measured, less 1."""
    return float(np.expm1(np.mean(np.log(predicted) - np.log(measured))))


def calibration_slope(measured: Array, predicted: Array) -> float:
    """Least-squares slope of log measured on log predicted; nan where the forecasts do not differ."""
    x = np.log(predicted)
    x = x - x.mean()
    spread = float(x @ x)
    # Equal forecasts differ in the last digits only; a slope on those would be noise.
    if x.size < 2 or spread <= x.size * 1e-20:
        return float("nan")
    return float(x @ np.log(measured)) / spread


def worst_group(measured: Array, predicted: Array, groups: pd.DataFrame) -> tuple[str, float]:
    """The group (a value of one of the columns) with the largest MAPE, and that MAPE."""
    error = pd.Series(np.abs(predicted - measured) / measured)
    worst, largest = "", float("nan")
    smallest = min(SMALLEST_GROUP, error.size)
    for column in groups.columns:
        by = error.groupby(groups[column].astype(str).to_numpy()).agg(["mean", "size"])
        by = by[by["size"] >= smallest]
        if not by.empty and not float(by["mean"].max()) <= largest:
            worst, largest = f"{column}={by['mean'].idxmax()}", float(by["mean"].max())
    return worst, largest


def score(
    measured: Array,
    predicted: Array,
    tokens: Array,
    groups: pd.DataFrame,
    low: Array | None = None,
    high: Array | None = None,
) -> Score:
    """All scores of one set of rows; `tokens` are each trial's, `groups` the columns to look for the worst group in."""
    name, largest = worst_group(measured, predicted, groups)
    coverage = width = float("nan")
    if low is not None and high is not None and np.isfinite(low).any():
        coverage = float(np.mean((low <= measured) & (measured <= high)))
        width = float(np.median(np.sqrt(high / low)))
    return Score(
        n=int(measured.size),
        r2_log=r2_log(measured, predicted),
        r2_log_per_token=r2_log(measured / tokens, predicted / tokens),
        mape=mape(measured, predicted),
        bias=bias(measured, predicted),
        calibration_slope=calibration_slope(measured, predicted),
        worst_group=name,
        worst_group_mape=largest,
        coverage=coverage,
        half_width_factor=width,
    )
