"""Joules of a window from an energy counter that moves on in ticks, read more or less often than it ticks.

The counter is exact at its ticks, so the energy of a window is as well known as the ticks around its two edges
(`counter_ticks`), and as the course of power between them, which no one saw: a straight line, or one step between two
levels where the ticks on either side show nothing else.
"""

import math
from dataclasses import dataclass

import numpy as np

from joulelaw.bench.energy.counter_ticks import Ticks, all_ticks, ticks_near
from joulelaw.bench.energy.trace_energy import MAX_EXTRAPOLATION_S, SENSOR_UPDATE_S, Floats, count_inside, largest_gap_s

# How far on either side of an edge power is looked at, to judge what it may have done between two ticks.
NEIGHBOURHOOD_S = 1.0
# Beyond the ticks, power goes on as it was over the last so many seconds.
STEADY_S = 0.25
# Power is at a level where it is so near to it, as a part of its range in the neighbourhood.
LEVEL = 0.1
# And one of two levels only where these differ by so much of the power, or, where one of them is not beside the edge,
# by so much.
CLEAR, VERY_CLEAR = 0.1, 0.75
# And where the ticks are known to so small a part of their distance: power from tick to tick is no better than that.
SHARP = 0.1
# Of changes of power around an edge, the one that so many do not exceed stands for all: a step now and then is rare.
USUAL = 0.7
# What is kept for a load that swings in step with the ticks, by which neither ticks nor readings of power show it:
# so much of its power, within one tick.
UNSEEN = 0.8
# A load that swings between two powers once a tick strays from the line by an eighth of it, times the tick, at most;
# this much in terms of `sqrt(f (1 - f))`, which is 1/2 at most.
ONCE_A_TICK = 0.3


@dataclass(frozen=True)
class CounterEnergy:
    energy_j: float | None = None
    stderr_j: float | None = None
    ticks: int = 0  # inside the window
    largest_gap_s: float = math.inf  # between ticks, or from an edge to the nearest
    resets: int = 0


@dataclass(frozen=True)
class _Step:
    at_s: float
    before_w: float
    after_w: float


def counter_energy(
    time_s: Floats,
    counter_j: Floats,
    span_s: float,
    tick_s: float | None,
    trace: tuple[Floats, Floats],
    probed_s: float | None = None,
) -> CounterEnergy:
    """Energy from 0 to `span_s` of counter readings in order of time, with numbers only.

    `tick_s` is the counter's update interval where the kind of meter says it, None where it does not; `probed_s` as
    seen on this device. `trace` (times, watts; may be empty) is used for the uncertainty only. None with fewer than
    two ticks inside, after a reset, or with an edge farther than MAX_EXTRAPOLATION_S from the ticks.
    """
    falls = np.flatnonzero(counter_j[1:] < counter_j[:-1])  # between reading k and k + 1
    resets = int(np.count_nonzero((time_s[falls + 1] > 0) & (time_s[falls] < span_s)))
    if resets or not time_s.size:
        return CounterEnergy(resets=resets)
    begin = int(np.max(falls[time_s[falls + 1] <= 0] + 1, initial=0))  # only what lies between two resets
    end = int(np.min(falls[time_s[falls] >= span_s] + 1, initial=time_s.size))
    time_s, counter_j = time_s[begin:end], counter_j[begin:end]
    ticks = all_ticks(time_s, counter_j, tick_s, probed_s)
    inside = count_inside(ticks.time_s, span_s)
    if inside < 2:
        return CounterEnergy(ticks=inside)
    gap_s = largest_gap_s(ticks.time_s, span_s)
    if max(ticks.time_s[0], span_s - ticks.time_s[-1]) > MAX_EXTRAPOLATION_S:
        return CounterEnergy(ticks=inside, largest_gap_s=gap_s)
    at_begin, at_end = (
        _at(edge_s, ticks, trace)
        if tick_s is not None
        else _at(edge_s, ticks_near(edge_s, time_s, counter_j, probed_s) or ticks, trace, may_step=True)
        for edge_s in (0.0, span_s)
    )
    stderr_j = math.hypot(at_begin[1], at_end[1])
    return CounterEnergy(at_end[0] - at_begin[0], stderr_j, inside, gap_s)


def _at(edge_s: float, ticks: Ticks, trace: tuple[Floats, Floats], may_step: bool = False) -> tuple[float, float]:
    """The counter at an edge and its standard error, both in J."""
    seen_w = _looks(edge_s, trace)
    if not ticks.time_s[0] <= edge_s <= ticks.time_s[-1]:
        return _outside(edge_s, ticks, seen_w)
    right = int(np.clip(np.searchsorted(ticks.time_s, edge_s), 1, ticks.time_s.size - 1))
    first, last = np.searchsorted(ticks.time_s, [edge_s - NEIGHBOURHOOD_S, edge_s + NEIGHBOURHOOD_S])
    some = slice(max(0, min(int(first), right - 4)), max(int(last), right + 4))
    near = Ticks(ticks.time_s[some], ticks.value_j[some], ticks.width_s[some])
    here = right - 1 - some.start  # the stretch from tick `here` to the next holds the edge
    length_s = np.diff(near.time_s)
    power_w = np.diff(near.value_j) / length_s
    fraction = (edge_s - float(near.time_s[here])) / float(length_s[here])
    width_s = math.hypot((1 - fraction) * near.width_s[here], fraction * near.width_s[here + 1])
    nearest, of_w = here, float(power_w[here])
    step = _step(near, power_w, here) if may_step else None
    if step is not None:
        nearest, of_w = (here, step.before_w) if edge_s < step.at_s else (here + 1, step.after_w)
    value_j = float(near.value_j[nearest] + of_w * (edge_s - near.time_s[nearest]))
    blur_w = power_w * np.hypot(near.width_s[1:], near.width_s[:-1]) / length_s / math.sqrt(12)
    swing_w = _swing_w(power_w, blur_w, here, seen_w, step is not None)
    of_course_j = swing_w * float(length_s[here]) * math.sqrt(fraction * (1 - fraction))
    return value_j, math.hypot(float(power_w[here]) * width_s / math.sqrt(12), of_course_j)


def _outside(edge_s: float, ticks: Ticks, seen_w: Floats) -> tuple[float, float]:
    """The same beyond the first or the last tick: power goes on as it was over STEADY_S."""
    begins = edge_s < ticks.time_s[0]
    end = 0 if begins else ticks.time_s.size - 1
    to_s = ticks.time_s[end] + (STEADY_S if begins else -STEADY_S)
    other = (
        int(np.searchsorted(ticks.time_s, to_s)) if begins else int(np.searchsorted(ticks.time_s, to_s, "right")) - 1
    )
    other = min(max(other, 1), ticks.time_s.size - 1) if begins else max(0, min(other, ticks.time_s.size - 2))
    power_w = float((ticks.value_j[other] - ticks.value_j[end]) / (ticks.time_s[other] - ticks.time_s[end]))
    outside_s = abs(edge_s - float(ticks.time_s[end]))
    swing_w = max(float(np.ptp(seen_w)) if seen_w.size else 0.0, UNSEEN * power_w)
    of_ticks_j = power_w * float(ticks.width_s[end]) / math.sqrt(12)
    value_j = float(ticks.value_j[end]) + power_w * (edge_s - float(ticks.time_s[end]))
    return value_j, math.hypot(of_ticks_j, swing_w * outside_s / math.sqrt(3))


def _step(near: Ticks, power_w: Floats, here: int) -> _Step | None:
    """The one step from one level to another that a stretch holds; None where ticks around it show something else.

    The levels are those of the stretches before and after it, where these are flat; where one side is in between, as
    between two short bursts, the least or the most of the neighbourhood stands for it.
    """
    if here < 2 or here + 2 >= power_w.size:
        return None
    start_s, length_s = float(near.time_s[here]), float(near.time_s[here + 1] - near.time_s[here])
    if float(np.max(near.width_s[here - 1 : here + 3])) > SHARP * length_s:
        return None
    level_w, least_w, most_w = float(power_w[here]), float(power_w.min()), float(power_w.max())
    sides = ((here - 1, here - 2), (here + 1, here + 2))
    flat = [abs(power_w[one] - power_w[other]) <= LEVEL * (most_w - least_w) for one, other in sides]
    before_w, after_w = float(power_w[here - 1]), float(power_w[here + 1])
    if not any(flat) or most_w - least_w < (CLEAR if all(flat) else VERY_CLEAR) * level_w:
        return None
    if not all(flat):
        known_w = before_w if flat[0] else after_w
        other_w = least_w if known_w > (least_w + most_w) / 2 else most_w
        before_w, after_w = (known_w, other_w) if flat[0] else (other_w, known_w)
    if not min(before_w, after_w) < level_w < max(before_w, after_w):
        return None
    return _Step(start_s + length_s * (level_w - after_w) / (before_w - after_w), before_w, after_w)


def _swing_w(power_w: Floats, blur_w: Floats, here: int, seen_w: Floats, stepped: bool) -> float:
    """How unevenly power may have run within one stretch, in W.

    Energy that was used in one go at any moment of a stretch of length L strays from the line by the excess power
    times L sqrt(f (1 - f)), as a draw with odds f does. The excess is that over the neighbours, or the usual one from
    stretch to stretch (USUAL: a step now and then is no habit), or what readings of power show beside it.
    """
    changes_w = np.sqrt(np.maximum(0.0, np.diff(power_w) ** 2 - blur_w[1:] ** 2 - blur_w[:-1] ** 2))
    beside_w = changes_w[max(0, here - 1) : here + 1]
    usual_w = float(np.quantile(changes_w, USUAL)) if changes_w.size else 0.0
    shown_w = ONCE_A_TICK * float(np.quantile(np.abs(np.diff(seen_w)), USUAL)) if seen_w.size > 1 else 0.0
    beside = float(np.max(beside_w, initial=0.0)) * (0.5 if stepped else 1.0)
    return max(beside, usual_w, shown_w, ONCE_A_TICK * UNSEEN * float(power_w[here]))


def _looks(edge_s: float, trace: tuple[Floats, Floats]) -> Floats:
    """Readings of power around an edge, one for every update of a slow sensor."""
    time_s, power_w = trace
    at_s = edge_s + np.arange(-NEIGHBOURHOOD_S, NEIGHBOURHOOD_S, SENSOR_UPDATE_S)
    number = np.searchsorted(time_s, at_s, side="right") - 1
    return power_w[number[number >= 0]]
