"""The table of laws, and how any of them is fitted: point, bootstrap over cases, conformal widths, origin."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError, __version__
from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import (
    LEVEL,
    TARGETS,
    TEXT_AXES,
    UNSEEN_HALF_WIDTH,
    Widths,
    case_bootstrap,
    case_folds,
    conformal_half_width,
    ranges_of,
)
from joulelaw.model.laws.base import Coefficient, Estimate, FittedLaw, Law, Provenance, Rows
from joulelaw.model.laws.operation import Operation
from joulelaw.model.laws.reduced_form import ReducedForm
from joulelaw.model.laws.roofline import Roofline
from joulelaw.model.tables import check_measurements, content_hash, meters_of

Array = npt.NDArray[np.float64]

LAWS: dict[str, Law] = {law.name: law for law in (Roofline(), ReducedForm(), Operation())}
# Laws that use what is known only after the run: references to compare with, never forecasts.
POST_RUN: dict[str, Law] = {law.name: law for law in (ReducedForm(post_run=True),)}


def law_named(name: str) -> Law:
    """The law of this name. Raises InputError with the names there are."""
    laws = LAWS | POST_RUN
    if name not in laws:
        raise InputError(f"unknown law '{name}'", where="--law", remedy=f"choose one of {', '.join(laws)}")
    return laws[name]


def fit_law(
    name: str,
    table: pd.DataFrame,
    catalogue: Catalogue,
    bootstrap: int = 200,
    seed: int = 0,
    *,
    operations: pd.DataFrame | None = None,
    allow_mixed_meters: bool = False,
) -> FittedLaw:
    """Fit a law on the trials of a measurement table (those to be fitted: the hold-out is the caller's to leave out).

    `bootstrap` is the number of resamples over cases for the coefficients' intervals (0: none); `operations` are the
    timings that the law `operation` takes.
    Raises InputError for a table that cannot be fitted: see check_measurements, and the laws' own needs.
    """
    law = law_named(name)
    checked = check_measurements(table, allow_mixed_meters=allow_mixed_meters)
    return fit_rows(law, Rows.of(checked, catalogue, operations), catalogue, bootstrap=bootstrap, seed=seed)


def fit_rows(law: Law, rows: Rows, catalogue: Catalogue, *, bootstrap: int = 200, seed: int = 0) -> FittedLaw:
    """As fit_law, on rows already checked and counted."""
    estimate = law.fit(rows, seed=seed)
    draws = [
        law.fit(rows.take(at), seed=seed + 1 + k, start=estimate.parameters, resampled=True).parameters
        for k, at in enumerate(case_bootstrap(rows.cases, bootstrap, seed))
    ]
    return FittedLaw(
        law=law,
        parameters=estimate.parameters,
        coefficients=law.coefficients(estimate, draws, rows),
        provenance=provenance_of(rows),
        catalogue=catalogue,
        widths=forecast_widths(law, rows, estimate),
        covariance=estimate.covariance if estimate.covariance.size else _covariance(law, estimate, draws),
        notes=estimate.notes,
    )


def provenance_of(rows: Rows) -> Provenance:
    return Provenance(
        n_trials=len(rows),
        n_cases=len(set(rows.cases)),
        data_hash=content_hash(rows.table),
        meters=meters_of(rows.table),
        boundaries=tuple(sorted(set(rows.table["boundary"].astype(str)))),
        ranges=ranges_of(rows.sized),
        created_by=f"joulelaw {__version__}",
    )


def forecast_widths(law: Law, rows: Rows, estimate: Estimate) -> Widths:
    """Interval half-widths from forecasts of rows whose case (GPU model, strategy, ...) was left out of the fit."""
    masks = case_folds(rows.cases)
    missed = _out_of_fold(law, rows, estimate, masks)
    if not missed:
        return Widths()
    half: dict[str, dict[str, float]] = {"case": {}}
    achieved = LEVEL
    for target in TARGETS:
        half["case"][target], achieved = _half_width(missed[target], rows)
    assumed = []
    for axis in TEXT_AXES:
        values = rows.table[axis].to_numpy(dtype=str)
        names = sorted(set(values)) if len(set(values)) > 1 else []
        left_out = _out_of_fold(law, rows, estimate, [values == name for name in names])
        if left_out:
            half[axis] = {target: _half_width(left_out[target], rows)[0] for target in TARGETS}
        else:
            half[axis] = dict.fromkeys(TARGETS, UNSEEN_HALF_WIDTH)
            assumed.append(axis)
    method = f"cross-conformal, {len(masks)} folds over {len(set(rows.cases))} cases, cases of equal weight"
    if assumed:
        method += f"; for a new {', '.join(assumed)} a factor {np.exp(UNSEEN_HALF_WIDTH):g} at least is assumed"
    return Widths(method, LEVEL, achieved, half)


def _half_width(missed: Array, rows: Rows) -> tuple[float, float]:
    """Of the rows that the law forecasts at all; nan where there is none."""
    known = np.isfinite(missed)
    if not known.any():
        return float("nan"), float("nan")
    return conformal_half_width(missed[known], rows.take(known).cases)


def _out_of_fold(law: Law, rows: Rows, estimate: Estimate, masks: list[npt.NDArray[np.bool_]]) -> dict[str, Array]:
    """Log residuals of every row, forecast by a fit without its fold; empty where a fold leaves too little to fit."""
    missed = {target: np.full(len(rows), np.nan) for target in TARGETS}
    for mask in masks:
        test = rows.take(mask)
        try:
            without = law.fit(rows.take(~mask), start=estimate.parameters)
            forecast = law.forecast(without.parameters, test if law.post_run else test.pre_run())
        except InputError:
            return {}
        for target, unit in (("duration", "s"), ("energy", "j")):
            missed[target][mask] = np.log(test.column(f"{target}_{unit}")) - forecast.log(target)
    return missed if masks else {}


def _covariance(law: Law, estimate: Estimate, draws: list[dict[str, float]]) -> Array:
    """Of the parameters over the draws, in logarithms where the law's are positive; empty without draws."""
    if len(draws) < 2:
        return np.zeros((0, 0))
    drawn = np.array([[draw[name] for name in estimate.parameters] for draw in draws])
    return np.atleast_2d(np.cov(np.log(drawn) if law.logarithmic else drawn, rowvar=False))


__all__ = [
    "LAWS",
    "POST_RUN",
    "Coefficient",
    "FittedLaw",
    "Law",
    "Rows",
    "fit_law",
    "fit_rows",
    "law_named",
]
