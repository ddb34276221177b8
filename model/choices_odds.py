"""How sure a law is that one candidate costs less than another: they share most of what is not known of either.

The law says log cost_i = f_i(theta) + m_i: a function of parameters that are known to a covariance S, and a miss of its
own. With slopes g_i the difference of two candidates has, to first order, the variance

  (g_1 - g_2)' S (g_1 - g_2) + own_1^2 + own_2^2 + what kinds add,

and P(1 costs less than 2) = Phi((log cost_2 - log cost_1) / sd): a doubt of the clock speed of a device that both run
on cancels, the doubt of a message's time stays where one sends and the other does not.

- own: unseen cases are missed by c (half-width / 1.96), the fits' errors of then included. Within the fitted ranges the
  candidate's own variance is hence c^2 - g' S g, but at least OWN_SHARE of c^2: slopes are not the whole truth. Outside
  them the law's interval adds g' S g to c, and c is the candidate's own. Own misses are taken to be independent; those
  of candidates that are much alike are not quite, and then the order is surer than said.
- kinds: forecasts of a new device model, strategy, link or size are missed by more (`Widths.widen`), and on a device
  known by a few trials a strategy may be off as a whole (DISCREPANCY). That is common to candidates of the same kind,
  and cancels between them. Each device model that was never measured has corrections of its own, as in a calibration.

A cost of both targets (money) moves by its shares of either; their misses count as going together (comonotone).
OWN_SHARE was chosen on held-out pairs of real trials (docs/recommend.md): 0 was too sure of close pairs, 1 too careful.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from joulelaw.model.calibration import belief_of
from joulelaw.model.columns import has
from joulelaw.model.intervals import DISCREPANCY, STANDS_IN, TARGETS, UNSEEN_HALF_WIDTH, Z
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import corrected_models
from joulelaw.model.laws.roofline_terms import UNMEASURED
from joulelaw.model.ranges import Outside, outside
from joulelaw.model.tables import check_configurations

Array = npt.NDArray[np.float64]
Positions = npt.NDArray[np.intp]

OWN_SHARE = 0.5
# What trials of a calibrated device say nothing of is common to these (as in `model.design`).
ALIKE = ("gpu_model", "model_family", "strategy")


@dataclass(frozen=True)
class Kind:
    """A miss that candidates of one kind have in common: its size in each row (a standard deviation), and which kind
    the row is of."""

    size: Mapping[str, Array]
    code: Positions


@dataclass(frozen=True)
class Doubts:
    """What is not known of the logarithms of some candidates' seconds and joules, by target."""

    slopes: Mapping[str, Array]
    covariance: Array
    own: Mapping[str, Array]
    kinds: tuple[Kind, ...]

    @classmethod
    def of(cls, fitted: FittedLaw, table: pd.DataFrame) -> Self:
        """Of the candidates of a table, as `FittedLaw.predict` takes it. Raises InputError as that does."""
        checked = fitted.at_boundary(check_configurations(table))
        rows = Rows.of(checked, fitted.catalogue).pre_run()
        law = _with_devices(fitted, sorted(set(rows.table["gpu_model"])))
        slopes, covariance = _slopes(law, rows)
        few = has(rows.table, "gpu_model", fitted.calibrated)
        # Where nothing tells how large misses are (a law of no trial, be it calibrated): as of a strategy as a whole.
        untold = np.where(few | (fitted.provenance.n_trials == 0), Z * DISCREPANCY, 0.0)
        missed = {t: np.where(np.isnan(half), untold, half) for t, half in fitted.widths.of_cases(rows.table).items()}
        axes = outside(rows.sized, fitted.provenance.ranges)
        new = _new(fitted, missed, axes, rows)
        beyond = few.copy()
        for each in axes.values():
            beyond[each.rows] = True
        own = {}
        for target in TARGETS:
            variance = (missed[target] / Z) ** 2
            spread = np.einsum("ij,ij->i", slopes[target] @ covariance, slopes[target])
            inside = np.maximum(variance - spread, OWN_SHARE * variance)
            own[target] = np.sqrt(np.where(beyond, variance, inside))
        # A law of no trial has no correction of any device: their data sheets are off as those of new ones.
        unseen = 0.0 if fitted.provenance.n_trials else UNSEEN_HALF_WIDTH / Z
        device = Kind(dict.fromkeys(TARGETS, np.full(len(rows), unseen)), _codes(rows.table, ("gpu_model",)))
        off = Kind(dict.fromkeys(TARGETS, np.where(few, DISCREPANCY, 0.0)), _codes(rows.table, ALIKE))
        return cls(slopes, covariance, own, (new, off, device))

    def better(self, first: Positions, second: Positions, logs: Array, shares: Mapping[str, Array]) -> Array:
        """For each pair of candidates the probability that the first costs less than the second.

        `logs` are the logarithms of all candidates' costs, and `shares` how far they follow the joules and the seconds
        (energy: 1 and 0). nan for a candidate against itself, and where the law states no doubt at all.
        """
        weights = {target: np.asarray(shares[target], dtype=float) for target in TARGETS}
        slope: Array = sum((weights[t][:, None] * self.slopes[t] for t in TARGETS), start=np.zeros(1))
        own: Array = sum((weights[t] * self.own[t] for t in TARGETS), start=np.zeros(1))
        apart = slope[first] - slope[second]
        variance = np.einsum("ij,ij->i", apart @ self.covariance, apart) + own[first] ** 2 + own[second] ** 2
        for kind in self.kinds:
            size: Array = sum((weights[t] * kind.size[t] for t in TARGETS), start=np.zeros(1))
            common = np.where(kind.code[first] == kind.code[second], 2 * size[first] * size[second], 0.0)
            variance = variance + size[first] ** 2 + size[second] ** 2 - common
        known = (variance > 0) & (first != second)
        sd = np.sqrt(np.where(known, variance, 1.0))
        return np.where(known, ndtr((logs[second] - logs[first]) / sd), np.nan)


def _slopes(fitted: FittedLaw, rows: Rows) -> tuple[dict[str, Array], Array]:
    """Slopes in the parameters that the law states a covariance of, and that covariance."""
    if not fitted.covariance.size:
        return {target: np.zeros((len(rows), 1)) for target in TARGETS}, np.zeros((1, 1))
    names, slopes = fitted.law.slopes(fitted.parameters, rows)
    place = {name: j for j, name in enumerate(list(fitted.parameters)[: len(fitted.covariance)])}
    known = [j for j, name in enumerate(names) if name in place]
    at = [place[names[j]] for j in known]
    return {target: slopes[target][:, known] for target in TARGETS}, fitted.covariance[np.ix_(at, at)]


def _with_devices(fitted: FittedLaw, models: Sequence[str]) -> FittedLaw:
    """The law with corrections for each of these device models: of two unmeasured ones each is off in its own way."""
    for model in models:
        known = corrected_models(fitted.parameters)
        if UNMEASURED in known and model not in known:
            belief = belief_of(fitted, model)
            own = dict(zip(belief.names, map(float, np.exp(belief.mean)), strict=True))
            rest = {name: value for name, value in fitted.parameters.items() if name not in own}
            fitted = replace(fitted, parameters=own | rest, covariance=belief.covariance)
    return fitted


def _new(fitted: FittedLaw, missed: Mapping[str, Array], axes: Mapping[str, Outside], rows: Rows) -> Kind:
    """What new kinds are missed by beside cases; rows share it that are new on the same axes, with the same values."""
    wide = {target: half.copy() for target, half in missed.items()}
    fitted.widths.widen(wide, axes)
    size = {t: np.sqrt(np.maximum(wide[t] ** 2 - missed[t] ** 2, 0.0)) / Z for t in TARGETS}
    widening = [axis for axis in axes if STANDS_IN.get(axis, axis) in fitted.widths.half]
    values = rows.sized[widening].astype(str)
    for axis in widening:  # what a row has on an axis on which it lies inside does not matter
        values.loc[~values.index.isin(axes[axis].rows), axis] = ""
    return Kind(size, _codes(values, widening))


def _codes(table: pd.DataFrame, names: Sequence[str]) -> Positions:
    """Which combination of values each row has."""
    if not names:
        return np.zeros(len(table), dtype=np.intp)
    return np.asarray(table.groupby(list(names), sort=False, observed=True, dropna=False).ngroup(), dtype=np.intp)
