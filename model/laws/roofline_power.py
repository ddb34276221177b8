"""The watts that scale a device's energies: its default power limit, or what its trials drew where it has none."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.columns import codes
from joulelaw.model.laws.base import Parameters, Rows

Array = npt.NDArray[np.float64]
SCALE = "energy.power_scale_w[{}]"


def default_limit_w(rows: Rows, scales: Parameters) -> Array:
    """The default power limit of each row's device; of one that has none the row's own, or what stands in for it."""
    default, given = rows.column("default_power_limit_w"), rows.column("power_limit_w")
    models, code = codes(rows.table, "gpu_model")
    stand_in = np.array([scales.get(SCALE.format(model), np.nan) for model in models])[code]
    return np.where(np.isnan(default), np.where(np.isnan(given), stand_in, given), default)


def power_scales(rows: Rows, known: Parameters | None) -> dict[str, float]:
    """Watts that stand in for the power limit of devices that have none: known, or the median drawn."""
    prefix = SCALE.partition("[")[0]
    kept = {name: value for name, value in (known or {}).items() if name.startswith(prefix)}
    drawn = rows.column("energy_j") / rows.column("duration_s") / rows.column("gpu_count")
    unlimited = pd.Series(drawn)[np.isnan(rows.column("power_limit_w"))]
    medians = unlimited.groupby(rows.table["gpu_model"].iloc[unlimited.index]).median()
    return {SCALE.format(model): float(watts) for model, watts in medians.items()} | kept


def remarks(scales: Parameters) -> list[str]:
    return [
        f"{name.partition('[')[2][:-1]} has no power limit: {watts:.3g} W, the median its trials drew, stands in"
        for name, watts in scales.items()
    ]
