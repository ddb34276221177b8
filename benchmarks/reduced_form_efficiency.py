"""How well P1's law forecasts energy with each forecast of its efficiency h that was tried; and over other splits.

    python benchmarks/reduced_form_efficiency.py PATH [--seeds 5]

PATH as for law_scores.py. Each forecast of h is taken for all splits, whatever it gives: the last line of a subset is
the law as it is, which chooses among the linear ones on the fitted rows of each split alone. Trees forecast h too; they
are no part of the law, as a law file holds coefficients. Medians over 20 grouped 70/30 splits by case.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from law_scores import Study, read
from measuring import machine, table
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor

from joulelaw.model.fitting import solve
from joulelaw.model.holdout import Fold, folds
from joulelaw.model.intervals import case_folds
from joulelaw.model.laws import LAWS, POST_RUN
from joulelaw.model.laws.base import Rows
from joulelaw.model.laws.reduced_form import form_terms
from joulelaw.model.laws.reduced_form_efficiency import (
    MEASURED,
    THROUGHPUT,
    Predictor,
    forecast_log_h,
    measured_log_h,
    predictors,
)
from joulelaw.model.laws.reduced_form_terms import design, expanded
from joulelaw.model.metrics import mape, r2_log
from joulelaw.model.tables import check_measurements

Array = npt.NDArray[np.float64]
Forecaster = Callable[[Rows, Rows], tuple[Array, Array]]  # fitted and tested rows -> cross-fitted and forecast log h

SHAPE = ("log_num_layers", "log_hidden_size", "log_sequence_length", "log_micro_batch_size", "log_grad_accumulation")
TREE_TERMS = (*SHAPE, "log_micro_steps", "log_gpu_count", "strategy", "gpu_model", "model_family")
TREES = {
    "boosted trees": lambda: GradientBoostingRegressor(n_estimators=100, max_depth=3, random_state=0),
    "random forest": lambda: RandomForestRegressor(100, min_samples_leaf=2, random_state=0),
}


def linear(kind: str, terms: Sequence[str]) -> Forecaster:
    def forecast(fitted: Rows, tested: Rows) -> tuple[Array, Array]:
        one = Predictor(kind, tuple(terms))
        measured = measured_log_h(fitted)
        fit = one.fit(fitted, measured)
        parameters = {f"{kind}.{name}": float(value) for name, value in zip(fit.names, fit.values, strict=True)}
        return one.cross_fitted(fitted, measured), forecast_log_h(parameters, tested)

    return forecast


def by_trees(kind: str, terms: Sequence[str], model: Callable[[], GradientBoostingRegressor]) -> Forecaster:
    def forecast(fitted: Rows, tested: Rows) -> tuple[Array, Array]:
        log_h = measured_log_h(fitted)[kind]
        X, new = (design(rows, terms, np.zeros(len(rows))) for rows in (fitted, tested))
        grouped, several = fitted.column("gpu_count") > 1, tested.column("gpu_count") > 1
        crossed = np.zeros(len(fitted))
        for mask in case_folds(fitted.cases, most=10):
            crossed[mask] = model().fit(X[~mask & grouped], log_h[~mask & grouped]).predict(X[mask])
        ahead = model().fit(X[grouped], log_h[grouped]).predict(new)
        return np.where(grouped, crossed, 0.0), np.where(several, ahead, 0.0)

    return forecast


def no_h(fitted: Rows, tested: Rows) -> tuple[Array, Array]:
    return np.zeros(len(fitted)), np.zeros(len(tested))


def with_h(forecast: Forecaster) -> Callable[[Rows, Rows], Array]:
    """P1's law of energy with this h: joules of the tested rows."""

    def energy_j(fitted: Rows, tested: Rows) -> Array:
        names = form_terms(fitted)
        log_h, ahead = forecast(fitted, tested.pre_run())
        values, kept = solve(design(fitted, names, log_h), np.log(fitted.column("energy_j")))
        return np.exp(design(tested, names, ahead)[:, kept] @ values)

    return energy_j


def of_law(post_run: bool) -> Callable[[Rows, Rows], Array]:
    law = POST_RUN["reduced_form_post_run"] if post_run else LAWS["reduced_form"]
    return lambda fitted, tested: (
        law.forecast(law.fit(fitted).parameters, tested if post_run else tested.pre_run()).energy_j
    )


def tried(rows: Rows) -> dict[str, Callable[[Rows, Rows], Array]]:
    """Every forecast of h, by what people call it."""
    found: dict[str, Callable[[Rows, Rows], Array]] = {"no h at all": with_h(no_h)}
    grouped = rows.take(rows.column("gpu_count") > 1)
    for one in predictors(rows):
        found[f"{_kind(one.kind)} from {one.label}"] = with_h(linear(one.kind, one.terms))
    for kind in dict.fromkeys(one.kind for one in predictors(rows)):
        terms = expanded(grouped, ("intercept", *TREE_TERMS))
        found[f"{_kind(kind)} from the shape's numbers, count, steps and texts"] = with_h(linear(kind, terms))
        for name, model in TREES.items():
            found[f"{_kind(kind)} by {name} from the same"] = with_h(by_trees(kind, terms, model))
    return {**found, "the law: chosen on the fitted rows": of_law(False), "post-run: the measured h": of_law(True)}


def score(rows: Rows, divided: Sequence[Fold], energy_j: Callable[[Rows, Rows], Array]) -> tuple[float, float]:
    """Median R2 of log energy and MAPE over the splits."""
    found = []
    for fold in divided:
        tested = rows.take(fold.test)
        joules = energy_j(rows.take(fold.fit), tested)
        found.append((r2_log(tested.column("energy_j"), joules), mape(tested.column("energy_j"), joules)))
    r2, error = np.median(found, axis=0)
    return float(r2), float(error)


def _kind(kind: str) -> str:
    return {MEASURED: "h", THROUGHPUT: "h per token"}[kind]


def _splits(rows: Rows, seed: int) -> tuple[Fold, ...]:
    return folds(rows.table, "case", rows.counts["flop_per_micro_step"], seed=1000 * seed)


def _extremes(spread: dict[str, list[tuple[float, float]]]) -> list[list[str]]:
    lines = []
    for label, each in spread.items():
        r2, error = np.quantile(np.array(each), [0, 0.5, 1], axis=0).T
        lines.append([label, *(f"{value:.4f}" for value in r2), *(f"{100 * value:.1f} %" for value in error)])
    return lines


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="sets of 20 splits for the spread")
    asked = parser.parse_args(arguments)
    study = Study(*read(asked.path), laws=(), draws=20)
    print(machine())
    content = {}
    for name, part in study.subsets().items():
        rows = Rows.of(check_measurements(part.trials), part.catalogue)
        scores = {label: score(rows, _splits(rows, 0), one) for label, one in tried(rows).items()}
        shown = [(label, f"{r2:.4f}", f"{100 * error:.1f} %") for label, (r2, error) in scores.items()]
        print(f"\n{name}, {len(rows)} rows\n\n{table(['h forecast', 'R2 log', 'MAPE'], shown)}", flush=True)
        spread = {
            label: [score(rows, _splits(rows, seed), one) for seed in range(asked.seeds)]
            for label, one in (("pre-run", of_law(False)), ("post-run", of_law(True)))
        }
        header = ["the law", "R2 log: least", "median", "most", "MAPE: least", "median", "most"]
        print(f"\n{name}, {asked.seeds} sets of 20 splits\n\n{table(header, _extremes(spread))}", flush=True)
        content[name] = {"tried": scores, "seeds": spread}
    print("\n" + json.dumps(content))


if __name__ == "__main__":
    main(sys.argv[1:])
