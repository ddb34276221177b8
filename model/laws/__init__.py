"""The table of laws, and how any of them is fitted: point, bootstrap over cases, conformal widths, origin."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError, __version__
from joulelaw.model.blocks import one_blas_thread
from joulelaw.model.hardware import Catalogue
from joulelaw.model.history import Event
from joulelaw.model.intervals import Widths
from joulelaw.model.laws.base import Coefficient, Estimate, FittedLaw, Law, Provenance, Rows
from joulelaw.model.laws.operation import Operation
from joulelaw.model.laws.reduced_form import ReducedForm
from joulelaw.model.laws.roofline import Roofline
from joulelaw.model.laws.widths import forecast_widths
from joulelaw.model.levenberg import unsettled
from joulelaw.model.ranges import ranges_of
from joulelaw.model.tables import check_measurements, content_hash, meters_of

Array = npt.NDArray[np.float64]
Watch = Callable[[int, int], None]  # how many resamples are fitted, of how many

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
    watch: Watch | None = None,
) -> FittedLaw:
    """Fit a law on the trials of a measurement table (those to be fitted: the hold-out is the caller's to leave out).

    `bootstrap` is the number of resamples, by case, for the coefficients' intervals (0: none); `operations` are the
    timings that the law `operation` takes; `watch` is told, after each resample, how many of how many are fitted.
    Raises InputError for a table that cannot be fitted: see check_measurements, and the laws' own needs.
    """
    law = law_named(name)
    checked = check_measurements(table, allow_mixed_meters=allow_mixed_meters)
    rows = Rows.of(checked, catalogue, operations)
    return fit_rows(law, rows, catalogue, bootstrap=bootstrap, seed=seed, watch=watch)


def fit_rows(
    law: Law,
    rows: Rows,
    catalogue: Catalogue,
    *,
    bootstrap: int = 200,
    seed: int = 0,
    forecasts_only: bool = False,
    watch: Watch | None = None,
) -> FittedLaw:
    """As fit_law, on rows already checked and counted.

    With `forecasts_only` nobody asks for the coefficients' intervals: a law that states the covariance of its
    parameters then needs no resample.
    """
    with one_blas_thread():
        estimate = law.fit(rows, seed=seed)
        if forecasts_only and estimate.covariance.size:
            bootstrap = 0
        found = []
        for k, sample in enumerate(law.resamples(rows, estimate, bootstrap, seed) if bootstrap else ()):
            found.append(law.fit(sample, seed=seed + 1 + k, start=estimate.parameters, resampled=True))
            if watch is not None:
                watch(len(found), bootstrap)
        draws = [each.parameters for each in found]
        widths = forecast_widths(law, rows, estimate)
        origin = provenance_of(rows)
        models = tuple(map(str, origin.ranges["gpu_model"]))
        return FittedLaw(
            law=law,
            parameters=estimate.parameters,
            coefficients=law.coefficients(estimate, draws, rows),
            provenance=origin,
            catalogue=catalogue,
            widths=widths,
            covariance=estimate.covariance if estimate.covariance.size else _covariance(law, estimate, draws),
            notes=(*estimate.notes, *_draws_note(found), *_level_note(widths)),
            history=(Event.now("fitted", models, origin.n_trials, origin.n_cases, origin.data_hash),),
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


def _draws_note(draws: Sequence[Estimate]) -> tuple[str, ...]:
    count = sum(not each.settled for each in draws)
    return (unsettled(f"intervals of coefficients, {count} of {len(draws)} resamples"),) if count else ()


def _level_note(widths: Widths) -> tuple[str, ...]:
    """That the cases are too few for the level aimed at: of G, G / (G + 1) is supported (`conformal_half_width`)."""
    achieved = widths.achieved
    if not achieved < widths.aimed - 1e-9:
        return ()
    cases = round(achieved / (1 - achieved))
    percent = math.floor(100 * achieved + 1e-6)
    return (f"{cases} cases support intervals of {percent} %, not {100 * widths.aimed:.0f} %",)


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
