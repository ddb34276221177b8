"""What more devices cost: joules and seconds of a token against those of the same case on its smallest group."""

import numpy as np
import pandas as pd

from joulelaw.bench.report.charts import Axis, Chart, Line, log_axis
from joulelaw.bench.report.forecast_charts import of_meter, points
from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.palette import in_order
from joulelaw.bench.report.quantity import number
from joulelaw.bench.report.study import UNITS, Study
from joulelaw.model.tables import CASE_COLUMNS, DETAIL_COLUMNS, key

_ASIDE = 1.05  # a strategy's points stand beside those of the next, by this factor


def scaling(study: Study, target: str) -> Chart | None:
    """By number of devices and strategy, log-log; None unless some case ran on groups of several sizes."""
    rows = relative_costs(study, target)
    if rows.empty:
        return None
    strategies = in_order(set(rows["strategy"]))
    # Beside one another: strategies, and the trials of each within its own stretch.
    aside = rows["strategy"].map({name: k - (len(strategies) - 1) / 2 for k, name in enumerate(strategies)})
    among = rows.groupby(["strategy", "gpu_count"])["ratio"]
    aside = aside + (among.rank(method="first") - 0.5) / among.transform("size") * 0.8 - 0.4
    counts = sorted(set(rows["gpu_count"]))
    low, high = float(rows["ratio"].min()), float(rows["ratio"].max())
    if target == "duration":
        low = min(low, 1 / counts[-1])
    left, right = counts[0] / 1.25, counts[-1] * 1.25
    smallest = "one device" if set(rows["smallest"]) == {1} else "its smallest group"
    ideal = Line((left, right), (1.0, 1.0))
    if target == "duration" and counts[0] == 1:
        ideal = Line((1.0, float(counts[-1])), (1.0, 1 / counts[-1]), "no cost of the group")
    what = "Energy" if target == "energy" else "Time"
    axis = log_axis(f"{what.lower()} of a token, {smallest} = 1", "1", low / 1.25, high * 1.25)
    return Chart(
        name=f"scaling-{target}",
        title=f"{what} of a token by number of devices",
        caption=(
            f"A point a trial: {'joules of the whole group' if target == 'energy' else 'seconds'} per token, relative "
            f"to the same case on {smallest}. Lines: geometric means of each strategy"
            f"{' and GPU model' if rows['gpu_model'].nunique() > 1 else ''}. "
            f"{'Above 1, more devices cost more joules for the same tokens.' if target == 'energy' else ''}"
        ).strip(),
        alt=f"{what} of a token against the number of devices for {len(rows)} trials",
        x=Axis("devices", "1", left, right, tuple((float(each), str(each)) for each in counts)),
        y=Axis(
            axis.label, "1", axis.low, axis.high, tuple((v, f"× {number(v, 1).rstrip('.')}") for v, _ in axis.ticks)
        ),
        points=points(rows, rows["gpu_count"] * _ASIDE**aside, rows["ratio"]),
        lines=(ideal, *_means(rows, target == "energy" and study.estimated)),
        **of_meter(study, target),
    )


def relative_costs(study: Study, target: str) -> pd.DataFrame:
    """The counted trials of cases that ran on groups of several sizes: `ratio` of their joules or seconds per token to
    the median of the case's smallest group, whose number of devices is `smallest`."""
    rows = study.counted
    rows = rows[rows[f"{target}_{UNITS[target].lower()}"].notna()]
    if rows.empty:
        return rows.assign(ratio=[], smallest=[])
    tokens = rows["micro_steps"] * rows["tokens_per_micro_step"] * rows["data_parallel"]
    each = rows[f"{target}_{UNITS[target].lower()}"] / tokens
    details = [name for name in DETAIL_COLUMNS if name in rows]
    case = pd.Series(list(key(rows, [*CASE_COLUMNS, *details])), index=rows.index)
    smallest, largest = (rows.groupby(case)["gpu_count"].transform(how) for how in ("min", "max"))
    reference = each[rows["gpu_count"] == smallest].groupby(case).median()
    told = rows[["strategy", "gpu_model", "gpu_count", "held_out"]]
    return told.assign(ratio=each / case.map(reference), smallest=smallest)[smallest < largest]


def _means(rows: pd.DataFrame, grey: bool) -> list[Line]:
    """A line a GPU model and strategy, from where groups begin."""
    models = sorted(set(rows["gpu_model"]))
    lines = []
    for model in models:
        for strategy in in_order(set(rows["strategy"])):
            part = rows[(rows["gpu_model"] == model) & (rows["strategy"] == strategy)]
            if strategy == "single" or part.empty:
                continue
            means = np.exp(np.log(part["ratio"].astype(float)).groupby(part["gpu_count"]).mean())
            first = float(part["smallest"].min())
            ahead = () if first in means.index else (first,)
            label = f"{strategy}, {short_device(model)}" if len(models) > 1 else strategy
            x, y = (*ahead, *map(float, means.index)), (*(1.0 for _ in ahead), *map(float, means))
            # Where all is grey, a pattern tells strategies apart; else GPU models.
            dash = in_order(set(rows["strategy"])).index(strategy) if grey and len(models) == 1 else models.index(model)
            lines.append(Line(x, y, label, strategy, model, dash % 4))
    return lines
