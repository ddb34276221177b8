"""What rows tell of a law's coefficients: their covariance, and which of them the rows leave open or mix up."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.fitting import Positive, PositiveFit, priors
from joulelaw.model.levenberg import weights

Array = npt.NDArray[np.float64]

# Two coefficients whose errors are correlated beyond this are named: the rows fix a product of them better than either.
CORRELATED = 0.9
# A coefficient of which more than this share of the prior's variance is left was not told by the rows.
LEFT_OPEN = 0.5
# Two devices' corrections are each other's inverse: no finding.
MIRRORED = 1 - 1e-9


@dataclass(frozen=True)
class Identifiability:
    """Of one target's coefficients, by the linearised fit."""

    target: str
    coefficients: int
    directions: int
    """Independent combinations of coefficients that the rows fix better than what was assumed beforehand."""
    condition: float
    """Of the problem with its prior, coefficients scaled by what was assumed: worst- over best-fixed direction."""
    left_open: tuple[str, ...]
    """Coefficients that keep more than half of the variance assumed beforehand."""
    correlated: tuple[tuple[str, str, float], ...]
    """Pairs whose errors are correlated by more than 0.9, and by how much."""
    at_bound: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{self.target}: the rows fix {self.directions} directions of {self.coefficients} coefficients"]
        parts[0] += f", condition {self.condition:.0f}"
        pairs = [f"{a} with {b} ({rho:+.2f})" for a, b, rho in self.correlated]
        for words, names in (("left open", self.left_open), ("at a bound", self.at_bound), ("mixed up", pairs)):
            if names:
                parts.append(f"{words}: {', '.join(names)}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Doubt:
    """What a fit leaves open."""

    covariance: Array  # of the coefficients' logarithms
    spread: Array  # standard deviation of each, before any row
    strengths: Array  # what rows tell of each independent direction, in units of what was assumed; rising


def doubt_of(
    fit: PositiveFit, coefficients: Sequence[Positive], slope: Array, missed: Array, cases: Sequence[str]
) -> Doubt:
    """The covariance is a sandwich whose rows count by case, plus the prior's share.

    `slope` is that of the log forecasts (rows x coefficients) at the fit, `missed` their log residuals. Rows of a case
    err together, so scores are summed by case before they are squared (as in `fitting.least_squares`).
    """
    _, spread = priors(coefficients)
    certain = weights(missed, fit.noise) / fit.noise**2
    information = (slope * certain[:, None]).T @ slope
    bread = np.linalg.inv(information + np.diag(spread**-2))
    member, known = pd.factorize(np.asarray(cases, dtype=object))
    groups = len(known)
    sums = np.zeros((groups, slope.shape[1]))
    np.add.at(sums, member, slope * (certain * missed)[:, None])
    meat = groups / max(groups - 1, 1) * sums.T @ sums + np.diag(spread**-2)
    strengths = np.linalg.eigvalsh(information * np.outer(spread, spread))
    return Doubt(bread @ meat @ bread, spread, np.asarray(strengths, dtype=np.float64))


def identifiability(
    coefficients: Sequence[Positive],
    fit: PositiveFit,
    doubt: Doubt,
    names: Sequence[str],
    covariance: Array,
    prior: Array,
) -> Identifiability:
    """In words and numbers; `names` are those of the first rows of `covariance` and of `prior`, its value before."""
    short = [name.partition(".")[2] for name in names]
    variance, before = np.diag(covariance)[: len(names)], np.diag(prior)[: len(names)]
    error = np.sqrt(np.maximum(variance, 1e-300))
    correlation = covariance[: len(names), : len(names)] / np.outer(error, error)
    pairs = [(i, j) for i, j in zip(*np.triu_indices(len(names), 1), strict=True)]
    low, high = max(float(doubt.strengths[0]), 0.0), float(doubt.strengths[-1])
    return Identifiability(
        target=coefficients[0].target,
        coefficients=len(coefficients),
        directions=int((doubt.strengths > 1.0).sum()),
        condition=float(np.sqrt((high + 1.0) / (low + 1.0))),
        left_open=tuple(n for n, v, b in zip(short, variance, before, strict=True) if v > LEFT_OPEN * b),
        correlated=tuple(
            (short[i], short[j], float(correlation[i, j]))
            for i, j in pairs
            if CORRELATED < abs(correlation[i, j]) < MIRRORED
        ),
        at_bound=tuple(c.name for c, u in zip(coefficients, fit.logs, strict=True) if c.at_bound(float(np.exp(u)))),
    )
