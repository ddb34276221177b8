"""P2 reproduced: every curve, the energy fits, a GPU left out and the selection example, published beside ours.

    python benchmarks/operation_scores.py [PATH] [--into PATH] [--docs docs/operation.md]

PATH is a folder that `ecai2025.py` wrote (results/published/ecai2025). `--into` writes curves.csv and energy.csv;
`--docs` fills in the document's places. Prints Markdown and, last, one JSON object. Takes half a minute.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import ROOT, table

sys.path.insert(0, str(ROOT))

from benchmarks.operation_published import (
    PUBLISHED_ENERGY,
    PUBLISHED_US,
    CurveScore,
    EnergyScore,
    curve_scores,
    energy_scores,
    fitted_curves,
    left_out_scores,
    load_timings,
    selection,
)
from joulelaw.model.efficiency_curves import Curve
from joulelaw.model.operation_timings import Curves
from joulelaw.model.operations import FLOP

PLACE = re.compile(r"(<!-- generated (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("path", type=Path, nargs="?", default=ROOT / "results" / "published" / "ecai2025")
    arguments.add_argument("--into", type=Path)
    arguments.add_argument("--docs", type=Path)
    given = arguments.parse_args()
    timings = load_timings(given.path)
    published, curves = curve_scores(given.path, timings), fitted_curves(timings)
    energies = energy_scores(given.path, curves)
    left_out = left_out_scores(given.path, curves)
    chosen = selections(published, curves, energies)
    tables = {
        "curves": curve_table(published),
        "energy": energy_table(energies),
        "left_out": left_out_table(left_out),
        "selection": selection_table(chosen),
    }
    for name, text in tables.items():
        print(f"## {name.replace('_', ' ')}\n\n{text}\n")
    if given.into:
        curves_frame(curves).to_csv(given.into / "curves.csv", index=False, float_format="%.6g")
        energy_frame([*energies, *left_out]).to_csv(given.into / "energy.csv", index=False, float_format="%.6g")
    if given.docs:
        text = given.docs.read_text()
        given.docs.write_text(PLACE.sub(lambda place: f"{place[1]}{tables[place[2]]}\n{place[3]}", text))
    held = sum(score.holds for score in published)
    best = {f"{e.network}, {e.name}": round(e.r2, 4) for e in energies}
    print(json.dumps({"curves": len(published), "curves_that_hold": held, "energy_r2": best, "selection_j": chosen}))


def curve_table(scores: list[CurveScore]) -> str:
    rows = []
    for s in scores:
        relabelled = "-" if np.isnan(s.relabelled_rmse) else _four(s.relabelled_rmse)
        name = f"{s.key.network} {s.key.operation}, {_short(s.key.gpu_model)}" + (f" ({s.note})" if s.note else "")
        rmse = (_four(s.published_rmse), relabelled, _four(s.ours.rmse))
        off = (f"{100 * s.difference:.1f} %", f"{100 * s.seconds_off:.0f} %")
        rows.append([name, _curve(s.published), _curve(s.ours), *rmse, *off, "yes" if s.holds else "no"])
    header = ["operation", "published h_max, k, a", "ours", "residual published", "as the other projection", "ours"]
    return table([*header, "largest difference", "seconds off, median", "holds"], rows)


def energy_table(scores: list[EnergyScore]) -> str:
    rows = [[f"{s.network}, {s.name}", s.n, f"{s.r2:.4f}", _law(s)] for s in scores]
    return table(["fit", "rows", "R2", "e0 in J; e_i in W"], rows)


def left_out_table(scores: list[EnergyScore]) -> str:
    rows = [[f"{s.name}, {s.held_out}", s.n, f"{s.r2:.3f}"] for s in scores]
    return table(["held out", "rows", "R2 of those left out"], rows)


def selection_table(chosen: dict[str, dict[str, float]]) -> str:
    rows = [[name, f"{j['A']:.1f}", f"{j['B']:.1f}", f"{j['B'] / j['A']:.2f}"] for name, j in chosen.items()]
    return table(["law", "Model A, J", "Model B, J", "B / A"], rows)


def selections(scores: list[CurveScore], curves: Curves, energies: list[EnergyScore]) -> dict[str, dict[str, float]]:
    """The example with the published constants, and with our two fits on our times."""
    published = {score.key: score.published for score in scores}
    chosen = {"published curves and coefficients": selection(PUBLISHED_ENERGY, published, PUBLISHED_US)}
    for each in energies:
        if each.network == "transformer" and each.name.startswith("our times"):
            chosen[each.name] = selection(each.law, curves)
    return chosen


def curves_frame(curves: Curves) -> pd.DataFrame:
    """One row a fitted curve, with standard errors (of log k for k), the timings' range and the residual."""
    rows = []
    for key, c in curves.items():
        errors = dict(zip(("h_max_error", "log_k_error", "a_error"), c.errors, strict=True))
        fit = {"h_max_percent": c.h_max, "k": c.k, "a": c.a, **errors}
        about = {"tflop_low": c.c_low, "tflop_high": c.c_high, "timings": c.n, "rmse_percent": c.rmse}
        rows.append({**key._asdict(), **fit, **about})
    return pd.DataFrame(rows).rename(columns={"network": "model_family"})


def energy_frame(scores: list[EnergyScore]) -> pd.DataFrame:
    """One row a coefficient of a fit."""
    rows = []
    for s in scores:
        about = {"model_family": s.network, "fit": s.name, "held_out": s.held_out, "rows": s.n, "r2": s.r2}
        rows.append({**about, "coefficient": "e0", "value": s.law.intercept, "unit": "J"})
        for name, value in zip(FLOP[s.network], s.law.slopes, strict=True):
            rows.append({**about, "coefficient": name, "value": value, "unit": "W"})
    return pd.DataFrame(rows)


def _law(s: EnergyScore) -> str:
    slopes = zip(FLOP[s.network], s.law.slopes, strict=True)
    twins = {name for group in s.law.twins for name in (list(FLOP[s.network])[j] for j in group)}
    terms = [f"{name} {value:.4g}{' (twin)' if name in twins else ''}" for name, value in slopes]
    return f"{s.law.intercept:.4g}; " + ", ".join(terms)


def _curve(curve: Curve) -> str:
    return f"{_four(curve.h_max)}, {_four(curve.k)}, {curve.a:.3f}"


def _four(value: float) -> str:
    return f"{value:.4g}" if value < 1e4 else f"{value:.0f}"


def _short(gpu_model: str) -> str:
    return gpu_model.removeprefix("NVIDIA ").removeprefix("GeForce ").removesuffix(" 80GB PCIe")


if __name__ == "__main__":
    main()
