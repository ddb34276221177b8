"""Joules of a window from an energy counter that moves on in ticks, read more or less often than it ticks.

A tick shows only in the first reading after it, so it lies between that reading and the one before; the middle is
taken. The counter's value at an edge of the window is read off the straight line between the ticks around it.
"""

import math
from dataclasses import dataclass

import numpy as np

from joulelaw.bench.trace_energy import MAX_EXTRAPOLATION_S, Floats, count_inside, largest_gap_s, those

# How far on either side of an edge the swing of power is looked for, which bounds what interpolation can miss.
NEIGHBOURHOOD_S = 1.0


@dataclass(frozen=True)
class CounterEnergy:
    energy_j: float | None = None
    stderr_j: float | None = None
    ticks: int = 0  # inside the window
    largest_gap_s: float = math.inf  # between ticks, or from an edge to the nearest
    resets: int = 0


@dataclass(frozen=True)
class _Ticks:
    """When the counter moved on (s), to which value (J), and how long before its reading that may have been (s)."""

    time_s: Floats
    value_j: Floats
    width_s: Floats


def counter_energy(
    time_s: Floats, counter_j: Floats, span_s: float, tick_s: float | None, trace: tuple[Floats, Floats]
) -> CounterEnergy:
    """Energy from 0 to `span_s` of counter readings in order of time, with numbers only.

    `tick_s` is the counter's update interval, None where unknown. `trace` (times, watts; may be empty) is used for
    the uncertainty only. None with fewer than two ticks inside, after a reset, or with an edge farther than
    MAX_EXTRAPOLATION_S from the ticks.
    """
    falls = np.flatnonzero(counter_j[1:] < counter_j[:-1])  # between reading k and k + 1
    resets = int(np.count_nonzero((time_s[falls + 1] > 0) & (time_s[falls] < span_s)))
    if resets or not time_s.size:
        return CounterEnergy(resets=resets)
    begin = int(np.max(falls[time_s[falls + 1] <= 0] + 1, initial=0))  # only what lies between two resets
    end = int(np.min(falls[time_s[falls] >= span_s] + 1, initial=time_s.size))
    ticks = _ticks(time_s[begin:end], counter_j[begin:end], tick_s)
    inside = count_inside(ticks.time_s, span_s)
    if inside < 2:
        return CounterEnergy(ticks=inside)
    gap_s = largest_gap_s(ticks.time_s, span_s)
    if max(ticks.time_s[0], span_s - ticks.time_s[-1]) > MAX_EXTRAPOLATION_S:
        return CounterEnergy(ticks=inside, largest_gap_s=gap_s)
    at_begin, at_end = (_at(edge_s, ticks, trace) for edge_s in (0.0, span_s))
    stderr_j = math.hypot(at_begin[1], at_end[1])
    return CounterEnergy(at_end[0] - at_begin[0], stderr_j, inside, gap_s)


def _ticks(time_s: Floats, counter_j: Floats, tick_s: float | None) -> _Ticks:
    """The first reading of each new value; where the tick is known and short, a value that stayed is news as well."""
    since_s = np.diff(time_s)
    width_s = since_s if tick_s is None else np.minimum(since_s, tick_s)
    is_news = counter_j[1:] > counter_j[:-1]
    if tick_s is not None:
        is_news |= since_s > tick_s
    is_news &= since_s > 0
    return _Ticks(*those(is_news, time_s[1:] - width_s / 2, counter_j[1:], width_s))


def _at(edge_s: float, ticks: _Ticks, trace: tuple[Floats, Floats]) -> tuple[float, float]:
    """The counter at an edge and its standard error, both in J.

    The error is that of the two ticks' times (uniform in their widths), and of the line between them: power that
    swings by dP departs from the mean by at most dP f (1 - f) dt at the fraction f of the way.
    """
    right = int(np.clip(np.searchsorted(ticks.time_s, edge_s), 1, ticks.time_s.size - 1))
    left = right - 1
    length_s = ticks.time_s[right] - ticks.time_s[left]
    power_w = (ticks.value_j[right] - ticks.value_j[left]) / length_s
    fraction = (edge_s - ticks.time_s[left]) / length_s
    value_j = ticks.value_j[left] + power_w * (edge_s - ticks.time_s[left])
    of_ticks_j = power_w * math.hypot((1 - fraction) * ticks.width_s[left], fraction * ticks.width_s[right])
    outside_s = max(0.0, -fraction, fraction - 1) * length_s
    strayed_s = max(0.0, fraction * (1 - fraction)) * length_s + outside_s
    of_line_j = _swing_w(edge_s, ticks, trace) * strayed_s
    return float(value_j), math.hypot(float(of_ticks_j) / math.sqrt(12), float(of_line_j) / math.sqrt(3))


def _swing_w(edge_s: float, ticks: _Ticks, trace: tuple[Floats, Floats]) -> float:
    """Largest less smallest power near an edge: of the readings, or from tick to tick where there are none."""
    time_s, power_w = trace
    if not time_s.size:
        time_s = (ticks.time_s[1:] + ticks.time_s[:-1]) / 2
        power_w = np.diff(ticks.value_j) / np.diff(ticks.time_s)
    reach_s = 2 * NEIGHBOURHOOD_S  # so that only a few need a look
    some = slice(*np.searchsorted(time_s, [edge_s - reach_s, edge_s + reach_s]))
    near = power_w[some][np.abs(time_s[some] - edge_s) <= NEIGHBOURHOOD_S]
    return float(np.ptp(near)) if near.size else 0.0
