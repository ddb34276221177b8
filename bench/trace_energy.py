"""Joules of a window from readings of power: each reading holds from its own time until the next one.

Joining readings by straight lines, or dropping repeated ones first, loses up to half the energy of a square wave.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# An edge of the window may lie this far outside the readings, where power is taken to go on as it was: a process may
# end with its window, before the next reading. Farther out is guessing.
MAX_EXTRAPOLATION_S = 0.5
# A value that stays the same for longer is a steady power; for less it may be a sensor that has not looked again yet
# (A100, H100: every 100 ms, arXiv 2312.02741).
SENSOR_UPDATE_S = 0.1


@dataclass(frozen=True)
class TraceEnergy:
    energy_j: float | None = None
    stderr_j: float | None = None
    largest_gap_s: float = math.inf  # between readings, or from an edge to the nearest


def trace_energy(time_s: Floats, power_w: Floats, span_s: float) -> TraceEnergy:
    """Energy from 0 to `span_s` of readings in order of time, with numbers only.

    None with fewer than two readings inside, or with an edge farther than MAX_EXTRAPOLATION_S from the readings.
    """
    if count_inside(time_s, span_s) < 2:
        return TraceEnergy()
    first = max(0, int(np.searchsorted(time_s, 0.0, side="right")) - 1)  # the reading that holds at 0
    last = max(first + 1, int(np.searchsorted(time_s, span_s, side="left")))  # the first that holds after the window
    gap_s = largest_gap_s(time_s, span_s)
    if max(time_s[first], span_s - time_s[-1]) > MAX_EXTRAPOLATION_S:
        return TraceEnergy(largest_gap_s=gap_s)
    watts = power_w[first:last]
    held_s = np.diff(time_s[first + 1 : last], prepend=0.0, append=span_s)
    return TraceEnergy(float(watts @ held_s), _stderr_j(watts, held_s), gap_s)


def _stderr_j(watts: Floats, held_s: Floats) -> float:
    """Each value stands for its stretch as one random sample of it, and neighbours' differences show the scatter.

    The difference of two samples has twice their variance (von Neumann 1941). Steps that beat with the sensor (a step
    time near a multiple of its update) are not random, and not covered.
    """
    changes = watts[1:] != watts[:-1]
    if changes.all():  # each reading is a run of its own: the same, in a third of the time
        return float(np.sqrt(np.sum((np.diff(watts) * held_s[1:]) ** 2) / 2))
    starts = np.flatnonzero(np.append(True, changes))
    runs_s = np.add.reduceat(held_s, starts)
    sampled_s = np.maximum(SENSOR_UPDATE_S, held_s[starts])
    np.minimum(runs_s, sampled_s, out=sampled_s)
    return float(np.sqrt(np.sum((np.diff(watts[starts]) * sampled_s[1:]) ** 2) / 2))


def largest_gap_s(time_s: Floats, span_s: float) -> float:
    """The longest stretch without news that touches the window: between times, or from an edge to the nearest time."""
    first = int(np.searchsorted(time_s, 0.0, side="right"))  # the first after the window's begin
    last = int(np.searchsorted(time_s, span_s, side="left"))  # the first not before its end
    before = time_s[first - 1 : first] if first else [0.0]
    after = time_s[last : last + 1] if last < time_s.size else [span_s]
    return float(np.max(np.diff(time_s[first:last], prepend=before, append=after)))


def count_inside(time_s: Floats, span_s: float) -> int:
    """How many of these times in order lie in the window, edges included."""
    return int(np.searchsorted(time_s, span_s, side="right") - np.searchsorted(time_s, 0.0, side="left"))


def those(mask: npt.NDArray[np.bool_], *arrays: Floats) -> tuple[Floats, ...]:
    """Where the mask is true; the arrays themselves where it is true everywhere: millions are not copied in vain."""
    return arrays if mask.all() else tuple(values[mask] for values in arrays)
