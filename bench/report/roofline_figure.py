"""The roofline with the trials on it: what each device reached, under what its arithmetic and memory allow."""

import numpy as np
import pandas as pd

from joulelaw.bench.report.axes import logarithmic, new_figure, point_style, strategy_legend
from joulelaw.bench.report.drawing import Drawing, Marks
from joulelaw.bench.report.palette import LIGHT, in_order
from joulelaw.bench.report.quantity import percent, quantity
from joulelaw.bench.report.study import Study

_DASHES = ("-", "--", "-.", ":")
_CEILING = ["gpu_model", "precision", "peak_flop_per_s", "bandwidth_bytes_per_s"]


def roofline_points(study: Study) -> pd.DataFrame:
    """Per counted trial and device: `intensity` (FLOP/B), `flop_per_s` reached, and the `ceiling` there (FLOP/s).

    Bytes are the counted traffic of products, elementwise work (each stored activation once) and the optimizer.
    """
    rows = study.counted
    moved = rows["gemm_bytes_per_micro_step"] + rows["elementwise_bytes_per_micro_step"]
    moved = moved + rows["optimizer_bytes_per_step"] / rows["grad_accumulation"]
    intensity = rows["flop_per_micro_step"] / moved
    return rows[["strategy", *_CEILING]].assign(
        intensity=intensity,
        flop_per_s=rows["flop_per_micro_step"] * rows["micro_steps"] / rows["duration_s"],
        ceiling=np.minimum(rows["peak_flop_per_s"], rows["bandwidth_bytes_per_s"] * intensity),
    )


def roofline(study: Study) -> Drawing | None:
    """One device's FLOP/s against FLOP per byte; a ceiling for each device model and precision; None without trials."""
    if study.counted.empty:
        return None
    points = roofline_points(study)
    ceilings = points[_CEILING].drop_duplicates(_CEILING[:2]).sort_values(_CEILING[:2])
    ridge = ceilings["peak_flop_per_s"] / ceilings["bandwidth_bytes_per_s"]
    models = sorted(set(points["gpu_model"]))
    left, right = min(points["intensity"].min(), ridge.min()) / 2.5, max(points["intensity"].max(), ridge.max()) * 2.5
    bottom, top = points["flop_per_s"].min() / 2, max(ceilings["peak_flop_per_s"].max(), points["flop_per_s"].max()) * 2
    marks: dict[str, Marks] = {}
    with new_figure(6.6, 4.4) as (figure, (axes,)):
        x = np.geomspace(left, right, 200)
        for number, row in enumerate(ceilings.to_dict("records")):
            peak = float(row["peak_flop_per_s"])
            y = np.minimum(peak, float(row["bandwidth_bytes_per_s"]) * x)
            axes.plot(x, y, color=LIGHT["muted"], linewidth=1.3, linestyle=_DASHES[number % len(_DASHES)], zorder=1)
            name = row["precision"] if len(models) == 1 else f"{row['gpu_model']}, {row['precision']}"
            label = f"{name}: {quantity(peak, 'FLOP/s')}"
            axes.annotate(label, (right, peak), (-2, 3), textcoords="offset points", ha="right",
                          fontsize=8.5, color=LIGHT["muted"])  # fmt: skip
        for strategy in in_order(set(points["strategy"])):
            part = points[points["strategy"] == strategy]
            look = point_style(strategy, held_out=True, estimated=False) | {"markersize": 6.0}
            axes.plot(part["intensity"], part["flop_per_s"], gid=f"points-{strategy}", **look)
            marks[f"points-{strategy}"] = Marks(strategy, tuple(part.index))
        logarithmic(axes, "x", left, right, "1")
        logarithmic(axes, "y", bottom, top, "FLOP/s")
        axes.set(xlabel="counted arithmetic intensity, FLOP/B", ylabel="reached by one device")
        axes.set_title(f"Roofline, {models[0]}" if len(models) == 1 else "Roofline")
        strategy_legend(axes, set(points["strategy"]), estimated=False, splits=False)
    share = points["flop_per_s"] / points["ceiling"]
    return Drawing(
        name="roofline",
        figure=figure,
        caption=(
            "Each trial's floating-point operations per second and device against its operations per byte of memory "
            f"traffic, both counted from the model's shape. The trials reach {percent(float(share.min()))} to "
            f"{percent(float(share.max()))} of their ceiling."
        ),
        alt=f"Roofline with {len(points)} trials",
        marks=marks,
    )
