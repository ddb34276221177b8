"""model/default_law.json: the law that ships, from the committed rows that may make one. `make default-law`

    python benchmarks/default_law.py [--docs docs/default_law.md [--table MEASURED.csv]]

Rows qualify that are our own studies' (results/MACHINE/SWEEP) or openly licensed there, valid, on GPUs, with joules of
the GPUs alone that a meter measured. Without any, the law is what is assumed of ordinary hardware, and says so.
With --docs it is written how far that is off: on the committed CPU trials, and on a table that may only be scored.
"""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import ROOT

sys.path.insert(0, str(ROOT))

from joulelaw.bench.commands.law_files import SHIPPED, read_table
from joulelaw.bench.dataset.measurements import devices_files, is_dataset, read_measurements, with_full_texts
from joulelaw.model.coefficients import save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.laws.roofline import a_priori, with_corrections

RESULTS = ROOT / "results"
BOUNDARY = "gpu"
NOTES = (
    "no GPU has been measured for it yet: GPUs are forecast from their data sheets, with intervals as wide as that "
    "leaves them (docs/default_law.md); fit or calibrate a law on your own trials",
    "joules are of the GPUs alone, and no meter measured any; devices without a power limit, as CPUs, have none",
)
PLACE = re.compile(r"(<!-- generated scores -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--docs", type=Path)
    arguments.add_argument("--table", type=Path, help="measured rows, of which only scores are written")
    given = arguments.parse_args()
    law = default_law(RESULTS)
    save_law(law, SHIPPED)
    print(f"{SHIPPED}: {law.provenance.n_trials} trials")
    if given.docs:
        text = PLACE.sub(lambda found: found[1] + scores(law, given.table) + found[2], given.docs.read_text())
        given.docs.write_text(text)


def default_law(results: Path) -> FittedLaw:
    """The roofline of the rows that qualify; without any, the one that assumes everything."""
    folders = [each for each in sorted(results.glob("*/*")) if each.parent.name != "local" and is_dataset(each)]
    catalogue = Catalogue.load([file for folder in folders for file in devices_files([folder])])
    rows = [qualifying(read_measurements([folder]), catalogue) for folder in folders]
    measured = pd.concat(rows, ignore_index=True) if any(map(len, rows)) else pd.DataFrame()
    if measured.empty:
        assumed = with_corrections(a_priori())
        return replace(assumed, notes=(*assumed.notes, *NOTES))
    return fit_law("roofline", measured, catalogue, allow_mixed_meters=True)


def qualifying(table: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    """The valid rows on GPUs whose joules a meter measured, of the GPUs alone."""
    counted = with_full_texts(table)
    gpus = counted["gpu_model"].map(lambda name: catalogue.get(name).kind == "cuda")
    return counted[gpus & (counted["meter_kind"] == "measured") & (counted["boundary"] == BOUNDARY)]


def scores(law: FittedLaw, table: Path | None) -> str:
    """A Markdown table of how far the forecasts are off."""
    lines = [
        "| rows | target | n | mean error | bias | in 95 % | interval, either way |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for folder in sorted(RESULTS.glob("*/*")):
        if is_dataset(folder):
            known = replace(law, catalogue=Catalogue.load(devices_files([folder])))
            name = f"ours, {folder.parent.name} ([{folder.name}](../{folder.relative_to(ROOT)}))"
            lines += [score(name, "duration", read_measurements([folder]), known)]
    if table is not None:
        rows = read_table(table)
        clear = rows[~rows["ambiguous_steps"].astype(bool)] if "ambiguous_steps" in rows else rows
        for model, of_model in clear.groupby("gpu_model"):
            for target in ("duration", "energy"):
                lines.append(score(f"others', {model}", target, of_model, law))
    return "\n".join(lines) + "\n"


def score(name: str, target: str, rows: pd.DataFrame, law: FittedLaw) -> str:
    """One line; joules of another boundary than the law's are compared as they are."""
    unit = {"duration": "s", "energy": "j"}[target]
    forecast = law.predict(rows.drop(columns="boundary"))
    predicted, low, high = (
        forecast[f"{part}_{unit}"] for part in (f"predicted_{target}", f"{target}_low", f"{target}_high")
    )
    measured = rows[f"{target}_{unit}"]
    error = float(np.mean(np.abs(predicted / measured - 1)))
    bias = float(np.exp(np.mean(np.log(predicted / measured))) - 1)
    inside = float(((low <= measured) & (measured <= high)).mean())
    width = float(np.exp(np.median(np.log(high / low)) / 2))
    cells = (f"{len(rows)}", f"{100 * error:.0f} %", f"{100 * bias:+.0f} %", f"{100 * inside:.0f} %", f"× {width:.1f}")
    return f"| {name} | {target} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
