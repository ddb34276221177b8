"""A figure as data: axes with their ticks, points that are trials, lines, bars of shares.

One description has two readers, so that both show the same: matplotlib draws it for papers (`paper`), the page's script
for the screen.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from joulelaw.bench.report.palette import in_order
from joulelaw.bench.report.quantity import tick

DIGITS = 5  # finer than any screen or paper


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, logarithmic or not, with labelled ticks; `unit` is that of the values ("1": none)."""

    label: str
    unit: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = True


@dataclass(frozen=True)
class Points:
    """Trials as points. `trial` is each one's place in the table of trials; `low` and `high` are vertical intervals."""

    trial: tuple[int, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    strategy: tuple[str, ...]
    held_out: tuple[bool, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Line:
    """A guide through the figure, or what a strategy or a GPU model does; it goes where these are filtered out."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str = ""
    strategy: str = ""
    gpu: str = ""
    dash: int = 0  # of four patterns: tells apart what has no colour of its own


@dataclass(frozen=True)
class Chart:
    """A scatter with lines. `name` is its file's, `meter` which meter its joules are by (empty: no joules in it)."""

    name: str
    title: str
    caption: str
    alt: str
    x: Axis
    y: Axis
    points: Points
    lines: tuple[Line, ...] = ()
    meter: str = ""
    estimated: bool = False
    splits: bool = False  # whether fitted and held-out trials are told apart
    square: bool = False

    def plain(self) -> dict[str, Any]:
        """As the page's script reads it."""
        points = self.points
        return {
            "name": self.name,
            "title": self.title,
            "alt": self.alt,
            "estimated": self.estimated,
            "splits": self.splits,
            "square": self.square,
            "x": _axis(self.x),
            "y": _axis(self.y),
            "points": {
                "trial": list(points.trial),
                "held": [int(each) for each in points.held_out],
                **{name: rounded(getattr(points, name)) for name in ("x", "y", "low", "high")},
            },
            "lines": [{**vars(line), "x": rounded(line.x), "y": rounded(line.y)} for line in self.lines],
        }


@dataclass(frozen=True)
class Group:
    """Trials of one device model, strategy and number of devices, and the mean share of each part among them."""

    label: str
    gpu: str
    strategy: str
    count: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Bars:
    """A bar of shares for each group of trials, and those of each trial (by its place in the table)."""

    name: str
    title: str
    caption: str
    alt: str
    parts: tuple[tuple[str, str], ...]  # name and meaning
    groups: tuple[Group, ...]
    trials: tuple[tuple[int, tuple[float, ...]], ...]
    meter: str = ""
    estimated: bool = False

    def plain(self) -> dict[str, Any]:
        """As the page's script reads it; shares of trials in thousandths."""
        return {
            "name": self.name,
            "alt": self.alt,
            "estimated": self.estimated,
            "parts": [list(part) for part in self.parts],
            "groups": [{**vars(group), "shares": rounded(group.shares)} for group in self.groups],
            "trials": {str(trial): [round(1000 * share) for share in shares] for trial, shares in self.trials},
        }


def log_axis(label: str, unit: str, low: float, high: float, count: int = 6) -> Axis:
    """With about `count` ticks that read like '50 ms', or without the unit where the label has it."""
    shown = "1" if label.endswith(f", {unit}") else unit
    return Axis(label, unit, low, high, tuple((value, tick(value, shown)) for value in log_ticks(low, high, count)))


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between `low` and `high`: 1, 2, 5 of each decade, or 1 alone, or every other decade, ...

    >>> log_ticks(0.8, 30, 6)
    [1.0, 2.0, 5.0, 10.0, 20.0]
    >>> log_ticks(0.8, 30000, 6)
    [1.0, 10.0, 100.0, 1000.0, 10000.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices: list[tuple[tuple[int, ...], int]] = [
        ((1, 2, 5), 1),
        ((1, 3), 1),
        *(((1,), every) for every in range(1, 30)),
    ]
    for digits, every in choices:
        ticks = [float(f"{digit}e{decade}") for decade in decades[::every] for digit in digits]
        inside = [value for value in ticks if low <= value <= high]
        if len(inside) <= count:
            return inside
    return []


def parts_of(points: Points) -> list[tuple[str, bool, list[int]]]:
    """Strategy, whether held out, and places among the points; held-out ones last, so that they lie on top."""
    rows = pd.DataFrame({"strategy": points.strategy, "held": points.held_out})
    return [
        (strategy, held_out, at)
        for held_out in (False, True)
        for strategy in in_order(set(points.strategy))
        if (at := list(rows.index[(rows["held"] == held_out) & (rows["strategy"] == strategy)]))
    ]


def rounded(values: Sequence[float]) -> list[float]:
    """To as many digits as anybody sees; whole numbers without a point."""
    short = (float(f"{value:.{DIGITS}g}") for value in values)
    return [int(value) if value.is_integer() and abs(value) < 1e15 else value for value in short]


def _axis(axis: Axis) -> dict[str, Any]:
    low, high = rounded((axis.low, axis.high))
    ticks = [[value, text] for value, text in zip(rounded([t[0] for t in axis.ticks]), [t[1] for t in axis.ticks],
                                                 strict=True)]  # fmt: skip
    return {"label": axis.label, "unit": axis.unit, "log": axis.log, "low": low, "high": high, "ticks": ticks}
