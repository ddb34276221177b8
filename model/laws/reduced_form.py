"""P1's law: log E = b0 + aC log C + aM log M + ah log h + strategy terms, fitted by least squares.

C = tokens of the run x 20 L d^2, M = b s L d, h = parallel efficiency (T1 / (n Tn) for equal work), and a family term
where there is more than one family. The same form on log seconds is the duration's law. Errors are cluster-robust by
case. Source: M. Zoubeirou a Mayaki, "The Energy Consumption of Transformer Fine-Tuning", arXiv 2606.23546, and its
artifact. Left out, by design of the form: idle energy, counted bytes, communication, the number of micro-steps.

With the measured h the law is post-run: E = P T and h holds T, so that it explains rather than forecasts. The pre-run
law puts in its place an h forecast by a second least squares, whose terms are chosen on the fitted rows and stated in
the fit's notes (reduced_form_efficiency).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw import InputError
from joulelaw.model.fitting import LeastSquares, least_squares
from joulelaw.model.intervals import TARGETS
from joulelaw.model.laws.base import (
    Coefficient,
    Estimate,
    Forecast,
    Parameters,
    Rows,
    case_resamples,
)
from joulelaw.model.laws.differences import numeric_slopes
from joulelaw.model.laws.reduced_form_efficiency import (
    EFFICIENCY_PARAMETERS,
    MEASURED,
    best_predictor,
    forecast_log_h,
    measured_log_h,
    predictor_of,
)
from joulelaw.model.laws.reduced_form_terms import design, meaning, named

Array = npt.NDArray[np.float64]

FORM = ("intercept", "log_C", "log_M", "log_h")
COLUMNS = {"duration": "duration_s", "energy": "energy_j"}


@dataclass(frozen=True)
class ReducedForm:
    """P1's law; pre-run with forecast efficiency, or post-run with the measured one."""

    post_run: bool = False
    logarithmic: bool = False

    @property
    def name(self) -> str:
        return "reduced_form_post_run" if self.post_run else "reduced_form"

    @property
    def parameter_names(self) -> tuple[Sequence[str], Sequence[str]]:
        always = [f"{target}.{name}" for target in TARGETS for name in FORM]
        terms = [f"{target}.{column}[" for target in TARGETS for column in ("strategy", "model_family")]
        return always, terms if self.post_run else [*terms, *EFFICIENCY_PARAMETERS]

    def fit(self, rows: Rows, *, seed: int = 0, start: Parameters | None = None, resampled: bool = False) -> Estimate:
        """Least squares: nothing is random and no start is needed; `start` keeps a draw's terms those of the fit."""
        fits, notes = self._solve(rows, start)
        # A draw may hold no rows that a term needs (one device: no efficiency): it is 0 then, as any dropped term.
        parameters = dict.fromkeys(start or (), 0.0) | {
            f"{target}.{name}": float(value)
            for target, fit in fits.items()
            for name, value in zip(fit.names, fit.values, strict=True)
        }
        return Estimate(parameters, notes)

    def resamples(self, rows: Rows, estimate: Estimate, draws: int, seed: int) -> Iterator[Rows]:
        return case_resamples(rows, draws, seed)

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast:
        """exp of the form; post-run, nan where no efficiency was measured. A strategy not fitted has no term."""
        log_h = measured_log_h(rows)[MEASURED] if self.post_run else forecast_log_h(parameters, rows)
        values = {}
        for target in TARGETS:
            names = named(parameters, target)
            values[target] = np.exp(design(rows, names, log_h) @ [parameters[f"{target}.{name}"] for name in names])
        return Forecast(duration_s=values["duration"], energy_j=values["energy"])

    def slopes(self, parameters: Parameters, rows: Rows) -> tuple[Sequence[str], dict[str, Array]]:
        return numeric_slopes(self, parameters, rows)

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """With the cluster-robust intervals of the least squares; the bootstrap's are not used."""
        fits, _ = self._solve(rows, estimate.parameters)
        return tuple(c for target, fit in fits.items() for c in _coefficients(target, fit))

    def _solve(self, rows: Rows, known: Parameters | None) -> tuple[dict[str, LeastSquares], tuple[str, ...]]:
        measured = measured_log_h(rows)
        known_h = np.isfinite(measured[MEASURED])
        notes = [] if known_h.all() else [f"{int((~known_h).sum())} trials without a measured efficiency left out"]
        rows, measured = rows.take(known_h), {kind: log_h[known_h] for kind, log_h in measured.items()}
        if known is None:
            _refuse_too_few(self.name, rows)
        fits: dict[str, LeastSquares] = {}
        log_h = measured[MEASURED] if self.post_run else np.zeros(len(rows))
        if not self.post_run and (rows.column("gpu_count") > 1).any():
            chosen = best_predictor(rows, form_terms(rows), measured) if known is None else predictor_of(known)
            fits[chosen.kind], log_h = chosen.fit(rows, measured), chosen.cross_fitted(rows, measured)
            notes += [chosen.note] if chosen.label else []
        for target in TARGETS:
            names = named(known, target) if known is not None else form_terms(rows)
            y = np.log(rows.column(COLUMNS[target]))
            fits[target] = least_squares(design(rows, names, log_h), y, rows.cases, names)
        for target, fit in fits.items():
            notes += [f"{target}: {name} cannot be told from the others and is 0" for name in fit.dropped]
        return fits, tuple(notes)


def form_terms(rows: Rows) -> list[str]:
    """Names of the form's terms for these rows; the first strategy (single, if there) and family have none."""
    strategies = sorted(set(rows.table["strategy"]), key=lambda name: (name != "single", name))
    families = sorted(set(rows.table["model_family"]))
    return (
        list(FORM)
        + [f"strategy[{name}]" for name in strategies[1:]]
        + [f"model_family[{name}]" for name in families[1:]]
    )


def _refuse_too_few(law: str, rows: Rows) -> None:
    names = form_terms(rows)
    if len(rows) < len(names):
        raise InputError(
            f"{len(rows)} trials cannot fix {len(names)} coefficients ({', '.join(names)})",
            where=f"law {law}",
            remedy="run more configurations",
        )


def _coefficients(target: str, fit: LeastSquares) -> list[Coefficient]:
    unit = {"duration": "log s", "energy": "log J"}.get(target, "1")
    low, high = fit.interval()
    return [
        Coefficient(
            target=target,
            name=name,
            value=float(fit.values[j]),
            low=float(low[j]),
            high=float(high[j]),
            unit=unit if name == "intercept" else "1",
            meaning=meaning(name),
            identified=name not in fit.dropped,
        )
        for j, name in enumerate(fit.names)
    ]
