"""The noise of a table's own rows: how far off a law that knew the truth would still be.

Two estimates, each of the standard deviation of the logarithm of one row's seconds or joules per micro-step:

- repeats: the spread of rows that share a configuration, pooled. What all runs of a configuration share (a badly
  cooled device, a modelled host) is not in it.
- neighbours: for tables measured once. Of three rows that differ in one axis only, the middle one is compared with the
  straight line (in logarithms) through the others, the pseudo-residuals of Gasser, Sroka and Jennen-Steinmetz,
  "Residual variance and residual pattern in nonlinear regression", Biometrika 73 (1986). Curvature that three rows
  within a factor 2 show counts as noise, so that it errs upwards; what a whole series shares is not in it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.tables import CONFIGURATION_COLUMNS, DETAIL_COLUMNS, key

Array = npt.NDArray[np.float64]

TARGETS = {"duration": "duration_s", "energy": "energy_j"}
FEWEST = 10  # of differences: fewer say nothing
WIDEST = np.log(2.0) + 1e-9  # between the outer two of three neighbours
# Of the machine rather than the model: runs under another power cap, or over another link, are no repeats.
SETTINGS = ("power_limit_w", "tensor_parallel", "link", "link_bytes_per_s", "network_bytes_per_s")
# Along each axis, the columns that scale with it: a wider model has more heads and a wider FFN, in proportion.
AXES = {
    "num_layers": (),
    "hidden_size": ("num_heads", "intermediate_size"),
    "sequence_length": (),
    "micro_batch_size": (),
    "grad_accumulation": (),
}


@dataclass(frozen=True)
class NoiseFloor:
    """One estimate for one target. What a perfect forecast would score follows from it for normal noise."""

    target: str
    method: str  # repeats | neighbours
    n: int  # degrees of freedom of the repeats, or triples of neighbours
    sigma: float  # of log(target), root mean square: outliers count in full
    sigma_robust: float  # 1.4826 x the median size, which outliers do not move
    mape: float  # sqrt(2 / pi) sigma: the mean error of forecasts without any of their own
    r2_log: float  # 1 - sigma^2 / variance of log(target) over the rows


def noise_floor(table: pd.DataFrame) -> tuple[NoiseFloor, ...]:
    """Every estimate that a checked measurement table supports, repeats first; empty where it supports none."""
    found = []
    for target, column in TARGETS.items():
        total = np.log(table[column].to_numpy(dtype=float))
        each = total - np.log(table["micro_steps"].to_numpy(dtype=float))
        for method, (differences, n) in {
            "repeats": repeat_differences(table, each),
            "neighbours": neighbour_differences(table, each),
        }.items():
            if n >= FEWEST:
                found.append(_floor(target, method, differences, n, float(np.var(total))))
    return tuple(sorted(found, key=lambda floor: floor.method, reverse=True))


def repeat_differences(table: pd.DataFrame, values: Array) -> tuple[Array, int]:
    """Deviations from each configuration's mean, scaled to the deviation of one row, and their degrees of freedom."""
    group = key(table, _configuration(table))
    size = group.map(group.value_counts()).to_numpy(dtype=float)
    repeated = size > 1
    deviation = values - pd.Series(values).groupby(group.to_numpy()).transform("mean").to_numpy()
    scaled = deviation[repeated] * np.sqrt(size[repeated] / (size[repeated] - 1))
    return scaled, int(repeated.sum() - group[repeated].nunique())


def neighbour_differences(table: pd.DataFrame, values: Array) -> tuple[Array, int]:
    """Pseudo-residuals of all triples of neighbours on all axes, scaled to the deviation of one row; and how many."""
    found: list[float] = []
    for axis, along in AXES.items():
        relative = {name: table[name] / table[axis] for name in along}
        others = [name for name in _configuration(table) if name != axis]
        series = key(table.assign(**relative), others).to_numpy()
        x = np.log(table[axis].to_numpy(dtype=float))
        names, sizes = np.unique(series, return_counts=True)
        for name in names[sizes >= 3]:
            found += _triples(x[series == name], values[series == name])
    return np.array(found), len(found)


def _triples(x: Array, y: Array) -> list[float]:
    """Of each three neighbouring x: the middle y less the line through the outer ones, over its standard deviation.

    Rows of one x are averaged, and weigh as their mean does.
    """
    by = pd.DataFrame({"x": x, "y": y}).groupby("x")["y"].agg(["mean", "size"])
    at, mean, size = by.index.to_numpy(dtype=float), by["mean"].to_numpy(), by["size"].to_numpy(dtype=float)
    found = []
    for left, middle, right in zip(range(len(at)), range(1, len(at)), range(2, len(at)), strict=False):
        span = at[right] - at[left]
        if span > WIDEST:
            continue
        share = (at[right] - at[middle]) / span
        off = mean[middle] - share * mean[left] - (1 - share) * mean[right]
        variance = 1 / size[middle] + share**2 / size[left] + (1 - share) ** 2 / size[right]
        found.append(float(off / np.sqrt(variance)))
    return found


def _configuration(table: pd.DataFrame) -> Sequence[str]:
    perhaps = (*DETAIL_COLUMNS, *SETTINGS, "boundary")
    return [*CONFIGURATION_COLUMNS, *(name for name in perhaps if name in table.columns)]


def _floor(target: str, method: str, differences: Array, n: int, variance: float) -> NoiseFloor:
    sigma = float(np.sqrt(np.mean(differences**2)))
    return NoiseFloor(
        target=target,
        method=method,
        n=n,
        sigma=sigma,
        sigma_robust=1.4826 * float(np.median(np.abs(differences))),
        mape=float(np.sqrt(2 / np.pi) * sigma),
        r2_log=1 - sigma**2 / variance if variance > 0 else float("nan"),
    )
