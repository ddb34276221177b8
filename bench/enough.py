"""How well a window knows its energy per step so far: what decides how long it goes on. Pure functions.

Two parts: the random part of the joules (edges between ticks or readings), and how much steps vary, told from the
means of successive batches of them, so that slow swings count for what they are.
"""

import math
import statistics
from collections.abc import Sequence

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
    return math.hypot(_NORMAL_95 * stderr_j / energy_j, student_95(len(batches) - 1) * repeat)


def student_95(freedom: int) -> float:
    """The two-sided 95 % quantile of Student's t, from the normal one (Abramowitz and Stegun 26.7.5).

    >>> [round(student_95(freedom), 2) for freedom in (9, 19, 1000)]
    [2.26, 2.09, 1.96]
    """
    z = _NORMAL_95
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _batch_means(step_s: Sequence[float]) -> list[float]:
    """Of at most `BATCHES` successive batches of equal size; the first steps that are left over are left out."""
    size = math.ceil(len(step_s) / BATCHES)
    count = len(step_s) // size
    rest = step_s[len(step_s) - count * size :]
    return [statistics.fmean(rest[k * size : (k + 1) * size]) for k in range(count)]
