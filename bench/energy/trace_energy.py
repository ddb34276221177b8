"""Joules of a window from readings of power: each reading holds from its own time until the next one.

Joining readings by straight lines, or dropping repeated ones first, loses up to half the energy of a square wave.

A reading tells of the past: a sensor that looks every U seconds at the mean of the last W, read every R, is behind by
(U + W + R) / 2 on average, and the trace is integrated so much later than the window. What a sensor does not look at,
1 - W / U of the time, no length of a window brings back where the load runs in step with the sensor: the trace is then
as calm as that of a steady load. See `_unseen_w` for what is stated of it.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.cluster.power.sensor import Sensor

Floats = npt.NDArray[np.float64]
# An edge of the window may lie this far outside the readings, where power is taken to go on as it was: a process may
# end with its window, before the next reading. Farther out is guessing.
MAX_EXTRAPOLATION_S = 0.5
# A value that stays the same for longer is a steady power; for less it may be a sensor that has not looked again yet
# (A100, H100: every 100 ms, arXiv 2312.02741).
SENSOR_UPDATE_S = 0.1
# Readings that scatter by so much of their mean from look to look see the load at all of its phases.
MIXED = 0.3
# Readings that differ by less than this of their mean are one value; so few values are not all phases of a load.
ALIKE, FEW = 0.02, 4


@dataclass(frozen=True)
class TraceEnergy:
    energy_j: float | None = None
    stderr_j: float | None = None
    largest_gap_s: float = math.inf  # between readings, or from an edge to the nearest


def trace_energy(
    time_s: Floats,
    power_w: Floats,
    span_s: float,
    sensor: Sensor | None = None,
    limits_w: tuple[float, float | None] = (0.0, None),
) -> TraceEnergy:
    """Energy from 0 to `span_s` of readings in order of time, with numbers only.

    `limits_w` is what the device draws at least and at most, None where unknown. Nothing is known of a lag or of
    unseen time without a `sensor`. None with fewer than two readings inside, or with an edge farther than
    MAX_EXTRAPOLATION_S from the readings.
    """
    if count_inside(time_s, span_s) < 2:
        return TraceEnergy()
    begin = max(0, int(np.searchsorted(time_s, 0.0, side="right")) - 1)  # the reading that holds at 0
    gap_s = largest_gap_s(time_s, span_s)
    if max(time_s[begin], span_s - time_s[-1]) > MAX_EXTRAPOLATION_S:
        return TraceEnergy(largest_gap_s=gap_s)
    lag_s = _lag_s(time_s, span_s, sensor)
    time_s = time_s - lag_s if lag_s else time_s
    first = max(0, int(np.searchsorted(time_s, 0.0, side="right")) - 1)
    last = max(first + 1, int(np.searchsorted(time_s, span_s, side="left")))  # the first that holds after the window
    watts = power_w[first:last]
    held_s = np.diff(time_s[first + 1 : last], prepend=0.0, append=span_s)
    energy_j, variance = float(watts @ held_s), _scatter_j(watts, held_s, sensor) ** 2
    if sensor is not None:
        seen_w = (float(power_w.min()), float(power_w.max()))
        between_w = min(limits_w[0], seen_w[0]), max(limits_w[1] or 0.0, seen_w[1])
        variance += (_unseen_w(watts, energy_j / span_s, between_w, sensor) * span_s) ** 2
        variance += sum(_edge_j(at_s, time_s, power_w, energy_j / span_s, sensor) ** 2 for at_s in (0.0, span_s))
    return TraceEnergy(energy_j, math.sqrt(variance), gap_s)


def _lag_s(time_s: Floats, span_s: float, sensor: Sensor | None) -> float:
    """By how much the trace is behind, see above; not by more than readings after the window can tell."""
    if sensor is None or sensor.power_averaged_s is None:
        return 0.0
    some = time_s[np.searchsorted(time_s, 0.0) : np.searchsorted(time_s, min(span_s, 10.0), side="right")]
    read_s = np.diff(some)
    # The usual wait of a moment drawn at random: bursts of close readings count by their length.
    every_s = float(np.sum(read_s**2) / np.sum(read_s)) if read_s.size else 0.0
    lag_s = (sensor.power_averaged_s + (sensor.power_update_s or SENSOR_UPDATE_S) + every_s) / 2
    return max(0.0, min(lag_s, float(time_s[-1]) - span_s + MAX_EXTRAPOLATION_S))


def _scatter_j(watts: Floats, held_s: Floats, sensor: Sensor | None) -> float:
    """Each value stands for its stretch as one random sample of it, and neighbours' differences show the scatter.

    The difference of two samples has twice their variance (von Neumann 1941), whatever slow course they follow.
    """
    update_s = SENSOR_UPDATE_S if sensor is None or not sensor.power_update_s else sensor.power_update_s
    changes = watts[1:] != watts[:-1]
    if changes.all():  # each reading is a run of its own: the same, in a third of the time
        return float(np.sqrt(np.sum((np.diff(watts) * held_s[1:]) ** 2) / 2))
    starts = np.flatnonzero(np.append(True, changes))
    runs_s = np.add.reduceat(held_s, starts)
    sampled_s = np.maximum(update_s, held_s[starts])
    np.minimum(runs_s, sampled_s, out=sampled_s)
    return float(np.sqrt(np.sum((np.diff(watts[starts]) * sampled_s[1:]) ** 2) / 2))


def _unseen_w(watts: Floats, mean_w: float, between_w: tuple[float, float], sensor: Sensor) -> float:
    """The standard error of the mean power (W) for the time that the sensor does not look.

    In that time a load in step with the sensor may draw anything that the device can, evenly between its least and
    its most, for all the trace tells: a deviation of sqrt((most - least)^2 / 12 + (middle - mean)^2), times the part
    of the time. A load that is out of step moves the trace from look to look, and is sampled fairly (`_scatter_j`):
    the more of this is seen, the less is kept of the bound, and nothing from MIXED of the mean power on. Slow beats of
    the load with the sensor move the trace seldom, and keep theirs; so does a trace that goes to and fro between a few
    values, as it does where some looks and some periods of the load are equally long.
    """
    averaged_s, update_s = sensor.power_averaged_s, sensor.power_update_s or SENSOR_UPDATE_S
    unseen = 0.0 if averaged_s is None else max(0.0, 1 - averaged_s / update_s)
    if not unseen or mean_w <= 0:
        return 0.0
    looks = watts[np.flatnonzero(np.append(True, watts[1:] != watts[:-1]))]
    moves = np.diff(looks)
    runs = max(1.0, watts.size / 2)
    scatter_w = math.sqrt(float(moves @ moves) / 2 / max(moves.size, runs))
    levels = np.unique(np.round(looks / (ALIKE * mean_w))).size
    calm = max(0.0, 1 - scatter_w / (MIXED * mean_w)) if levels > FEW else 1.0
    least_w, most_w = between_w
    return calm * unseen * math.hypot((most_w - least_w) / math.sqrt(12), (most_w + least_w) / 2 - mean_w)


def _edge_j(edge_s: float, time_s: Floats, power_w: Floats, mean_w: float, sensor: Sensor) -> float:
    """What an average over W, or a look every U, leaves open at an edge, in J.

    A step in the middle of an average is off by an eighth of its size times W; looks in between add to it. Where the
    trace shows none, the load may swing by most of its power within one look.
    """
    blur_s = max(sensor.power_averaged_s or 0.0, sensor.power_update_s or SENSOR_UPDATE_S)
    near = power_w[slice(*np.searchsorted(time_s, [edge_s - blur_s, edge_s + blur_s]))]
    swing_w = float(np.ptp(near)) if near.size else 0.0
    look_s = min(blur_s, sensor.power_update_s or SENSOR_UPDATE_S)
    return max(swing_w * blur_s / 6, mean_w * look_s / 8)


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
