"""One trial over time: the power of each device as it was read, and how long each step took on each rank."""

from collections.abc import Mapping
from typing import Any

from joulelaw.bench.dataset.measurements import read_steps
from joulelaw.bench.energy.readings import power_series
from joulelaw.bench.energy.stored_power import readings_of
from joulelaw.bench.report.axes import new_figure, share
from joulelaw.bench.report.drawing import Drawing
from joulelaw.bench.report.forecast_figures import meter_lines
from joulelaw.bench.report.palette import LIGHT
from joulelaw.bench.report.quantity import tick
from joulelaw.bench.report.study import Study

_NS = 1e-9
_SHADES = [LIGHT[f"series-{number}"] for number in range(8)]


def chosen_trial(study: Study) -> dict[Any, Any] | None:
    """The trial to show: of the widest groups the longest valid one, held out where there is one.

    None where no trial is valid, or each was imported and so has no readings.
    """
    valid = study.valid[study.valid["window_begin_ns"].notna()]
    if valid.empty:
        return None
    order = valid.assign(held=valid["split"] == "hold_out").sort_values(["gpu_count", "held", "duration_s"])
    return valid.loc[order.index[-1:]].to_dict("records")[0]


def one_trial(study: Study) -> Drawing | None:
    """Power and step times of the chosen trial; None where there is none."""
    row = chosen_trial(study)
    if row is None:
        return None
    begin_ns, end_ns = int(row["window_begin_ns"]), int(row["window_end_ns"])
    power = list(readings_of(study.folder, row["trial_id"], row["nodes"][0]))  # other nodes' clocks have another zero
    steps = read_steps(study.folder, row["trial_id"])
    with new_figure(6.6, 5.0, rows=2, ratios=(1.0, 1.0)) as (figure, (above, below)):
        for axes in (above, below):
            axes.axvspan(0, (end_ns - begin_ns) * _NS, color=LIGHT["faint"], alpha=0.6, linewidth=0, zorder=0)
        domains = sorted(power, key=lambda readings: readings.domain)
        for number, readings in enumerate(domains):
            time_ns, watts = power_series(readings)
            shade = LIGHT["estimate"] if study.estimated else _SHADES[number % len(_SHADES)]
            at_s = (time_ns - begin_ns) * _NS
            label = f"device {number}"
            look: dict[str, Any] = {"color": shade, "linewidth": 1.2, "alpha": 0.9 - 0.3 * (number % 2), "label": label}
            above.plot(at_s, watts, drawstyle="steps-pre", **look)
        above.set_ylim(0, 1.2 * above.dataLim.y1 if domains else 1)
        above.yaxis.set_major_formatter(share(lambda value: f"{value:g} W"))
        above.set_title(f"Power\n{meter_lines(study)}", fontsize=10.0)
        if 1 < len(domains) <= 8:
            above.legend(loc="lower right", ncols=len(domains))
        for rank, part in steps.groupby("rank"):
            number = int(str(rank))
            seconds = (part["end_ns"] - part["begin_ns"]) * _NS
            shade = _SHADES[number % len(_SHADES)]
            below.plot((part["end_ns"] - begin_ns) * _NS, seconds, ".", markersize=4.5, color=shade, alpha=0.8,
                       label=f"rank {rank}")  # fmt: skip
        warm = steps[steps["measured"]]
        if len(warm):
            typical = float(((warm["end_ns"] - warm["begin_ns"]) * _NS).quantile(0.98))
            below.set_ylim(0, 2 * typical)
            hidden = int(((steps["end_ns"] - steps["begin_ns"]) * _NS > 2 * typical).sum())
        else:
            hidden = 0
        below.yaxis.set_major_formatter(share(lambda value: tick(value, "s") if value else "0"))
        below.set_title("Step time", fontsize=10.0)
        below.set_xlabel("seconds since the measured window began")
        if 1 < steps["rank"].nunique() <= 8:
            below.legend(loc="lower right", ncols=steps["rank"].nunique(), markerscale=2)
    beyond = f" {hidden} slower steps of the warm-up lie above the axis." if hidden else ""
    return Drawing(
        name="one-trial",
        figure=figure,
        caption=f"Trial {row['trial_id']} ({describe(row)}). The shaded stretch is the measured window.{beyond}",
        alt=f"Power and step times of trial {row['trial_id']} over time",
        estimated=study.estimated,
    )


def describe(row: Mapping[Any, Any]) -> str:
    """A trial in a few words."""
    accumulation = f" × {row['grad_accumulation']}" if row["grad_accumulation"] > 1 else ""
    return (
        f"{row['strategy']} on {row['gpu_count']} {'device' if row['gpu_count'] == 1 else 'devices'}, "
        f"{row['num_layers']} layers, width {row['hidden_size']}, length {row['sequence_length']}, "
        f"batch {row['micro_batch_size']}{accumulation}, {row['precision']}"
    )
