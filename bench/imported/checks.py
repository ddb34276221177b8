"""Imported rows that can be written down but not be true: more power than the devices may draw, more than their peak.

Nobody here saw the trial, so nothing can be mended: the row is kept, shown, and left out of fits with its reason.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.bench.trial.checks import Reason
from joulelaw.model.columns import flags, numbers
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts

# Enforced limits hold over a second or so, and cards are sold with raised ones.
MOST_OF_LIMIT = 1.5
# What a node draws beside its GPUs: a full server with eight of them, fans and losses included, stays below it.
HOST_W = 3000.0
# No device that works idles at so little of its limit: such a row's joules or seconds are in another unit.
LEAST_OF_LIMIT = 0.01
# Boost clocks above the data sheet's.
MOST_OF_PEAK = 1.1

Mask = npt.NDArray[np.bool_]


def reasons_of(table: pd.DataFrame, catalogue: Catalogue) -> list[list[str]]:
    """The reason codes against each row of a checked table; none for a row that may be fitted."""
    found = {
        Reason.INVALID_AT_SOURCE: _column(table, "verdict", "invalid"),
        Reason.AMBIGUOUS_STEPS: flags(table, "ambiguous_steps"),
        **_implausible(table, catalogue),
    }
    masks = [(reason.value, mask) for reason, mask in found.items() if mask.any()]
    reasons: list[list[str]] = [[] for _ in range(len(table))]
    for code, mask in masks:
        for row in np.flatnonzero(mask):
            reasons[row].append(code)
    return reasons


def _implausible(table: pd.DataFrame, catalogue: Catalogue) -> dict[Reason, Mask]:
    work = counts(table.drop(columns=["duration_s", "energy_j"]), catalogue)
    seconds, joules = table["duration_s"].to_numpy(dtype=float), table["energy_j"].to_numpy(dtype=float)
    limit_w = numbers(work, "power_limit_w") * table["gpu_count"].to_numpy(dtype=float)  # nan: unknown, nothing to say
    host_w = np.where(table["boundary"] == "gpu", 0.0, HOST_W * table["node_count"].to_numpy(dtype=float))
    flop_per_s = numbers(work, "flop_per_micro_step") * table["micro_steps"].to_numpy(dtype=float) / seconds
    return {
        Reason.POWER_ABOVE_LIMIT: joules / seconds > MOST_OF_LIMIT * limit_w + host_w,
        Reason.POWER_BELOW_IDLE: joules / seconds < LEAST_OF_LIMIT * limit_w,
        Reason.FLOP_ABOVE_PEAK: flop_per_s > MOST_OF_PEAK * numbers(work, "peak_flop_per_s"),
    }


def _column(table: pd.DataFrame, name: str, value: str) -> Mask:
    if name not in table.columns:
        return np.zeros(len(table), dtype=bool)
    return (table[name] == value).to_numpy(dtype=bool)
