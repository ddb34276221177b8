"""When a counter that moves on at regular intervals did so, found from readings that are farther apart than wanted.

Each stretch in which the counter showed one value says two things: no tick between its first and its last reading, and
a tick between its last reading and the next. If ticks are regular, each is an arc on the circle of phases, and all
arcs share the true phase once the period is right. Periods are searched by branch and bound: an interval of periods
is dropped once its arcs, widened by what the interval itself leaves open, have nothing in common.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from joulelaw.bench.energy.trace_energy import Floats

# Ticks may stray from a grid by this much, least first: what reading takes on an idle machine, on a busy one, and a
# driver whose timer is not exact.
TOLERANCES_S = (0.0001, 0.0004, 0.001, 0.003, 0.008)
PERIODS_S = (0.004, 0.5)  # NVML's counters tick every 20 to 100 ms
# A probed period is believed to be off by so little of it, then by so much. Looks that are equally far apart fit
# other periods as well, of one tick in a hundred more or less, and only the probe tells which.
PROBED_WITHIN = (0.002, 0.0045)
STRAYS = 0.05  # of a period: ticks that come so early or late have none
MOST_RANGE = 2.0  # readings that leave periods open by such a factor are not searched
NEAR_S = 0.5  # the search begins with what lies so near, and doubles it
FINEST = 0.25  # of the origins that are left: periods are not told apart more finely
MOST_BOXES = 1024
# A grid is believed when readings of ticks without one would have agreed with some grid less often than this; of a
# period that was seen before, less often than that.
CHANCE, PROBED_CHANCE = 1e-6, 1e-2


@dataclass(frozen=True)
class Runs:
    """Stretches of one value each: first and last reading that showed it (s), and the value (J)."""

    first_s: Floats
    last_s: Floats
    value_j: Floats


@dataclass(frozen=True)
class Grid:
    """Ticks at `origin_s` + n `period_s`: intervals of periods, and for each the earliest and latest origin."""

    period_s: Floats
    half_s: Floats
    earliest_s: Floats
    latest_s: Floats
    tolerance_s: float

    @property
    def width_s(self) -> Floats:
        """What is left of each interval's origins, and what readings leave open."""
        return self.latest_s - self.earliest_s + 2 * self.tolerance_s

    @property
    def step_s(self) -> float:
        return float(np.min(self.period_s - self.half_s) + np.max(self.period_s + self.half_s)) / 2

    def place(self, time_s: Floats) -> Floats:
        """Of times on the grid, in ticks from the origin."""
        return (time_s - (float(self.earliest_s.min()) + float(self.latest_s.max())) / 2) / self.step_s

    def between(self, number: Floats) -> tuple[Floats, Floats]:
        """The earliest and latest time of these ticks, in s."""
        slack = np.abs(number)[:, None] * self.half_s
        early = (self.earliest_s + number[:, None] * self.period_s - slack).min(axis=1)
        late = (self.latest_s + number[:, None] * self.period_s + slack).max(axis=1)
        return early - self.tolerance_s, late + self.tolerance_s


@dataclass(frozen=True)
class _Arcs:
    """What says where ticks lie: after `low_s`, and not after `high_s` (+ one period, where nothing moved)."""

    low_s: Floats
    high_s: Floats
    periods: Floats  # 0 or 1


def runs(time_s: Floats, counter_j: Floats) -> Runs:
    """Of readings in order of time."""
    starts = np.flatnonzero(np.append(True, counter_j[1:] != counter_j[:-1]))
    ends = np.append(starts[1:], counter_j.size) - 1
    return Runs(time_s[starts], time_s[ends], counter_j[starts])


def find_grid(shown: Runs, near_s: float, probed_s: float | None = None) -> Grid | None:
    """The grid that all of `shown` agrees with, its origin near `near_s`; None where there is none, or several.

    `probed_s` is the period as another has found it; periods near it are tried first.
    """
    if shown.first_s.size < 4:
        return None
    arcs = _arcs(shown, near_s)
    for tolerance_s in TOLERANCES_S:
        least, most = _periods(shown, tolerance_s)
        for by in PROBED_WITHIN if probed_s else ():
            low, high = (1 - by) * (probed_s or 0.0), (1 + by) * (probed_s or 0.0)
            grid = _search(arcs, (max(least, low), min(most, high)), tolerance_s, PROBED_CHANCE)
            if grid is not None and _well_inside(grid, low, high, least, most):
                return grid
        grid = _search(arcs, (least, most), tolerance_s, CHANCE) if most < MOST_RANGE * least else None
        if grid is not None:
            return grid
    return None


def _well_inside(grid: Grid, low: float, high: float, least: float, most: float) -> bool:
    """Whether no period was cut off that readings allow: only they may narrow the grid's, a probe picks one of them."""
    shortest, longest = float(np.min(grid.period_s - grid.half_s)), float(np.max(grid.period_s + grid.half_s))
    by = 1e-6 * grid.step_s
    return (low <= least or shortest > low + by) and (high >= most or longest < high - by)


def _arcs(shown: Runs, near_s: float) -> _Arcs:
    """Brackets first, the narrowest and nearest of all at their head: the search's origin lies in it."""
    low_s, high_s = shown.last_s[:-1], shown.first_s[1:]
    head = int(np.argmin((high_s - low_s) * (1 + np.abs(high_s - near_s))))
    stayed = shown.last_s > shown.first_s
    return _Arcs(
        np.concatenate([low_s[[head]], np.delete(low_s, head), shown.last_s[stayed]]),
        np.concatenate([high_s[[head]], np.delete(high_s, head), shown.first_s[stayed]]),
        np.append(np.zeros(low_s.size), np.ones(np.count_nonzero(stayed))),
    )


def _periods(shown: Runs, tolerance_s: float) -> tuple[float, float]:
    """At least the longest rest, and at most what the shortest two ticks in a row allow."""
    longest_s = float(np.max(shown.last_s - shown.first_s))
    shortest_s = float(np.min(shown.first_s[2:] - shown.last_s[:-2]))
    least = longest_s - min(2 * tolerance_s, STRAYS * longest_s)
    most = shortest_s + min(2 * tolerance_s, STRAYS * shortest_s)
    return max(PERIODS_S[0], least), min(PERIODS_S[1], most)


def _search(arcs: _Arcs, among_s: tuple[float, float], tolerance_s: float, chance: float) -> Grid | None:
    least, most = among_s
    if not least <= most:
        return None
    low_s, high_s = arcs.low_s - arcs.low_s[0], arcs.high_s - arcs.low_s[0]
    distance_s = np.maximum(np.abs(high_s), np.abs(low_s))
    reach_s, farthest_s = NEAR_S, float(distance_s.max())
    boxes = _boxes(least, most, float(high_s[0]), tolerance_s)
    while True:
        near = distance_s <= reach_s
        some = _Arcs(low_s[near], high_s[near], arcs.periods[near])
        while True:
            boxes = _shared(boxes, some, tolerance_s)
            if not 0 < boxes.half_s.size <= MOST_BOXES:
                return None
            # Until the drift over the reach no longer matters.
            coarse = boxes.half_s * min(reach_s, farthest_s) > FINEST * boxes.period_s * boxes.width_s
            if not coarse.any():
                break
            boxes = _split(boxes)
        if reach_s >= farthest_s:
            break
        reach_s *= 2
    grid = replace(boxes, earliest_s=boxes.earliest_s + arcs.low_s[0], latest_s=boxes.latest_s + arcs.low_s[0])
    drift_s = (
        float(np.max(grid.period_s + grid.half_s) - np.min(grid.period_s - grid.half_s)) * farthest_s / grid.step_s
    )
    origins_s = float(np.max(grid.latest_s) - np.min(grid.earliest_s))
    one = drift_s + origins_s < grid.step_s / 2
    return grid if one and _odds(arcs, grid.step_s, most - least, farthest_s, tolerance_s) < chance else None


def _boxes(least: float, most: float, width_s: float, tolerance_s: float) -> Grid:
    """Every period and origin, cut into pieces small enough that few arcs hold both ends of one."""
    edges = np.geomspace(least, most, 2 + math.ceil(math.log(most / least) / 0.01))
    origins = np.linspace(-tolerance_s, width_s + tolerance_s, 2 + math.ceil(4 * width_s / least))
    period, early = (each.ravel() for each in np.meshgrid((edges[1:] + edges[:-1]) / 2, origins[:-1], indexing="ij"))
    half, late = (each.ravel() for each in np.meshgrid(np.diff(edges) / 2, origins[1:], indexing="ij"))
    return Grid(period, half, early, late, tolerance_s)


def _split(boxes: Grid) -> Grid:
    """Each interval of periods in two."""
    half = boxes.half_s / 2
    period = np.concatenate([boxes.period_s - half, boxes.period_s + half])
    return replace(boxes, period_s=period, half_s=np.tile(half, 2), earliest_s=np.tile(boxes.earliest_s, 2),
                   latest_s=np.tile(boxes.latest_s, 2))  # fmt: skip


def _shared(boxes: Grid, arcs: _Arcs, tolerance_s: float) -> Grid:
    """The boxes with only those origins that lie in all arcs; boxes with none are left out."""
    period, half = boxes.period_s[:, None], boxes.half_s[:, None]
    origin = ((boxes.earliest_s + boxes.latest_s) / 2)[:, None]
    until_s = arcs.high_s + arcs.periods * (period + half)
    number = np.round(((arcs.low_s + until_s) / 2 - origin) / period)
    slack = np.abs(number) * half + tolerance_s
    early, late = arcs.low_s - number * period - slack, until_s - number * period + slack
    both_ends = late - early + boxes.width_s[:, None] >= period - half  # it may hold the origin at either of its ends
    early = np.maximum(boxes.earliest_s, np.where(both_ends, -np.inf, early).max(axis=1))
    late = np.minimum(boxes.latest_s, np.where(both_ends, np.inf, late).min(axis=1))
    alive = early <= late
    return Grid(boxes.period_s[alive], boxes.half_s[alive], early[alive], late[alive], tolerance_s)


def _odds(arcs: _Arcs, period_s: float, range_s: float, reach_s: float, tolerance_s: float) -> float:
    """How often phases at random would lie in all arcs of some period, by how long the arcs are.

    A rest and the bracket behind it speak of the same tick, so only the more telling kind of the two counts.
    """
    length_s = arcs.high_s - arcs.low_s + arcs.periods * period_s + 2 * tolerance_s
    odds = np.log(np.clip((length_s + length_s[0]) / period_s, 1e-6, 1.0))[1:]
    rests = arcs.periods[1:] == 1
    tried = 1 + range_s * reach_s / period_s / length_s[0]
    return math.exp(math.log(tried) + min(float(odds[rests].sum()), float(odds[~rests].sum())))
