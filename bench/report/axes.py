"""Axes that all figures share: logarithmic with units on the ticks, and a legend of strategies and splits."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from joulelaw.bench.report.palette import FIGURE_STYLE, LIGHT, colour, in_order, mark
from joulelaw.bench.report.quantity import tick

FIT_SIZE, HELD_OUT_SIZE = 5.0, 7.5


@contextmanager
def new_figure(
    width: float, height: float, rows: int = 1, ratios: tuple[float, ...] = (1.0,)
) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure of this many inches in the report's style, with one column of axes."""
    with mpl.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, 1, squeeze=False, sharex=rows > 1, gridspec_kw={"height_ratios": ratios})
        yield figure, list(grid[:, 0])


def logarithmic(axes: Axes, which: str, low: float, high: float, unit: str, count: int = 6) -> None:
    """Make 'x' or 'y' logarithmic from `low` to `high`, with about `count` ticks that read like '50 ms'."""
    getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(low, high)
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(FixedLocator(log_ticks(low, high, count)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value, unit)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


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


def share(function: Callable[[float], str]) -> FuncFormatter:
    """A tick formatter of one argument."""
    return FuncFormatter(lambda value, _: function(value))


def strategy_legend(axes: Axes, strategies: set[str], *, estimated: bool, splits: bool = True) -> None:
    """A mark for each strategy; open for trials that were fitted, full for those that were held out."""
    handles = [
        Line2D([], [], linestyle="", marker=mark(name), color=colour(name, estimated=estimated), label=name)
        for name in in_order(strategies)
    ]
    if splits:
        look: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgecolor": LIGHT["muted"]}
        handles.append(Line2D([], [], markersize=FIT_SIZE, markerfacecolor="none", label="fitted", **look))
        handles.append(
            Line2D([], [], markersize=HELD_OUT_SIZE, markerfacecolor=LIGHT["muted"], label="held out", **look)
        )
    axes.legend(handles=handles, loc="upper left", handletextpad=0.3, labelspacing=0.35)


def point_style(strategy: str, held_out: bool, *, estimated: bool) -> dict[str, Any]:
    """How one trial's point looks: held out full and larger, fitted open."""
    shade = colour(strategy, estimated=estimated)
    return {
        "linestyle": "",
        "marker": mark(strategy),
        "markersize": HELD_OUT_SIZE if held_out else FIT_SIZE,
        "markerfacecolor": shade if held_out else "none",
        "markeredgecolor": LIGHT["surface"] if held_out else shade,
        "markeredgewidth": 0.8 if held_out else 1.1,
        "clip_on": False,
        "zorder": 4 if held_out else 3,
    }
