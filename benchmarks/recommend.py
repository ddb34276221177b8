"""Seconds of a recommendation among 100,000 candidates, in its parts, beside what one would write otherwise.

    python benchmarks/recommend.py [--repeats 3] [--json FILE]

Ours: `joulelaw recommend` as a process of its own, imports, law file and tables included. Theirs: one call of predict
for each candidate, as a loop over a grid does it (the first 300 candidates, times as many as there are); the same table
with one call of counts and predict for all; and a Pareto front that compares each with all others. The law is that of
law_speed.py: 8 GPU models, every strategy, fitted on 400 drawn trials, so that many candidates lie outside its ranges,
where intervals take longer. Times are the best of the repeats. Prints Markdown.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from law_speed import best_s, configurations, measured
from measuring import ROOT, machine, table

from joulelaw.bench.forecast.training import Training
from joulelaw.bench.recommend.candidates import Axes, Workload, candidates
from joulelaw.bench.recommend.fits import fitting
from joulelaw.bench.recommend.ranking import Asked, recommended
from joulelaw.bench.recommend.shapes import named_shapes
from joulelaw.model.choices import pareto_front
from joulelaw.model.coefficients import save_law
from joulelaw.model.costs import Prices
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.parallelism import counts
from joulelaw.model.tables import PRE_RUN_COLUMNS

MODELS = ["bert-base-uncased", "bert-large-uncased", "gpt2", "gpt2-medium", "gpt2-large"]
LENGTH, SEQUENCES = 128, 100_000
BY_ROW = 300  # candidates that are forecast one by one
COMPARED = 20_000  # candidates of the front by pairs, whose time grows with the square


def command_s(law: Path, repeats: int) -> tuple[float, float, int]:
    """Seconds of the whole command, by the clock and of processors, and how many candidates it looked at."""
    command = [sys.executable, "-m", "joulelaw.bench", "recommend", str(law), "--model", ",".join(MODELS)]
    command += ["--sequence-length", str(LENGTH), "--dataset-size", str(SEQUENCES), "--deadline", "2h"]
    times, worked = [], []
    for _ in range(repeats):
        begun, before = time.perf_counter(), _children_s()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        times.append(time.perf_counter() - begun)
        worked.append(_children_s() - before)
    said = json.loads(done.stdout.splitlines()[-1])
    return min(times), min(worked), said["candidates"] + sum(said["left_out"].values())


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def parts_s(fitted: FittedLaw, repeats: int) -> dict[str, float]:
    """Seconds of the parts, in this process."""
    workload = Workload(named_shapes(MODELS, LENGTH), LENGTH, Training(SEQUENCES))
    axes = Axes.of_law(fitted)
    prices = dict.fromkeys(axes.gpu_model, Prices())
    asked = Asked(limits={"time": 7200.0})
    given = candidates(axes, workload)
    fit = fitting(given, fitted.catalogue)
    known = fit.table[[name for name in PRE_RUN_COLUMNS if name in fit.table]]
    return {
        "candidates": best_s(repeats, lambda: candidates(axes, workload)),
        "what fits": best_s(repeats, lambda: fitting(given, fitted.catalogue)),
        "forecasts with intervals": best_s(repeats, lambda: fitted.predict(known)),
        "forecasts, costs, front, limits and how sure": best_s(
            repeats, lambda: recommended(fitted, fit, prices, asked)
        ),
    }


def otherwise_s(fitted: FittedLaw, repeats: int) -> dict[str, float]:
    """Seconds, for all candidates, of what one would write."""
    workload = Workload(named_shapes(MODELS, LENGTH), LENGTH, Training(SEQUENCES))
    given = candidates(Axes.of_law(fitted), workload)
    rng = np.random.default_rng(0)
    some = given.iloc[rng.permutation(len(given))[:BY_ROW]].reset_index(drop=True)
    known = [name for name in PRE_RUN_COLUMNS if name in given]

    def one_by_one() -> None:
        for at in range(len(some)):
            row = some.iloc[[at]]
            counts(row, fitted.catalogue)
            fitted.predict(row[known])

    def at_once() -> pd.DataFrame:
        counts(given, fitted.catalogue)
        return fitted.predict(given[known])

    forecast = at_once().iloc[:COMPARED]
    seconds, joules = (forecast[f"predicted_{name}"].to_numpy() for name in ("duration_s", "energy_j"))

    def by_pairs() -> list[int]:
        pairs = zip(seconds, joules, strict=True)
        lower = [((seconds <= s) & (joules <= e) & ((seconds < s) | (joules < e))).any() for s, e in pairs]
        return [at for at, beaten in enumerate(lower) if not beaten]

    assert sorted(pareto_front(seconds, joules)) == by_pairs()
    return {
        f"row by row ({BY_ROW} rows, times {len(given) / BY_ROW:.0f})": best_s(1, one_by_one) * len(given) / BY_ROW,
        "one table, counts and predict": best_s(repeats, at_once),
        f"front of {COMPARED:,}, by pairs": best_s(repeats, by_pairs),
        f"front of {COMPARED:,}, ours": best_s(repeats, lambda: pareto_front(seconds, joules)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    said, catalogue = machine(), Catalogue.load()
    fitted = fit_law("roofline", measured(configurations(400, 1), catalogue), catalogue, bootstrap=0)
    with tempfile.TemporaryDirectory() as home:
        law = Path(home) / "law.json"
        save_law(fitted, law)
        whole, worked, count = command_s(law, options.repeats)
    found: dict[str, Any] = {
        "machine": said,
        "candidates": count,
        "command_s": whole,
        "command_cpu_s": worked,
        "part_s": parts_s(fitted, options.repeats),
        "otherwise_s": otherwise_s(fitted, options.repeats),
    }
    print(f"{said}; {count:,} candidates, best of {options.repeats}")
    print(f"The whole process took {worked:.2f} s of processor time.\n")
    rows = [["`joulelaw recommend`, whole process", f"{whole:.2f}", "1.0"]]
    for name, value in {**found["part_s"], **found["otherwise_s"]}.items():
        rows.append([name, f"{value:.3g}", f"{value / whole:.3g}"])
    print(table(["", "time, s", "over the whole"], rows))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
