"""A recommendation's candidates as tables for people: what each is, what it costs with its interval, how sure."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.markup import escape
from rich.table import Table

from joulelaw.bench.console import number, table
from joulelaw.bench.forecast.units import unit_of
from joulelaw.bench.recommend.odds import COSTS
from joulelaw.bench.recommend.ranking import Recommendation

NOUNS = {"energy": "energy", "time": "time", "cost": "cost", "co2e": "CO2e"}


def candidates_table(found: Recommendation, title: str, positions: Sequence[int], *, odds: bool = True) -> Table:
    """A row for each position; with `odds` how sure the best is to cost less."""
    rows = found.candidates.loc[list(positions)]
    names = [name for name, columns in COSTS.items() if columns[0] in rows]
    units = {name: unit_of(name, float(rows[COSTS[name][0]].median())) for name in names}
    several = found.candidates["model"].nunique() > 1
    of = {"cost": rows["currency"].iloc[0]} if "cost" in names else {}
    costs = [f"{NOUNS[name]}, {of.get(name) or units[name][0]}".rstrip(", ") for name in names]
    texts = ["model"] * several + ["GPUs", "strategy", "batch", "precision"]
    numbers = ["memory", *costs, *["p kept"] * bool(found.asked.limits), *["p first lower"] * odds]
    made = table(title, [*texts, *numbers, ""], numbers)
    for at, row in rows.iterrows():
        sure = [probability(found.odds.get(int(str(at))))] * odds
        made.add_row(*_cells(found, row, several, units), *sure, "" if row["inside"] else "!")
    return made


def amount(value: float, name: str, currency: str = "") -> str:
    """A cost in the unit that it is best read in."""
    unit, scale = unit_of(name, value)
    return f"{number(value / scale)} {unit or currency}".rstrip()


def probability(value: float | None) -> str:
    """To a hundredth; never 0 or 1, which no forecast is."""
    if value is None or value != value:
        return "-"
    return "< 0.01" if value < 0.01 else "> 0.99" if value > 0.99 else f"{value:.2f}"


def _cells(
    found: Recommendation, row: "pd.Series[Any]", several: bool, units: Mapping[str, tuple[str, float]]
) -> list[str]:
    nodes = f" on {row['node_count']} nodes" if row["node_count"] > 1 else ""
    degree = f" ({row['tensor_parallel']})" if row["strategy"] == "fsdp_tp" else ""
    again = ", ckpt" if row["activation_checkpointing"] else ""
    device = str(row["gpu_model"]).removeprefix("NVIDIA ")
    texts = [str(row["model"])] * several
    texts += [f"{row['gpu_count']} x {device}{nodes}", f"{row['strategy']}{degree}"]
    texts += [f"{row['micro_batch_size']} x {row['grad_accumulation']}", f"{row['precision']}{again}"]
    costs = [_interval(row, name, scale) for name, (_, scale) in units.items()]
    kept = [probability(float(row["p_within_limits"]))] * bool(found.asked.limits)
    return [*map(escape, texts), f"{100 * row['memory_share']:.0f} %", *costs, *kept]


def _interval(row: "pd.Series[Any]", name: str, scale: float) -> str:
    """A cost over its interval."""
    value, low, high = (number(float(row[column]) / scale) for column in COSTS[name])
    return f"{value}\n{low} - {high}"
