"""P1's law: log E = b0 + aC log C + aM log M + ah log h + strategy terms, fitted by least squares.

C = tokens of the run x 20 L d^2, M = b s L d, h = parallel efficiency (T1 / (n Tn) for equal work), and a family term
where there is more than one family. The same form on log seconds is the duration's law. Errors are cluster-robust by
case. Source: M. Zoubeirou a Mayaki, "The Energy Consumption of Transformer Fine-Tuning", arXiv 2606.23546, and its
artifact. Left out, by design of the form: idle energy, counted bytes, communication, the number of micro-steps.

With the measured h the law is post-run: E = P T and h holds T, so that it explains rather than forecasts. The pre-run
law puts in its place an h forecast from C, M, the number of devices, strategy and GPU model by a second least squares;
for the fit, each row's h comes from a fit without its case (cross-fitting). One device has h = 1 by definition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw import InputError
from joulelaw.model.efficiency import measured_efficiency
from joulelaw.model.fitting import LeastSquares, least_squares, solve
from joulelaw.model.intervals import TARGETS, case_folds
from joulelaw.model.laws.base import Coefficient, Estimate, Forecast, Parameters, Rows

Array = npt.NDArray[np.float64]

MEANINGS = {
    "intercept": "logarithm at C = M = h = 1",
    "log_C": "exponent of C = tokens x 20 L d^2",
    "log_M": "exponent of M = b s L d",
    "log_h": "exponent of the parallel efficiency h",
    "log_gpu_count": "exponent of the number of devices",
}
FORM = ("intercept", "log_C", "log_M", "log_h")
EFFICIENCY = ("intercept", "log_C", "log_M", "log_gpu_count")
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
        efficiency = [f"efficiency.{name}" for name in (*EFFICIENCY, "strategy[", "gpu_model[")]
        return always, terms if self.post_run else terms + efficiency

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

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast:
        """exp of the form; post-run, nan where no efficiency was measured. A strategy not fitted has no term."""
        if self.post_run:
            log_h = np.log(measured_efficiency(rows.table, rows.counts))
        else:
            log_h = _forecast_log_h(parameters, rows)
        values = {}
        for target in TARGETS:
            names = _names(parameters, target)
            values[target] = np.exp(design(rows, names, log_h) @ [parameters[f"{target}.{name}"] for name in names])
        return Forecast(duration_s=values["duration"], energy_j=values["energy"])

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """With the cluster-robust intervals of the least squares; the bootstrap's are not used."""
        fits, _ = self._solve(rows, estimate.parameters)
        return tuple(c for target, fit in fits.items() for c in _coefficients(target, fit))

    def _solve(self, rows: Rows, known: Parameters | None) -> tuple[dict[str, LeastSquares], tuple[str, ...]]:
        h = measured_efficiency(rows.table, rows.counts)
        notes = [f"{int(np.isnan(h).sum())} trials without a measured efficiency left out"] if np.isnan(h).any() else []
        rows, log_h = rows.take(~np.isnan(h)), np.log(h[~np.isnan(h)])
        fits: dict[str, LeastSquares] = {}
        if not self.post_run and (rows.column("gpu_count") > 1).any():
            names = _names(known, "efficiency") if known is not None else efficiency_terms(rows)
            fits["efficiency"] = _fit_efficiency(rows, log_h, names)
            log_h = _cross_fitted(rows, log_h, names)
        elif not self.post_run:
            log_h = np.zeros(len(rows))
        for target in TARGETS:
            names = _names(known, target) if known is not None else energy_terms(rows)
            X = design(rows, names, log_h)
            if known is None and len(rows) < len(names):
                raise InputError(
                    f"{len(rows)} trials cannot fix {len(names)} coefficients ({', '.join(names)})",
                    where=f"law {self.name}",
                    remedy="run more configurations",
                )
            fits[target] = least_squares(X, np.log(rows.column(COLUMNS[target])), rows.cases, names)
        for target, fit in fits.items():
            notes += [f"{target}: {name} cannot be told from the others and is 0" for name in fit.dropped]
        return fits, tuple(notes)


def energy_terms(rows: Rows) -> list[str]:
    """Names of the form's terms for these rows; the first strategy (single, if there) and family have none."""
    strategies = sorted(set(rows.table["strategy"]), key=lambda name: (name != "single", name))
    families = sorted(set(rows.table["model_family"]))
    return (
        list(FORM)
        + [f"strategy[{name}]" for name in strategies[1:]]
        + [f"model_family[{name}]" for name in families[1:]]
    )


def efficiency_terms(rows: Rows) -> list[str]:
    """Names of the terms of the efficiency's forecast, for the rows on more than one device."""
    grouped = rows.table[rows.table["gpu_count"] > 1]
    terms = list(EFFICIENCY)
    for column in ("strategy", "gpu_model"):
        terms += [f"{column}[{name}]" for name in sorted(set(grouped[column]))[1:]]
    return terms


def design(rows: Rows, names: Sequence[str], log_h: Array) -> Array:
    """The design matrix, one column a named term. C in FLOP-like units of tokens x parameters, M in elements."""
    c = rows.column
    layers, width = c("num_layers"), c("hidden_size")
    numbers = {
        "intercept": np.ones(len(rows)),
        "log_C": np.log(rows.tokens * 20 * layers * width**2),
        "log_M": np.log(c("micro_batch_size") * c("sequence_length") * layers * width),
        "log_h": log_h,
        "log_gpu_count": np.log(c("gpu_count")),
    }
    columns = []
    for name in names:
        if name in numbers:
            columns.append(numbers[name])
        else:
            column, _, value = name[:-1].partition("[")
            columns.append((rows.table[column].astype(str) == value).to_numpy(dtype=float))
    return np.column_stack(columns) if columns else np.zeros((len(rows), 0))


def _fit_efficiency(rows: Rows, log_h: Array, names: Sequence[str]) -> LeastSquares:
    grouped = rows.column("gpu_count") > 1
    some = rows.take(grouped)
    return least_squares(design(some, names, log_h[grouped]), log_h[grouped], some.cases, names)


def _cross_fitted(rows: Rows, log_h: Array, names: Sequence[str]) -> Array:
    """log h of each row, forecast by a fit without its case; 0 on one device. One case alone is forecast in sample."""
    X = design(rows, names, log_h)
    grouped = rows.column("gpu_count") > 1
    forecast = np.zeros(len(rows))
    everything = np.ones(len(rows), dtype=bool)
    for mask in case_folds(rows.cases, most=10) or [everything]:
        rest = ~mask & grouped if (~mask & grouped).any() else grouped
        values, kept = solve(X[rest], log_h[rest])
        forecast[mask] = X[mask][:, kept] @ values
    return np.where(grouped, forecast, 0.0)


def _forecast_log_h(parameters: Parameters, rows: Rows) -> Array:
    names = _names(parameters, "efficiency")
    values = [parameters[f"efficiency.{name}"] for name in names]
    forecast = design(rows, names, np.zeros(len(rows))) @ np.array(values)
    return np.where(rows.column("gpu_count") > 1, forecast, 0.0)


def _names(parameters: Parameters, target: str) -> list[str]:
    return [name.removeprefix(f"{target}.") for name in parameters if name.startswith(f"{target}.")]


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
            meaning=MEANINGS.get(name, f"shift of the logarithm for {name}"),
            identified=name not in fit.dropped,
        )
        for j, name in enumerate(fit.names)
    ]
