"""What runs ask of their devices against what these have: memory, by count, and the watts that they may draw."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.bench.console import number
from joulelaw.bench.plan.runnable import CPU_HEAP_FACTOR, USABLE_MEMORY
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts

# The boundary whose joules are all drawn under the devices' power limits.
LIMITED = "gpu"


def limits(table: pd.DataFrame, catalogue: Catalogue) -> pd.DataFrame:
    """Of each run, with the table's index: num_parameters; memory_bytes_per_device (the predicted peak, of processors
    with the holes in their heap) and memory_share (of what is usable, as a study's plan has it: above 1 it does not
    fit); power_limits_w (of all its devices together, nan where one has none).

    Raises:
        InputError: as `parallelism.counts`.
    """
    found = counts(table, catalogue)
    models = table["gpu_model"].astype(str)
    devices = {model: catalogue.get(model) for model in models.unique()}
    heap = models.map({name: CPU_HEAP_FACTOR if device.kind == "cpu" else 1.0 for name, device in devices.items()})
    usable = models.map({name: USABLE_MEMORY * device.memory_bytes for name, device in devices.items()})
    needed = found["memory_bytes_per_device"] * heap
    return pd.DataFrame(
        {
            "num_parameters": found["num_parameters"],
            "memory_bytes_per_device": needed,
            "memory_share": needed / usable,
            "power_limits_w": found["power_limit_w"] * table["gpu_count"].astype(float),
        },
        index=table.index,
    )


def above_limits(forecasts: pd.DataFrame, power: str = "average_power_w") -> npt.NDArray[np.bool_]:
    """Which forecasts draw more than their devices may: energy or time must be off. False where that cannot be told."""
    watts, most = (forecasts[name].to_numpy(dtype=float) for name in (power, "power_limits_w"))
    return np.asarray((forecasts["boundary"] == LIMITED).to_numpy() & (watts > most))


def power_warning(row: Mapping[str, Any]) -> str:
    """What must be said of a run whose power, or its interval's upper end, no such devices can draw; else nothing."""
    table = pd.DataFrame([row])
    most = f"{number(row['power_limits_w'])} W that the devices may draw (power limit x devices)"
    if above_limits(table).any():
        return f"average power is above the {most}: energy is forecast too high, or time too short"
    if above_limits(table, "average_power_high_w").any():
        return f"the upper end of average power is above the {most}: energy and time cannot be so far apart"
    return ""
