"""What P1's parallel efficiency h is before a run: a least squares on log h, its terms chosen on the fitted rows.

P1 gives no forecast of h, so several are tried (CANDIDATES, for each of the two meanings of h that a table may have)
and the one is taken with which the law of energy misses unseen cases least. Both steps see fitted rows alone: each
row's h comes from a fit without its case, and so does each row's energy. One device has h = 1 by definition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.columns import numbers
from joulelaw.model.efficiency import efficiency
from joulelaw.model.fitting import LeastSquares, least_squares, solve
from joulelaw.model.intervals import case_folds
from joulelaw.model.laws.base import Parameters, Rows
from joulelaw.model.laws.reduced_form_terms import design, expanded, named

Array = npt.NDArray[np.float64]

# h as the table has it (an imported one is P1's T1 / (n Tn)), and h of tokens per second, whatever the table says.
MEASURED, THROUGHPUT = "efficiency", "throughput_efficiency"

PUBLISHED = ("intercept", "log_C", "log_M", "log_gpu_count", "strategy")
FAMILY = (*PUBLISHED, "gpu_model", "model_family")
_COUNTS = ("log_gpu_count*strategy", "log_gpu_count*gpu_model")
CANDIDATES: dict[str, tuple[str, ...]] = {
    "C, M, count, strategy": PUBLISHED,
    "C, M, count, strategy, GPU model": (*PUBLISHED, "gpu_model"),
    "C, M, count, strategy, GPU model, family": FAMILY,
    "C, M, count by strategy, GPU model, family": (*FAMILY, *_COUNTS[:1]),
    "C, M, count by strategy and GPU model, family": (*FAMILY, *_COUNTS),
    "C, M, count, strategy, GPU model, family, micro-steps, accumulation": (
        *FAMILY,
        "log_micro_steps",
        "log_grad_accumulation",
    ),
}
EFFICIENCY_PARAMETERS = tuple(
    f"{kind}.{term if term.startswith(('log_', 'intercept')) and '*' not in term else term + '['}"
    for kind in (MEASURED, THROUGHPUT)
    for term in sorted({term for terms in CANDIDATES.values() for term in terms})
)


@dataclass(frozen=True)
class Predictor:
    """A forecast of h to be fitted: which h, from which terms, and what people call those."""

    kind: str
    terms: tuple[str, ...]
    label: str = ""

    @property
    def note(self) -> str:
        return f"the {self.kind.replace('_', ' ')} h is forecast from {self.label}: best on the fitted rows"

    def fit(self, rows: Rows, measured: Mapping[str, Array]) -> LeastSquares:
        """Least squares on the rows of several devices, given every kind of measured log h."""
        grouped = rows.column("gpu_count") > 1
        some, log_h = rows.take(grouped), measured[self.kind][grouped]
        return least_squares(design(some, self.terms, log_h), log_h, some.cases, self.terms)

    def cross_fitted(self, rows: Rows, measured: Mapping[str, Array]) -> Array:
        """log h of each row by a fit without its case; 0 on one device. One case alone is forecast in sample."""
        log_h, grouped = measured[self.kind], rows.column("gpu_count") > 1
        X = design(rows, self.terms, log_h)
        forecast = np.zeros(len(rows))
        for mask in case_folds(rows.cases, most=10) or [np.ones(len(rows), dtype=bool)]:
            rest = ~mask & grouped if (~mask & grouped).any() else grouped
            values, kept = solve(X[rest], log_h[rest])
            forecast[mask] = X[mask][:, kept] @ values
        return np.where(grouped, forecast, 0.0)


def measured_log_h(rows: Rows) -> dict[str, Array]:
    """The measured log h of each kind."""
    of_tokens = efficiency(rows.table, rows.counts)["parallel_efficiency"].to_numpy(dtype=float)
    own = numbers(rows.table, "parallel_efficiency", of_tokens)
    return {MEASURED: np.asarray(np.log(own)), THROUGHPUT: np.asarray(np.log(of_tokens))}


def predictors(rows: Rows) -> list[Predictor]:
    """All that are tried for these rows; the second meaning of h only where the table brings its own."""
    grouped = rows.take(rows.column("gpu_count") > 1)
    has_own = "parallel_efficiency" in rows.table and rows.table["parallel_efficiency"].notna().any()
    kinds = (MEASURED, THROUGHPUT) if has_own else (MEASURED,)
    found: dict[tuple[str, tuple[str, ...]], Predictor] = {}
    for kind in kinds:
        for label, terms in CANDIDATES.items():
            one = Predictor(kind, tuple(expanded(grouped, terms)), label)
            found.setdefault((kind, one.terms), one)
    return list(found.values())


def predictor_of(parameters: Parameters) -> Predictor:
    """The forecast of h that a fit's parameters are of."""
    kind = THROUGHPUT if named(parameters, THROUGHPUT) else MEASURED
    return Predictor(kind, tuple(named(parameters, kind)))


def best_predictor(rows: Rows, energy_names: Sequence[str], measured: Mapping[str, Array]) -> Predictor:
    """The predictor whose cross-fitted h lets the law of energy miss unseen cases least, on these rows alone."""
    tried = predictors(rows)
    misses = [_missed(rows, energy_names, one.cross_fitted(rows, measured)) for one in tried]
    return tried[int(np.argmin(misses))]


def forecast_log_h(parameters: Parameters, rows: Rows) -> Array:
    """log h from a fit's parameters; 0 on one device."""
    one = predictor_of(parameters)
    values = np.array([parameters[f"{one.kind}.{name}"] for name in one.terms])
    return np.where(rows.column("gpu_count") > 1, design(rows, one.terms, np.zeros(len(rows))) @ values, 0.0)


def _missed(rows: Rows, names: Sequence[str], log_h: Array) -> float:
    """Sum of squared log residuals of energy, each row forecast without its case."""
    X, y = design(rows, names, log_h), np.log(rows.column("energy_j"))
    total = 0.0
    for mask in case_folds(rows.cases, most=10):
        values, kept = solve(X[~mask], y[~mask])
        total += float(np.sum((y[mask] - X[mask][:, kept] @ values) ** 2))
    return total
