"""The ticks of an energy counter around a time: on a regular grid where readings agree with one, else in brackets."""

from dataclasses import dataclass

import numpy as np

from joulelaw.bench.energy.tick_grid import Grid, Runs, find_grid, runs
from joulelaw.bench.energy.trace_energy import Floats, those

# How far around a time readings must agree with a grid: three bursts of close readings on either side of it, or one
# where a reading that came late, farther away, agrees with none.
REACHES_S = (6.0, 2.5)
# A tick as probed is a little too short at times: brackets are narrowed to somewhat more than it.
PROBED_SPARE = 1.02


@dataclass(frozen=True)
class Ticks:
    """When the counter moved on (s, the middle), to which value (J), and how long before or after that may be (s)."""

    time_s: Floats
    value_j: Floats
    width_s: Floats  # of the whole interval


def all_ticks(time_s: Floats, counter_j: Floats, tick_s: float | None, probed_s: float | None = None) -> Ticks:
    """A tick shows in the first reading after it, and lies between that and the reading before; the middle is taken.

    Where the tick is known to be short, a value that stayed is news as well.
    """
    since_s = np.diff(time_s)
    longest_s = probed_s * PROBED_SPARE if tick_s is None and probed_s else tick_s
    width_s = since_s if longest_s is None else np.minimum(since_s, longest_s)
    is_news = counter_j[1:] > counter_j[:-1]
    if tick_s is not None:
        is_news |= since_s > tick_s
    is_news &= since_s > 0
    return Ticks(*those(is_news, time_s[1:] - width_s / 2, counter_j[1:], width_s))


def ticks_near(edge_s: float, time_s: Floats, counter_j: Floats, probed_s: float | None) -> Ticks | None:
    """Ticks around an edge by the grid that the readings agree with; None where there is no such grid."""
    for reach_s in REACHES_S:
        some = slice(*np.searchsorted(time_s, [edge_s - reach_s, edge_s + reach_s]))
        if not time_s[some].size:
            return None
        shown = runs(time_s[some], counter_j[some])
        grid = find_grid(shown, edge_s, probed_s)
        if grid is not None:
            return _on_grid(shown, grid)
    return None


def _on_grid(shown: Runs, grid: Grid) -> Ticks | None:
    """Each value with its tick: the one in its bracket, or the last of several. Where that is not certain, none."""
    low_s, high_s = shown.last_s[:-1], shown.first_s[1:]
    number = np.floor(grid.place(high_s))
    early, late = grid.between(number)
    next_early, _ = grid.between(number + 1)
    # Of a bracket that holds one tick alone, the tick may be nearer to its end than the grid is known.
    one = high_s - low_s < grid.step_s / 2
    number = np.where(one, np.round(grid.place((low_s + high_s) / 2)), number)
    early, late = np.where(one, grid.between(number), (early, late))
    certain = one | ((late <= high_s) & (next_early > high_s))
    early, late = np.maximum(early, low_s), np.minimum(late, high_s)
    certain &= late >= early
    time_s, width_s, value_j = those(certain, (early + late) / 2, late - early, shown.value_j[1:])
    return Ticks(time_s, value_j, width_s) if time_s.size > 1 else None
