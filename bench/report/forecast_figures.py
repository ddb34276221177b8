"""Measured against predicted, and what is left over by strategy: how good the law is, seen.

Both are of a step: windows are cut to about the same length, so that their whole durations would hardly differ.
"""

import math
import textwrap

import numpy as np
import pandas as pd

from joulelaw.bench.report.axes import logarithmic, new_figure, point_style, share, strategy_legend
from joulelaw.bench.report.drawing import Drawing, Marks
from joulelaw.bench.report.palette import LIGHT, colour, in_order
from joulelaw.bench.report.quantity import percent
from joulelaw.bench.report.study import ESTIMATED, UNITS, Study


def measured_against_predicted(study: Study, target: str) -> Drawing:
    """Log-log, a point a trial; held-out trials are full and carry the forecast's 95 % interval."""
    rows, unit, estimated = _rows(study, target)
    values = rows[["measured", "predicted"]].to_numpy(dtype=float)
    low, high = values.min() / 1.3, values.max() * 1.3
    marks: dict[str, Marks] = {}
    with new_figure(6.4, 5.9) as (figure, (axes,)):
        axes.plot([low, high], [low, high], color=LIGHT["muted"], linewidth=1.0, zorder=1)
        for strategy, held_out, part in _parts(rows):
            key = f"{strategy}-{'held-out' if held_out else 'fit'}"
            if held_out:
                bars = axes.vlines(part["measured"], part["low"], part["high"], linewidth=1.2, alpha=0.55, zorder=2)
                bars.set_color(colour(strategy, estimated=estimated))
                bars.set_gid(f"bars-{key}")
                marks[f"bars-{key}"] = Marks(strategy)
            look = point_style(strategy, held_out, estimated=estimated)
            axes.plot(part["measured"], part["predicted"], gid=f"points-{key}", **look)
            marks[f"points-{key}"] = Marks(strategy, tuple(part.index))
        for which in ("x", "y"):
            logarithmic(axes, which, low, high, unit)
        axes.set_aspect("equal")
        axes.set(xlabel=f"{_measured_word(study, target)} {target} of a step", ylabel=f"predicted {target} of a step")
        axes.set_title(title(study, target), fontsize=10.0)
        strategy_legend(axes, set(rows["strategy"]), estimated=estimated)
    return Drawing(
        name=f"predicted-{target}",
        figure=figure,
        caption=_caption(study, rows, target),
        alt=f"Predicted against measured {target} of {len(rows)} trials, both logarithmic",
        marks=marks,
        estimated=estimated,
    )


def residuals(study: Study, target: str) -> Drawing:
    """By strategy: how far each forecast is off, on a logarithmic scale, so that twice and half weigh the same."""
    rows, _, estimated = _rows(study, target)
    strategies = in_order(set(rows["strategy"]))
    off = pd.Series(np.log((rows["predicted"] / rows["measured"]).to_numpy(dtype=float)), index=rows.index)
    reach = max(1.15 * float(off.abs().max()), math.log(1.1))
    marks: dict[str, Marks] = {}
    with new_figure(6.6, 3.4) as (figure, (axes,)):
        axes.axhline(0, color=LIGHT["muted"], linewidth=1.0, zorder=1)
        for strategy, held_out, part in _parts(rows):
            key = f"{strategy}-{'held-out' if held_out else 'fit'}"
            middle = strategies.index(strategy) + (0.2 if held_out else -0.2)
            x = middle + np.linspace(-0.12, 0.12, len(part)) if len(part) > 1 else [middle]
            look = point_style(strategy, held_out, estimated=estimated)
            axes.plot(x, off[part.index], gid=f"points-{key}", **look)
            marks[f"points-{key}"] = Marks(strategy, tuple(part.index))
        axes.set_ylim(-reach, reach)
        axes.yaxis.set_major_formatter(
            share(lambda value: f"{100 * math.expm1(value):+.0f} %".replace("-", "−").replace("+0", "0"))
        )
        ratios = [0.25, 0.5, 2 / 3, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 4.0]
        inside = [math.log(ratio) for ratio in ratios if abs(math.log(ratio)) <= reach]
        near = [value for value in inside if value == 0 or abs(value) >= reach / 6]
        axes.set_yticks(near)
        axes.set_xticks(range(len(strategies)), labels=strategies)
        axes.set_xlim(-0.5, len(strategies) - 0.5)
        axes.grid(axis="x", visible=False)
        axes.set(ylabel=f"predicted / {_measured_word(study, target)} − 1")
        axes.set_title(title(study, target), fontsize=10.0)
    return Drawing(
        name=f"residuals-{target}",
        figure=figure,
        caption="Above the line the forecast is too high, below it too low. Open marks: fitted; full ones: held out.",
        alt=f"Residuals of {target} by strategy for {len(rows)} trials",
        marks=marks,
        estimated=estimated,
    )


def held_out_error(study: Study, target: str) -> tuple[int, float]:
    """How many held-out trials the law forecasts, and the mean absolute error relative to the measured value."""
    rows, _, _ = _rows(study, target)
    held = rows[rows["split"] == "hold_out"]
    return len(held), float((held["predicted"] / held["measured"] - 1).abs().mean()) if len(held) else math.nan


def title(study: Study, target: str) -> str:
    """What is shown; of an energy always by which meter, and that it is estimated where it is."""
    if target == "duration":
        return "Duration of an optimizer step"
    return f"Energy of an optimizer step\n{meter_lines(study)}"


def meter_lines(study: Study) -> str:
    """The meter, in lines that fit a figure, and below it that joules are estimated where they are."""
    return textwrap.fill(study.meter, 80) + (f"\n{ESTIMATED}" if study.estimated else "")


def _rows(study: Study, target: str) -> tuple[pd.DataFrame, str, bool]:
    unit = UNITS[target]
    rows = study.forecast
    names = {
        f"{target}_{unit.lower()}": "measured",
        f"predicted_{target}_{unit.lower()}": "predicted",
        f"{target}_low_{unit.lower()}": "low",
        f"{target}_high_{unit.lower()}": "high",
    }
    steps = rows["micro_steps"] / rows["grad_accumulation"]
    rows = rows[["strategy", "split"]].join(rows[list(names)].div(steps, axis=0).rename(columns=names))
    return rows[rows["predicted"].notna()], unit, target == "energy" and study.estimated


def _parts(rows: pd.DataFrame) -> list[tuple[str, bool, pd.DataFrame]]:
    """Fitted trials first, so that held-out ones lie on top."""
    held = rows["split"] == "hold_out"
    return [
        (strategy, held_out, part)
        for held_out in (False, True)
        for strategy in in_order(set(rows["strategy"]))
        if len(part := rows[(held == held_out) & (rows["strategy"] == strategy)])
    ]


def _measured_word(study: Study, target: str) -> str:
    return "estimated" if target == "energy" and study.estimated else "measured"


def _caption(study: Study, rows: pd.DataFrame, target: str) -> str:
    count, error = held_out_error(study, target)
    if not count:
        return "A point a trial. No trial was held out, so nothing here is a forecast of the unseen."
    held = rows[rows["split"] == "hold_out"]
    inside = int(((held["low"] <= held["measured"]) & (held["measured"] <= held["high"])).sum())
    seen = (
        "" if study.fitted_without_hold_out else " The law was fitted on other trials than those marked as fitted here."
    )
    return (
        f"A point a trial, and the line where forecast and {_measured_word(study, target)} value agree. The {count} "
        f"full points were held out{study.hold_out_rule}: their mean absolute error is {percent(error)}, and "
        f"{inside} of {count} lie within their {study.interval}.{seen}"
    )
