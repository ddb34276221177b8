"""A forecast for people, in a small table, and for programs, as the figures of the last line."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.table import Table

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.forecast.boundaries import COVERS, boundary_warnings
from joulelaw.bench.forecast.forecast import Forecast
from joulelaw.bench.forecast.limits import above_limits
from joulelaw.bench.forecast.units import unit_of
from joulelaw.model.laws.base import Provenance

MOST_ROWS = 10


def shown(forecast: Forecast) -> Table:
    """Each figure with its interval, and what it is of."""
    run, row = forecast.run, forecast.row
    one = run.configuration
    title = f"{run.model.name}, {one.label}: {run.optimizer_steps:,} steps of {_sequences(forecast):,} sequences"
    made = table(title, ["", "forecast", f"{100 * forecast.level:.0f} % interval", "of"], ["forecast"])
    for cells in _figures(row):
        made.add_row(*cells)
    memory = forecast.memory
    fits = "fits" if memory.fits else "does not fit"
    fits_in = f"{fits} in the {number(memory.usable_bytes / 2**30)} GiB that the {one.gpu_model} has to use"
    made.add_row("memory of a device", f"{number(memory.needed_bytes / 2**30)} GiB", "", fits_in)
    return made


def shown_rows(forecasts: pd.DataFrame, level: float) -> Table:
    """The first MOST_ROWS runs of a table with forecasts; a ! marks those outside what the law was fitted on."""
    first = [{str(name): value for name, value in row.items()} for row in forecasts.head(MOST_ROWS).to_dict("records")]
    figures = [{name: cells for name, *cells in _figures(row)} for row in first]
    names = list(figures[0])
    more = "" if len(forecasts) <= MOST_ROWS else f", the first {MOST_ROWS} of {len(forecasts):,}"
    made = table(f"Forecasts{more} (below each: its {100 * level:.0f} % interval)", ["run", *names, ""], names)
    for row, told in zip(first, figures, strict=True):
        cells = (f"{value}\n{interval}" for value, interval, _ in told.values())
        made.add_row(_label(row), *cells, "!" if row["extrapolates"] else "")
    return made


def table_warnings(forecasts: pd.DataFrame, origin: Provenance) -> list[str]:
    """What must be said beside a table of forecasts by a law of this origin."""
    counted: dict[str, npt.NDArray[np.bool_]] = {
        "do not fit in the memory of their devices (memory_share above 1)": (forecasts["memory_share"] > 1).to_numpy(),
        "draw more on average than their devices may (power_limits_w): energy or time is off": above_limits(forecasts),
        "have no energy: no power limit of their devices is known": forecasts["predicted_energy_j"].isna().to_numpy(),
    }
    total = len(forecasts)
    warnings = [f"{int(rows.sum()):,} of {total:,} runs {what}" for what, rows in counted.items() if rows.any()]
    if "network_bytes_per_s" not in forecasts and (forecasts["node_count"].astype(float) > 1).any():
        warnings.append("no network_bytes_per_s: nodes are taken to be linked as fast as the devices in one")
    of = [boundary_warnings(str(boundary), origin) for boundary in sorted(set(forecasts["boundary"]))]
    return warnings + list(dict.fromkeys(each for told in of for each in told))


def _label(row: Mapping[str, Any]) -> str:
    """A run in a few words."""
    model = row.get("model") or f"{row['model_family']} L{row['num_layers']} h{row['hidden_size']}"
    spread = f"{row['precision']} {row['strategy']}, {row['gpu_count']} x {row['gpu_model']}"
    return f"{model} s{row['sequence_length']} B{row['micro_batch_size']}\n{spread}"


def as_json(forecast: Forecast) -> dict[str, Any]:
    """Every figure; `run` and `forecast` together have the columns that a table's row has."""
    row, law, run = forecast.row, forecast.law, forecast.run
    asked = [str(name) for name in run.table().columns]
    origin = law.provenance
    return {
        "law_kind": law.law.name,
        "model": {**vars(run.model), "num_parameters": forecast.num_parameters},
        "run": {name: row[name] for name in asked},
        "optimizer_steps": run.optimizer_steps,
        "sequences_per_step": _sequences(forecast),
        "forecast": {name: value for name, value in row.items() if name not in asked},
        "energy_is": "gross",
        "energy_is_estimated": origin.energy_is_estimated,
        "boundary_covers": COVERS.get(str(row["boundary"]), ""),
        "meters": origin.meters,
        "interval_level": forecast.level,
        "memory": {**vars(forecast.memory), "fits": forecast.memory.fits},
        "extrapolations": [vars(each) for each in forecast.extrapolations],
        "warnings": forecast.warnings,
    }


def _sequences(forecast: Forecast) -> int:
    """Of one optimizer step, of all ranks."""
    one = forecast.run.configuration
    return one.micro_batch_size * one.grad_accumulation * one.data_parallel


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, interval and what it is of, for each figure that there is."""
    boundary = str(row["boundary"])
    of = f"gross, of boundary {boundary}: {COVERS.get(boundary, 'as its tables said')}"
    joules = [float(row[name]) for name in ("predicted_energy_j", "energy_low_j", "energy_high_j")]
    yield "energy", *_amounts(joules, "energy"), of
    seconds = [float(row[name]) for name in ("predicted_duration_s", "duration_low_s", "duration_high_s")]
    ends = f"{duration(seconds[1])} to {duration(seconds[2])}"
    yield "time", duration(seconds[0]), ends, "training steps alone: no start, evaluation or saving"
    if "average_power_w" in row:
        power = [float(row[f"average_power{end}_w"]) for end in ("", "_low", "_high")]
        yield "average power", f"{number(power[0])} W", _interval(power[1:], "W"), "all devices together"
    if "cost" in row:
        cost = [float(row[f"cost{end}"]) for end in ("", "_low", "_high")]
        unit = str(row["currency"])
        yield "cost", f"{number(cost[0])} {unit}".rstrip(), _interval(cost[1:], unit), _paid(unit)
    if "co2e_kg" in row:
        co2e = [float(row[f"co2e{end}_kg"]) for end in ("", "_low", "_high")]
        yield "CO2e", *_amounts(co2e, "co2e"), "the energy above"


def _paid(currency: str) -> str:
    return "the prices given" if currency else "the prices given, in their currency"


def _amounts(values: list[float], name: str) -> tuple[str, str]:
    """A forecast and its interval, in the unit that the forecast is best read in."""
    unit, scale = unit_of(name, values[0])
    value, *ends = (each / scale for each in values)
    return f"{number(value)} {unit}", _interval(ends, unit)


def _interval(ends: list[float], unit: str) -> str:
    low, high = (number(end) for end in ends)
    return "-" if "-" in (low, high) else f"{low} to {high} {unit}".rstrip()
