"""What a calibration brings where the truth is known: made-up devices, the program's own choices. No measurement.

    python benchmarks/calibration.py [--draws 20]

The shipped default law is calibrated by the shipped sweep `new_hardware` for eight V100s that differ from their data
sheet by known factors, with 3 % noise; and for such that also slow down with sequence length, as no term of the law
does. Each draw has another seed: of the sweep (the validation set) and of the noise. Prints Markdown for
docs/calibration.md and, last, one JSON object.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from joulelaw.bench.calibration.folder import Asked
from joulelaw.bench.calibration.standing import Goal
from joulelaw.bench.commands.law_files import open_law
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.model import calibration
from joulelaw.model.holds import judge
from joulelaw.model.laws.base import FittedLaw
from tests.bench.calibrations import begun, carried_out, gpus
from tests.bench.test_calibration import NEW, runs_of, throttling

TARGETS = ("energy", "duration")
DEVICES = 8


def one(law: FittedLaw, seed: int, *, broken: bool) -> dict[str, float | bool]:
    """One calibration: its trials, its verdict, and by target error, coverage and width, blind and after."""
    asked = Asked(law, "default", replace(load_sweep("new_hardware"), seed=seed), None, Goal())
    truth = runs_of(law, seed=seed)
    end = carried_out(begun(asked, (gpus(NEW, DEVICES),)), throttling(truth) if broken else truth, DEVICES)[-1]
    found = judge(end.blind, end.law, end.validation, asked.goal.tolerance)
    told: dict[str, float | bool] = {"trials": len(end.taken), "holds": bool(found.holds)}
    for target in TARGETS:
        for when, errors in (("blind", found.before[target]), ("after", found.after[target])):
            told |= {f"{target} {when} mape": errors.mape, f"{target} {when} inside": errors.coverage}
            told |= {f"{target} {when} factor": errors.half_width_factor}
    return told


def line(name: str, rows: pd.DataFrame) -> str:
    """A row of the table: medians over the draws, coverage over all validation trials."""
    middle = rows.median()
    cells = [name, f"{rows['trials'].min():.0f} - {rows['trials'].max():.0f}"]
    for target in TARGETS:
        before, after = (f"{target} blind", f"{target} after")
        cells += [
            f"{100 * middle[f'{before} mape']:.0f} % -> {100 * middle[f'{after} mape']:.0f} %",
            f"{middle[f'{before} factor']:.1f} -> {middle[f'{after} factor']:.2f}",
            f"{100 * rows[f'{after} inside'].mean():.0f} %",
        ]
    cells.append(f"{rows['holds'].sum()} of {len(rows)}")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=20)
    draws = parser.parse_args().draws
    calibration.DRAWS = 10  # for intervals of coefficients, which nobody looks at here
    law = open_law("default")
    heads = [
        "device",
        "trials",
        *(f"{t}: {what}" for t in TARGETS for what in ("error", "interval x /", "inside after")),
    ]
    print(f"| {' | '.join([*heads, 'said to hold'])} |\n|{'---|' * (len(heads) + 1)}")
    told = {}
    for name, broken in (("off by known factors", False), ("breaks the law's form", True)):
        rows = pd.DataFrame([one(law, seed, broken=broken) for seed in range(draws)])
        print(line(name, rows), flush=True)
        told[name] = rows.astype(float).mean().to_dict()
    print(json.dumps(told))


if __name__ == "__main__":
    main()
