"""Seconds that the law takes to be fitted and rows a second that it forecasts, beside gradient-boosted trees.

    python benchmarks/law_speed.py [--scale 0.1] [--repeats 3] [--json FILE]

The trials are drawn at random, each a configuration of its own: 8 GPU models, every strategy and precision, both
families, thousands of shapes; their seconds and joules are those of the law before any fit, times 5 % noise. Trees:
scikit-learn's histogram gradient boosting of log seconds and log joules on the same columns, without intervals. Times
are the best of the repeats. Prints Markdown; `--json` also writes the figures.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import machine, table
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law, fit_rows, law_named
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.laws.widths import forecast_widths
from joulelaw.model.ranges import ranges_of
from joulelaw.model.tables import CONFIGURATION_COLUMNS, TEXT_COLUMNS, check_configurations, check_measurements

DEVICES = (
    "NVIDIA A100-SXM4-40GB",
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA H100 80GB HBM3",
    "NVIDIA L4",
    "NVIDIA A10",
    "Tesla T4",
    "Tesla V100-SXM2-16GB",
    "NVIDIA GeForce RTX 2080 Ti",
)
STRATEGIES = ("single", "ddp", "fsdp", "zero1", "zero2", "zero3", "tp", "fsdp_tp")
FITTED, BOOTSTRAPPED, DRAWS = 10_000, 400, 200
FORECAST = (10_000, 100_000, 1_000_000, 4_000_000)
SLOW = 100_000  # the most rows of what takes much longer: rows outside the fitted ranges, and trees
NOISE = 0.05


def configurations(rows: int, seed: int) -> pd.DataFrame:
    """Trials drawn at random; a few of a million are alike but for their number of micro-steps."""
    rng = np.random.default_rng(seed)
    strategy = rng.choice(STRATEGIES, rows)
    gpus = np.where(strategy == "single", 1, 2 ** rng.integers(1, 5, rows))
    width = 64 * rng.integers(2, 33, rows)
    return pd.DataFrame(
        {
            "gpu_model": rng.choice(DEVICES, rows),
            "gpu_count": gpus,
            "node_count": np.where(gpus > 8, 2, 1),
            "strategy": strategy,
            "model_family": rng.choice(["bert", "gpt2"], rows),
            "num_layers": rng.integers(2, 37, rows),
            "hidden_size": width,
            "num_heads": width // 64,
            "intermediate_size": 4 * width,
            "vocab_size": rng.choice([30522, 50257, 119547], rows),
            "sequence_length": 2 ** rng.integers(5, 11, rows),
            "micro_batch_size": rng.integers(1, 65, rows),
            "grad_accumulation": rng.integers(1, 17, rows),
            "precision": rng.choice(["fp32", "fp16"], rows),
            "micro_steps": rng.integers(20, 400, rows),
            "boundary": "gpu",
        }
    )


def measured(given: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    """The trials with seconds and joules of the law before any fit, times independent log-normal noise."""
    law, rng = a_priori(catalogue), np.random.default_rng(0)
    forecast = law.law.forecast(law.parameters, Rows.of(check_configurations(given), catalogue))
    return given.assign(
        trial_id=[f"t{k}" for k in range(len(given))],
        duration_s=forecast.duration_s * np.exp(NOISE * rng.standard_normal(len(given))),
        energy_j=forecast.energy_j * np.exp(NOISE * rng.standard_normal(len(given))),
        verdict="valid",
    )


def best_s(repeats: int, work: Callable[[], Any]) -> float:
    """Seconds of the fastest repeat: what else runs on the machine only adds to them."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def fits(scale: float, repeats: int, catalogue: Catalogue) -> dict[str, float]:
    """Seconds of fits, whole and in their parts."""
    law = law_named("roofline")
    many, few = (measured(configurations(round(scale * rows), 1), catalogue) for rows in (FITTED, BOOTSTRAPPED))
    rows, some = (Rows.of(check_measurements(each), catalogue) for each in (many, few))
    estimate = law.fit(rows)
    return {
        "check and count": best_s(repeats, lambda: Rows.of(check_measurements(many), catalogue)),
        "point fit": best_s(repeats, lambda: law.fit(rows)),
        "conformal refits": best_s(1, lambda: forecast_widths(law, rows, estimate)),
        "whole fit, no bootstrap": best_s(1, lambda: fit_law("roofline", many, catalogue, bootstrap=0)),
        "whole fit, bootstrapped": best_s(1, lambda: fit_law("roofline", many, catalogue, bootstrap=DRAWS)),
        "whole fit of few, no bootstrap": best_s(repeats, lambda: fit_rows(law, some, catalogue, bootstrap=0)),
        "whole fit of few, bootstrapped": best_s(1, lambda: fit_rows(law, some, catalogue, bootstrap=DRAWS)),
        "trees": best_s(repeats, lambda: [_fit(_trees(), many, target) for target in TARGETS]),
    }


TARGETS = ("duration_s", "energy_j")
COLUMNS = [*CONFIGURATION_COLUMNS, "micro_steps"]


def _trees() -> Any:
    texts = make_column_transformer((OrdinalEncoder(), list(TEXT_COLUMNS)), remainder="passthrough")
    return make_pipeline(texts, HistGradientBoostingRegressor(max_iter=300))


def _fit(trees: Any, given: pd.DataFrame, target: str) -> None:
    trees.fit(given[COLUMNS], np.log(given[target]))


def forecasts(scale: float, repeats: int, catalogue: Catalogue) -> dict[str, dict[int, float]]:
    """Seconds of forecasts by number of rows: inside the fitted ranges, outside of them, and of trees."""
    few = measured(configurations(2000, 1), catalogue)
    law, trees = fit_law("roofline", few, catalogue, bootstrap=0), [_trees() for _ in range(2)]
    for tree, target in zip(trees, TARGETS, strict=True):
        _fit(tree, few, target)
    inside: dict[int, float] = {}
    outside: dict[int, float] = {}
    boosted: dict[int, float] = {}
    for count in (round(scale * rows) for rows in FORECAST):
        given = configurations(count, 2)
        law = _covering(law, given, catalogue)
        further = given.assign(num_layers=given["num_layers"] + 40)
        inside[count] = best_s(repeats, lambda law=law, given=given: law.predict(given))
        assert not (law.predict(given)["extrapolates"] != "").any()
        if count > scale * SLOW:
            continue
        outside[count] = best_s(repeats, lambda law=law, further=further: law.predict(further))
        boosted[count] = best_s(1, lambda given=given: [np.exp(tree.predict(given[COLUMNS])) for tree in trees])
        assert (law.predict(further)["extrapolates"] != "").all()
    return {"inside": inside, "outside": outside, "trees": boosted}


def _covering(law: FittedLaw, given: pd.DataFrame, catalogue: Catalogue) -> FittedLaw:
    """The law with the ranges of this table: of random draws the largest has always values that the fit had not."""
    ranges = ranges_of(Rows.of(check_configurations(given), catalogue).sized)
    return replace(law, provenance=replace(law.provenance, ranges=ranges))


def growth(seconds: dict[int, float]) -> float:
    """The power of the number of rows that the time grows with, from the second size on."""
    sizes = sorted(seconds)[1:]
    return math.log(seconds[sizes[-1]] / seconds[sizes[0]]) / math.log(sizes[-1] / sizes[0])


def parts(rows: int, catalogue: Catalogue) -> dict[str, float]:
    """Where the time of a forecast goes: nanoseconds a row of its parts, one after the other."""
    law = fit_law("roofline", measured(configurations(400, 1), catalogue), catalogue, bootstrap=0)
    given = configurations(rows, 2)
    checked = check_configurations(given)
    counted = Rows.of(checked, catalogue)
    taken = {
        "checks": best_s(3, lambda: check_configurations(given)),
        "counts": best_s(3, lambda: Rows.of(checked, catalogue)),
        "formula": best_s(3, lambda: law.law.forecast(law.parameters, counted)),
        "formula, ranges and intervals": best_s(3, lambda: law.predict_rows(counted)),
        "slopes, for rows outside": best_s(3, lambda: law.law.slopes(law.parameters, counted)),
    }
    return {name: 1e9 * seconds / rows for name, seconds in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a quick look")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    catalogue, said = Catalogue.load(), machine()
    found = {
        "machine": said,
        "fit_s": fits(options.scale, options.repeats, catalogue),
        "forecast_s": forecasts(options.scale, options.repeats, catalogue),
        "part_ns": parts(round(100_000 * options.scale), catalogue),
    }
    show(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def show(found: dict[str, Any]) -> None:
    print(f"{found['machine']}; best of the repeats\n")
    print(table(["fit", "time, s"], [[name, f"{value:.2f}"] for name, value in found["fit_s"].items()]))
    seconds = found["forecast_s"]
    rows = [
        [f"{count:,}", *(f"{count / each[count]:,.0f}" if count in each else "" for each in seconds.values())]
        for count in seconds["inside"]
    ]
    print("\n" + table(["rows", "inside, rows/s", "outside, rows/s", "trees, rows/s"], rows) + "\n")
    print(f"The time of rows inside grows with the number of rows to the power {growth(seconds['inside']):.2f}.\n")
    print(table(["part of a forecast", "ns a row"], [[k, f"{v:.0f}"] for k, v in found["part_ns"].items()]))


if __name__ == "__main__":
    main()
