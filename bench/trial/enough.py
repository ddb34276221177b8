"""How well a window knows its energy per step so far: what decides how long it goes on. Pure functions.

Two parts: the random part of the joules (edges between ticks or readings), and how much steps vary, told from the
means of successive batches of them, so that slow swings count for what they are.
"""

import math
import statistics
from collections.abc import Sequence

from scipy.special import stdtrit

BATCHES = 20
# With fewer steps their scatter says nothing.
LEAST_STEPS = 5
_NORMAL_95 = 1.959964


def half_width(energy_j: float, stderr_j: float, step_s: Sequence[float]) -> float | None:
    """Half of the 95 % interval of the energy per step, as a share of it; None where too little is known yet."""
    if energy_j <= 0 or len(step_s) < LEAST_STEPS:
        return None
    batches = _batch_means(step_s)
    mean_s = statistics.fmean(batches)
    if mean_s <= 0:
        return None
    repeat = statistics.stdev(batches) / math.sqrt(len(batches)) / mean_s
    return math.hypot(_NORMAL_95 * stderr_j / energy_j, float(stdtrit(len(batches) - 1, 0.975)) * repeat)


def _batch_means(step_s: Sequence[float]) -> list[float]:
    """Of at most `BATCHES` successive batches of equal size; the first steps that are left over are left out."""
    size = math.ceil(len(step_s) / BATCHES)
    count = len(step_s) // size
    rest = step_s[len(step_s) - count * size :]
    return [statistics.fmean(rest[k * size : (k + 1) * size]) for k in range(count)]
