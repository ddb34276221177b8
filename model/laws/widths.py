"""How wide a law's forecast intervals are: what forecasts of left-out rows were missed by, conformal and by group."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.blocks import at_once
from joulelaw.model.intervals import (
    LEVEL,
    POWER,
    TARGETS,
    UNSEEN_HALF_WIDTH,
    WIDTH_GROUPS,
    Widths,
    case_folds,
    conformal_half_width,
)
from joulelaw.model.laws.base import Estimate, Law, Rows
from joulelaw.model.ranges import TEXT_AXES
from joulelaw.model.tables import key

Array = npt.NDArray[np.float64]

FOLDS = 10
MEASURES = (*TARGETS, POWER)
# A group's own size counts as so many rows against that of all rows: few rows say little of how far others are off.
PRIOR_ROWS = 5
# Of longer tables so many rows, whole cases dealt by hash, are refitted: quantiles need no more.
MOST_ROWS = 3000
# Fewer rows leave threads nothing to do at the same time: NumPy's loops over them are too short.
THREADED_ROWS = 2000


def forecast_widths(law: Law, rows: Rows, estimate: Estimate) -> Widths:
    """Interval half-widths from forecasts of rows whose case (GPU model, strategy, ...) was left out of the fit.

    Residuals are divided by the size of their group's (device model, family and strategy) before the conformal quantile
    is taken, and an interval is that quantile times its row's group (normalised conformal; Lei et al. 2018).
    """
    if len(rows) > MOST_ROWS:
        rows = rows.take(case_folds(rows.cases, most=-(-len(rows) // MOST_ROWS))[0])
    refits = _Refits(law, rows, estimate)
    masks = case_folds(rows.cases, most=FOLDS)
    missed = refits.missed(masks)
    if not missed:
        return Widths()
    names = key(rows.table, WIDTH_GROUPS)
    ratios = {target: _ratios(missed[target], names) for target in MEASURES}
    scaled = {target: missed[target] / names.map(ratios[target]).to_numpy(float) for target in MEASURES}
    cases = {target: _half_width(scaled[target], rows) for target in MEASURES}
    known = _of_kinds(refits)
    half = {
        "case": {target: width for target, (width, _) in cases.items()},
        **{axis: known.get(axis, dict.fromkeys(MEASURES, UNSEEN_HALF_WIDTH)) for axis in TEXT_AXES},
        **_of_sizes(refits),
    }
    method = f"cross-conformal, {len(masks)} folds over {len(set(rows.cases))} cases, cases of equal weight"
    method += f", scaled by {', '.join(WIDTH_GROUPS)}"
    if assumed := [axis for axis in TEXT_AXES if axis not in known]:
        method += f"; for a new {', '.join(assumed)} a factor {np.exp(UNSEEN_HALF_WIDTH):g} at least is assumed"
    if stopped := refits.settled.count(False):
        method += f"; refits stopped before they came to rest: {stopped} of {len(refits.settled)}"
    achieved = float(np.fmin.reduce([LEVEL, *(cases[target][1] for target in TARGETS)]))
    return Widths(method, LEVEL, achieved, half, ratios)


@dataclass(frozen=True)
class _Refits:
    """Fits without some of the rows, near the one of all."""

    law: Law
    rows: Rows
    estimate: Estimate
    settled: list[bool] = field(default_factory=list)  # of each, as they end

    def missed(self, masks: list[npt.NDArray[np.bool_]]) -> dict[str, Array]:
        """Log residuals of each row by a fit without its mask; empty where a mask leaves too little to fit."""
        missed = {target: np.full(len(self.rows), np.nan) for target in TARGETS}

        def leave_out(mask: npt.NDArray[np.bool_]) -> None:
            test = self.rows.take(mask)
            without = self.law.fit(self.rows.take(~mask), start=self.estimate.parameters)
            self.settled.append(without.settled)
            forecast = self.law.forecast(without.parameters, test if self.law.post_run else test.pre_run())
            for target, unit in (("duration", "s"), ("energy", "j")):
                missed[target][mask] = np.log(test.column(f"{target}_{unit}")) - forecast.log(target)

        each = at_once if len(self.rows) > THREADED_ROWS else map
        try:
            list(each(leave_out, masks))
        except InputError:
            return {}
        return missed | {POWER: missed["energy"] - missed["duration"]} if masks else {}


def _of_kinds(refits: _Refits) -> dict[str, dict[str, float]]:
    """Half-widths of a new GPU model, strategy, ...: where the rows have several, each left out whole."""
    half = {}
    for axis in TEXT_AXES:
        values = refits.rows.table[axis].to_numpy(dtype=str)
        kinds = sorted(set(values)) if len(set(values)) > 1 else []
        if missed := refits.missed([values == kind for kind in kinds]):
            half[axis] = {target: _half_width(missed[target], refits.rows)[0] for target in MEASURES}
    return half


def _of_sizes(refits: _Refits) -> dict[str, dict[str, float]]:
    """Half-widths of sizes outside those fitted: of those beyond a quartile, by a fit without them."""
    size = refits.rows.column("flop_per_micro_step")
    first, third = np.quantile(size, [0.25, 0.75])
    beyond = [refits.missed([mask]) for mask in (size > third, size < first) if mask.any()]
    if not beyond or not all(beyond):
        return {}
    missed = {target: np.fmax.reduce([each[target] for each in beyond]) for target in MEASURES}  # no row is in both
    return {"size": {target: _half_width(missed[target], refits.rows)[0] for target in MEASURES}}


def _ratios(missed: Array, names: "pd.Series[str]") -> dict[str, float]:
    """Size of each group's residuals against that of all, by the 90 % quantiles: what intervals have to reach."""
    known = np.isfinite(missed)
    sizes = pd.Series(np.abs(missed[known]))
    whole = float(sizes.quantile(0.9)) if known.any() else 0.0
    if whole == 0:
        return dict.fromkeys(names, 1.0)
    by_name = sizes.groupby(names.to_numpy()[known])
    weight = by_name.size() / (PRIOR_ROWS + by_name.size())
    ratios = (1 - weight + weight * (by_name.quantile(0.9) / whole) ** 2) ** 0.5
    return {str(name): float(ratios.get(name, 1.0)) for name in names.unique()}


def _half_width(missed: Array, rows: Rows) -> tuple[float, float]:
    """Of the rows that the law forecasts at all; nan where there is none."""
    known = np.isfinite(missed)
    if not known.any():
        return float("nan"), float("nan")
    return conformal_half_width(missed[known], rows.take(known).cases)
