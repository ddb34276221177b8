"""Measured against predicted, and what is left over by strategy: how good the law is, seen.

Both are of a step: windows are cut to about the same length, so that their whole durations would hardly differ.
"""

import math
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from joulelaw.bench.report.charts import Axis, Chart, Line, Points, log_axis
from joulelaw.bench.report.palette import in_order
from joulelaw.bench.report.quantity import percent
from joulelaw.bench.report.study import ESTIMATED, UNITS, Study

RATIOS = (0.25, 0.5, 2 / 3, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0)


def measured_against_predicted(study: Study, target: str) -> Chart:
    """Log-log, a point a trial; held-out trials are full and carry the forecast's 95 % interval."""
    rows, unit = of_a_step(study, target)
    values = rows[["measured", "predicted"]].to_numpy(dtype=float)
    low, high = values.min() / 1.3, values.max() * 1.3
    measured = study.word(target)
    return Chart(
        name=f"predicted-{target}",
        title=title(target),
        caption=_caption(study, rows, target),
        alt=f"Predicted against measured {target} of {len(rows)} trials, both logarithmic",
        x=log_axis(f"{measured} {target} of a step", unit, low, high),
        y=log_axis(f"predicted {target} of a step", unit, low, high),
        points=points(rows, rows["measured"], rows["predicted"], intervals=True),
        lines=(Line((low, high), (low, high)),),
        splits=True,
        square=True,
        **of_meter(study, target),
    )


def residuals(study: Study, target: str) -> Chart:
    """By strategy: how far each forecast is off, on a logarithmic scale, so that twice and half weigh the same."""
    rows, _ = of_a_step(study, target)
    strategies = in_order(set(rows["strategy"]))
    ratio = rows["predicted"] / rows["measured"]
    reach = max(1.15 * float(np.abs(np.log(ratio.astype(float))).max()), math.log(1.1))
    alike = rows["held_out"].nunique() == 1
    reach_x = 0.3 if alike else 0.14
    at = pd.Series(0.0, index=rows.index)
    for (strategy, held_out), part in rows.groupby(["strategy", "held_out"]):
        middle = strategies.index(str(strategy)) + (0.0 if alike else 0.2 if held_out else -0.2)
        at[part.index] = middle + (np.linspace(-reach_x, reach_x, len(part)) if len(part) > 1 else 0.0)
    inside = [r for r in RATIOS if abs(math.log(r)) <= reach and (r == 1 or abs(math.log(r)) >= reach / 6)]
    ticks = tuple((each, percent(each - 1, signed=True).replace(".0", "") if each != 1 else "0") for each in inside)
    places = tuple((float(place), name) for place, name in enumerate(strategies))
    left, right = -0.5, len(strategies) - 0.5
    return Chart(
        name=f"residuals-{target}",
        title=f"{target.capitalize()} forecast, off by strategy",
        caption="Above the line the forecast is too high, below it too low. Open marks: fitted; full ones: held out.",
        alt=f"Residuals of {target} by strategy for {len(rows)} trials",
        x=Axis("strategy", "1", left, right, places, log=False),
        y=Axis(f"predicted / {study.word(target)} − 1", "ratio", math.exp(-reach), math.exp(reach), ticks),
        points=points(rows, at, ratio),
        lines=(Line((left, right), (1.0, 1.0)),),
        splits=True,
        **of_meter(study, target),
    )


def points(rows: pd.DataFrame, x: Iterable[float], y: Iterable[float], *, intervals: bool = False) -> Points:
    """A point a row of a study's trials."""
    return Points(
        trial=tuple(int(place) for place in rows.index),
        x=tuple(map(float, x)),
        y=tuple(map(float, y)),
        strategy=tuple(rows["strategy"]),
        held_out=tuple(map(bool, rows["held_out"])),
        low=tuple(map(float, rows["low"])) if intervals else (),
        high=tuple(map(float, rows["high"])) if intervals else (),
    )


def held_out_error(study: Study, target: str) -> tuple[int, float]:
    """How many held-out trials the law forecasts, and the mean absolute error relative to the measured value."""
    rows, _ = of_a_step(study, target)
    held = rows[rows["held_out"]]
    return len(held), float((held["predicted"] / held["measured"] - 1).abs().mean()) if len(held) else math.nan


def title(target: str) -> str:
    return f"{target.capitalize()} of an optimizer step"


def of_meter(study: Study, target: str) -> dict[str, Any]:
    """Of a chart with joules in it: by which meter, and that they are estimated where they are."""
    if target == "duration":
        return {"meter": "", "estimated": False}
    return {"meter": meter_lines(study), "estimated": study.estimated}


def meter_lines(study: Study) -> str:
    """The meter, in lines that fit a figure, and below it that joules are estimated where they are."""
    return textwrap.fill(study.meter, 80) + (f"\n{ESTIMATED}" if study.estimated else "")


def of_a_step(study: Study, target: str) -> tuple[pd.DataFrame, str]:
    """Measured and predicted seconds or joules of an optimizer step, with the forecast's interval; and the unit."""
    unit = UNITS[target]
    rows = study.forecast
    names = {
        f"{target}_{unit.lower()}": "measured",
        f"predicted_{target}_{unit.lower()}": "predicted",
        f"{target}_low_{unit.lower()}": "low",
        f"{target}_high_{unit.lower()}": "high",
    }
    steps = rows["micro_steps"] / rows["grad_accumulation"]
    rows = rows[["strategy", "held_out"]].join(rows[list(names)].div(steps, axis=0).rename(columns=names))
    return rows[rows["predicted"].notna()], unit


def _caption(study: Study, rows: pd.DataFrame, target: str) -> str:
    count, error = held_out_error(study, target)
    if not count:
        return "A point a trial. No trial was held out, so nothing here is a forecast of the unseen."
    held = rows[rows["held_out"]]
    inside = int(((held["low"] <= held["measured"]) & (held["measured"] <= held["high"])).sum())
    said = (
        f"A point a trial, and the line where forecast and {study.word(target)} value agree. The {count} "
        f"full points were held out{study.hold_out_rule}: their mean absolute error is {percent(error)}, and "
        f"{inside} of {count} lie within their {study.interval}."
    )
    if study.by_folds:
        return (
            f"{said} Each is forecast by the first fold of the validation that left it out; the law below was fitted "
            "on all of them."
        )
    return said if study.fitted_without_hold_out else (
        f"{said} The law was fitted on other trials than those marked as fitted here."
    )  # fmt: skip
