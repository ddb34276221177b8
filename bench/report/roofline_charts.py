"""The rooflines of time and energy with the trials on them: what each device reached, under what its parts allow."""

from typing import Any

import numpy as np
import pandas as pd

from joulelaw.bench.report.charts import Chart, Line, log_axis
from joulelaw.bench.report.forecast_charts import of_meter, points
from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.quantity import percent, quantity
from joulelaw.bench.report.study import Study

_CEILING = ["gpu_model", "precision", "peak_flop_per_s", "bandwidth_bytes_per_s"]
_INTENSITY = "counted arithmetic intensity, FLOP/B"


def roofline_points(study: Study) -> pd.DataFrame:
    """Per counted trial and device: `intensity` (FLOP/B), `flop_per_s` reached, the `ceiling` there (FLOP/s), and
    `flop_per_j` of the group.

    Bytes are the counted traffic of products, elementwise work (each stored activation once) and the optimizer.
    """
    rows = study.counted
    moved = rows["gemm_bytes_per_micro_step"] + rows["elementwise_bytes_per_micro_step"]
    moved = moved + rows["optimizer_bytes_per_step"] / rows["grad_accumulation"]
    intensity = rows["flop_per_micro_step"] / moved
    flop = rows["flop_per_micro_step"] * rows["micro_steps"]
    return rows[["strategy", "held_out", *_CEILING]].assign(
        intensity=intensity,
        flop_per_s=flop / rows["duration_s"],
        flop_per_j=flop * rows["gpu_count"] / rows["energy_j"],
        ceiling=np.minimum(rows["peak_flop_per_s"], rows["bandwidth_bytes_per_s"] * intensity),
    )


def roofline(study: Study) -> Chart | None:
    """One device's FLOP/s against FLOP per byte; a ceiling for each device model and precision; None without trials."""
    if study.counted.empty:
        return None
    rows = roofline_points(study)
    ceilings = _ceilings(rows)
    x = _span(rows, ceilings)
    lines = []
    for number, row in enumerate(ceilings.to_dict("records")):
        peak = float(row["peak_flop_per_s"])
        y = np.minimum(peak, float(row["bandwidth_bytes_per_s"]) * x)
        lines.append(_line(rows, row, x, y, quantity(peak, "FLOP/s"), number))
    bottom, top = rows["flop_per_s"].min() / 2, max(ceilings["peak_flop_per_s"].max(), rows["flop_per_s"].max()) * 2
    share = rows["flop_per_s"] / rows["ceiling"]
    return Chart(
        name="roofline",
        title=_title(rows, "Roofline"),
        caption=(
            "Each trial's floating-point operations per second and device against its operations per byte of memory "
            "traffic, both counted from the model's shape; the lines are what data sheets allow. The trials reach "
            f"{percent(float(share.min()))} to {percent(float(share.max()))} of it."
        ),
        alt=f"Roofline with {len(rows)} trials",
        x=log_axis(_INTENSITY, "FLOP/B", x[0], x[-1]),
        y=log_axis("reached by one device", "FLOP/s", bottom, top),
        points=points(rows, rows["intensity"], rows["flop_per_s"]),
        lines=tuple(lines),
    )


def energy_roofline(study: Study) -> Chart | None:
    """FLOP per joule against FLOP per byte, under what the law allows a device alone; None without trials.

    Of a roofline law: 1 / (e_flop + e_byte / I + (P_static + P_boost) s(I)), with the seconds s of a FLOP at the speeds
    that devices reach: arithmetic and memory traffic overlap wholly, nothing is launched, sent or waited for, and the
    host draws nothing. Source: Choi, Bedard, Fowler and Vuduc 2013, with the power of load beside.
    """
    if study.counted.empty:
        return None
    rows = roofline_points(study)
    ceilings = _ceilings(rows)
    x = _span(rows, ceilings)
    lines = []
    for number, row in enumerate(ceilings.to_dict("records")):
        y = _allowed_flop_per_j(study, row, x)
        if y is not None:
            lines.append(_line(rows, row, x, y, f"at most {quantity(float(y.max()), 'FLOP/J')}", number))
    top = max([float(rows["flop_per_j"].max()), *(max(line.y) for line in lines)]) * 2
    least = float(rows["flop_per_j"].min())
    above = (
        " The lines are what the law allows a device that only computes and moves each activation once: no launches, "
        "no messages, no waiting, no host."
        if lines
        else ""
    )
    return Chart(
        name="energy-roofline",
        title=_title(rows, "Energy roofline"),
        caption=(
            "Floating-point operations per joule of the whole group against operations per byte of memory traffic, "
            f"both counted. The best trial reaches {quantity(float(rows['flop_per_j'].max()), 'FLOP/J')}, the worst "
            f"{quantity(least, 'FLOP/J')}.{above}"
        ),
        alt=f"Energy roofline with {len(rows)} trials",
        x=log_axis(_INTENSITY, "FLOP/B", x[0], x[-1]),
        y=log_axis(f"{study.word('energy')} operations per joule", "FLOP/J", least / 2, top),
        points=points(rows, rows["intensity"], rows["flop_per_j"]),
        lines=tuple(lines),
        **of_meter(study, "energy"),
    )


def _allowed_flop_per_j(study: Study, row: Any, intensity: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any] | None":
    """None unless the law is a roofline that has the device's own numbers."""
    if study.law is None or not study.can_forecast("energy"):
        return None
    known = {f"{each.target}.{each.name}": each.value for each in study.law.coefficients}
    model, precision = row["gpu_model"], row["precision"]
    names = (f"energy.flop_j[{model}, {precision}]", f"energy.byte_j[{model}]", f"energy.static_w[{model}]",
             f"duration.flop_per_s[{model}, {precision}]", f"duration.bytes_per_s[{model}]",
             "energy.kappa_boost", "energy.kappa_flop")  # fmt: skip
    if any(name not in known for name in names):
        return None
    flop_j, byte_j, static_w, flop_per_s, bytes_per_s, boost, flop = (known[name] for name in names)
    boost_w = boost / flop * flop_j * row["peak_flop_per_s"]  # both are shares of the power limit
    seconds = np.maximum(1 / flop_per_s, 1 / (intensity * bytes_per_s))
    return np.asarray(1 / (flop_j + byte_j / intensity + (static_w + boost_w) * seconds))


def _ceilings(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[_CEILING].drop_duplicates(_CEILING[:2]).sort_values(_CEILING[:2])


def _span(rows: pd.DataFrame, ceilings: pd.DataFrame) -> "np.ndarray[Any, Any]":
    ridge = ceilings["peak_flop_per_s"] / ceilings["bandwidth_bytes_per_s"]
    low, high = min(rows["intensity"].min(), ridge.min()) / 2.5, max(rows["intensity"].max(), ridge.max()) * 2.5
    return np.geomspace(low, high, 60)


def _line(
    rows: pd.DataFrame, row: Any, x: "np.ndarray[Any, Any]", y: "np.ndarray[Any, Any]", words: str, dash: int
) -> Line:
    one = rows["gpu_model"].nunique() == 1
    name = row["precision"] if one else f"{short_device(row['gpu_model'])}, {row['precision']}"
    return Line(tuple(x), tuple(y), f"{name}: {words}", gpu=row["gpu_model"], dash=dash % 4)


def _title(rows: pd.DataFrame, what: str) -> str:
    models = sorted(set(rows["gpu_model"]))
    return f"{what}, {models[0]}" if len(models) == 1 else what
