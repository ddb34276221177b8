"""One trial over time, for papers: the power of each device as it was read, and the time of each step on each rank."""

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from joulelaw.bench.energy.readings import power_series
from joulelaw.bench.report.forecast_charts import meter_lines
from joulelaw.bench.report.names import describe
from joulelaw.bench.report.one_clock import NS, timed_readings, timed_steps
from joulelaw.bench.report.palette import LIGHT
from joulelaw.bench.report.paper import new_figure
from joulelaw.bench.report.quantity import tick
from joulelaw.bench.report.study import Study

_SHADES = [LIGHT[f"series-{number}"] for number in range(8)]


def chosen_trial(study: Study) -> dict[Any, Any] | None:
    """The trial to show: of the widest groups the longest valid one, held out where there is one.

    None where no trial is valid, or each was imported and so has no readings. `place` is its place among the trials.
    """
    valid = study.valid[study.valid["window_begin_ns"].notna()]
    if valid.empty:
        return None
    order = valid.sort_values(["gpu_count", "held_out", "duration_s"])
    return order.iloc[-1].to_dict() | {"place": int(order.index[-1])}


def one_trial(study: Study) -> Figure | None:
    """Power and step times of the chosen trial; None where there is none."""
    row = chosen_trial(study)
    if row is None:
        return None
    begin_ns, end_ns = int(row["window_begin_ns"]), int(row["window_end_ns"])
    steps = timed_steps(study, row)
    power = timed_readings(study, row, steps)
    with new_figure(6.6, 5.4, rows=2, ratios=(1.0, 1.0)) as (figure, (above, below)):
        for axes in (above, below):
            axes.axvspan(0, (end_ns - begin_ns) * NS, color=LIGHT["faint"], alpha=0.6, linewidth=0, zorder=0)
        for number, (readings, began_ns) in enumerate(power):
            time_ns, watts = power_series(readings)
            shade = LIGHT["estimate"] if study.estimated else _SHADES[number % len(_SHADES)]
            at_s = (time_ns - began_ns) * NS
            label = f"device {number}"
            look: dict[str, Any] = {"color": shade, "linewidth": 1.2, "alpha": 0.9 - 0.3 * (number % 2), "label": label}
            above.plot(at_s, watts, drawstyle="steps-pre", **look)
        above.set_ylim(0, 1.2 * above.dataLim.y1 if power else 1)
        above.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} W"))
        above.set_title(f"Power of trial {row['trial_id']}\n{describe(row)}\n{meter_lines(study)}", fontsize=10.0)
        if 1 < len(power) <= 8:
            above.legend(loc="lower right", ncols=len(power))
        for rank, part in steps.groupby("rank"):
            number = int(str(rank))
            shade = _SHADES[number % len(_SHADES)]
            look = {"markersize": 4.5, "color": shade, "alpha": 0.8, "label": f"rank {rank}"}
            below.plot(part["end_s"], part["s"], ".", **look)
        warm = steps[steps["measured"]]
        if len(warm):  # the first steps of a warm-up may be ten times as long
            below.set_ylim(0, 2 * float(warm["s"].quantile(0.98)))
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, "s") if value else "0"))
        below.set_title("Step time", fontsize=10.0)
        below.set_xlabel("seconds since the measured window began")
        if 1 < steps["rank"].nunique() <= 8:
            below.legend(loc="lower right", ncols=steps["rank"].nunique(), markerscale=2)
    return figure
