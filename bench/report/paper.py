"""Figures for papers: a chart or bars drawn by matplotlib, in light colours, saved as PNG and SVG."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from joulelaw.bench.report.charts import Axis, Bars, Chart, parts_of
from joulelaw.bench.report.palette import FIGURE_STYLE, LIGHT, colour, in_order, mark, part_shade

FIT_SIZE, HELD_OUT_SIZE = 5.0, 7.5
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")
_WIDTH = 6.6


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `<name>.png` and `<name>.svg`, the same bytes for the same figure."""
    folder.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(FIGURE_STYLE):
        figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # laid out once: for the PNG it would come out the same
        figure.savefig(folder / f"{name}.png", dpi=200, metadata={"Software": None})


def drawn(chart: Chart) -> Figure:
    """A scatter with lines; fitted trials open where the held-out ones are told apart."""
    with new_figure(_WIDTH, 5.9 if chart.square else 4.4) as (figure, (axes,)):
        _axis(axes, "x", chart.x)
        _axis(axes, "y", chart.y)
        if chart.square:
            axes.set_aspect("equal")
        if not chart.x.log:
            axes.grid(axis="x", visible=False)
        labels = _lines(axes, chart)
        points = chart.points
        for strategy, held_out, at in parts_of(points):
            full = held_out or not chart.splits
            shade = colour(strategy, estimated=chart.estimated)
            x, y = ([values[k] for k in at] for values in (points.x, points.y))
            if held_out and points.low:
                axes.vlines(x, [points.low[k] for k in at], [points.high[k] for k in at], color=shade, linewidth=1.2,
                            alpha=0.55, zorder=2)  # fmt: skip
            axes.plot(x, y, **_point(strategy, full, shade))
        axes.set_title("\n".join(filter(None, (chart.title, chart.meter))), fontsize=10.0)
        _legend(axes, chart, labels)
    return figure


def stacked(bars: Bars) -> Figure:
    """A bar of shares for each group, from 0 to 100 %."""
    count = len(bars.groups)
    with new_figure(_WIDTH, 1.6 + 0.24 * count) as (figure, (axes,)):
        left = [0.0] * count
        for place, (part, _) in enumerate(bars.parts):
            widths = [100 * group.shares[place] for group in bars.groups]
            shade, opacity = part_shade(part, place, estimated=bars.estimated)
            axes.barh(range(count), widths, left=left, height=0.74, color=shade, alpha=opacity,
                      edgecolor=LIGHT["surface"], linewidth=0.8, label=part)  # fmt: skip
            left = [begin + width for begin, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(count), labels=[f"{group.label}  ({group.count})" for group in bars.groups])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("share of the forecast, %; in brackets the number of trials")
        axes.set_title("\n".join(filter(None, (bars.title, bars.meter))), fontsize=10.0)
        handles = [
            Patch(color=part_shade(part, place, estimated=bars.estimated)[0],
                  alpha=part_shade(part, place, estimated=bars.estimated)[1], label=part)
            for place, (part, _) in enumerate(bars.parts)
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 7), handlelength=1.0,
                      columnspacing=1.2)  # fmt: skip
    return figure


@contextmanager
def new_figure(
    width: float, height: float, rows: int = 1, ratios: tuple[float, ...] = (1.0,)
) -> "Iterator[tuple[Figure, list[Axes]]]":
    """A figure of this many inches in the report's style, with one column of axes."""
    with mpl.rc_context(FIGURE_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, 1, squeeze=False, sharex=rows > 1, gridspec_kw={"height_ratios": ratios})
        yield figure, list(grid[:, 0])


def _axis(axes: Axes, which: str, axis: Axis) -> None:
    if axis.log:
        getattr(axes, f"set_{which}scale")("log")
    getattr(axes, f"set_{which}lim")(axis.low, axis.high)
    own = getattr(axes, f"{which}axis")
    texts = dict(axis.ticks)
    own.set_major_locator(FixedLocator([value for value, _ in axis.ticks]))
    own.set_major_formatter(FuncFormatter(lambda value, _: texts.get(value, "")))
    own.set_minor_locator(NullLocator())
    own.set_minor_formatter(NullFormatter())
    own.set_label_text(axis.label)


def _lines(axes: Axes, chart: Chart) -> list[Line2D]:
    """Draws them; returns those that the legend has to tell."""
    told = []
    for line in chart.lines:
        shade = colour(line.strategy, estimated=chart.estimated) if line.strategy else LIGHT["muted"]
        look: dict[str, Any] = {
            "color": shade,
            "linewidth": 1.5 if line.strategy else 1.2,
            "linestyle": DASHES[line.dash],
        }
        axes.plot(line.x, line.y, zorder=1.5 if line.strategy else 1, **look)
        if line.label and not line.strategy:
            told.append(Line2D([], [], label=line.label, **look))
    models = {line.gpu: line.dash for line in chart.lines if line.strategy}
    if len(models) > 1:  # a pattern is a GPU model
        told += [
            Line2D([], [], color=LIGHT["muted"], linestyle=DASHES[dash], label=gpu) for gpu, dash in models.items()
        ]
    return told


def _point(strategy: str, full: bool, shade: str) -> dict[str, Any]:
    return {
        "linestyle": "",
        "marker": mark(strategy),
        "markersize": HELD_OUT_SIZE if full else FIT_SIZE,
        "markerfacecolor": shade if full else "none",
        "markeredgecolor": LIGHT["surface"] if full else shade,
        "markeredgewidth": 0.8 if full else 1.1,
        "clip_on": False,
        "zorder": 4 if full else 3,
    }


def _legend(axes: Axes, chart: Chart, lines: list[Line2D]) -> None:
    """Below the axes: a mark for each strategy; open for trials that were fitted, full for those held out."""
    handles = [
        Line2D([], [], linestyle="", marker=mark(name), color=colour(name, estimated=chart.estimated), label=name)
        for name in in_order(set(chart.points.strategy))
    ]
    if chart.splits:
        look: dict[str, Any] = {"linestyle": "", "marker": "o", "markeredgecolor": LIGHT["muted"]}
        handles.append(Line2D([], [], markersize=FIT_SIZE, markerfacecolor="none", label="fitted", **look))
        full = Line2D([], [], markersize=HELD_OUT_SIZE, markerfacecolor=LIGHT["muted"], label="held out", **look)
        handles.append(full)
    handles += lines
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    columns = 3 if any(len(str(handle.get_label())) > 24 for handle in handles) else 5
    if any(len(str(handle.get_label())) > 34 for handle in handles):
        columns = 2
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), columns), handletextpad=0.4,
                  columnspacing=1.4)  # fmt: skip
