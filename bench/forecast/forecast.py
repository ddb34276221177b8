"""The forecast of one run: energy, time, power, cost and CO2e with their intervals, memory, and every warning."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.boundaries import boundary_warnings
from joulelaw.bench.forecast.extrapolation import Extrapolation, extrapolations
from joulelaw.bench.forecast.limits import limits, power_warning
from joulelaw.bench.forecast.run import Run
from joulelaw.model.columns import numbers
from joulelaw.model.costs import POWER_FACTOR, Prices, costs
from joulelaw.model.laws.base import FittedLaw


@dataclass(frozen=True)
class Memory:
    """Bytes that a run needs on one device, as counted, and what there is to use."""

    needed_bytes: float
    usable_bytes: float

    @property
    def fits(self) -> bool:
        return self.needed_bytes <= self.usable_bytes


@dataclass(frozen=True)
class Forecast:
    """What a law says of one run."""

    run: Run
    law: FittedLaw
    table: pd.DataFrame
    """One row: the configuration, the forecast's columns, and those of `model.costs`."""
    num_parameters: int
    memory: Memory
    extrapolations: tuple[Extrapolation, ...]
    warnings: tuple[str, ...]

    @property
    def row(self) -> Mapping[str, Any]:
        """The table's row."""
        return {str(name): value for name, value in self.table.iloc[0].items()}

    @property
    def level(self) -> float:
        """Share of the intervals that hold the truth, as `level_of` tells it."""
        return level_of(self.law)


def level_of(law: FittedLaw) -> float:
    """Share of a law's intervals that hold the truth: what was aimed at, or less where the cases are few."""
    achieved = law.widths.achieved
    return law.widths.aimed if math.isnan(achieved) else min(achieved, law.widths.aimed)


def forecast_run(law: FittedLaw, run: Run, prices: Prices | None = None, boundary: str | None = None) -> Forecast:
    """The forecast of a run, its joules of the law's boundary, or of the one asked for where it has several.

    Raises:
        InputError: a boundary that the law was not fitted on, or none of several; a post-run law.
    """
    check_forecasts(law)
    asked = run.table().assign(boundary=chosen_boundary(law, boundary))
    table = with_costs(law, asked, prices or Prices())
    row = {str(name): value for name, value in table.iloc[0].items()}
    memory = Memory(row["memory_bytes_per_device"], row["memory_bytes_per_device"] / row["memory_share"])
    outside = tuple(extrapolations(str(row["extrapolates"]), row, law.provenance.ranges))
    return Forecast(
        run=run,
        law=law,
        table=table,
        num_parameters=int(row["num_parameters"]),
        memory=memory,
        extrapolations=outside,
        warnings=tuple(_warnings(law, row, memory, outside)),
    )


def with_costs(law: FittedLaw, asked: pd.DataFrame, prices: Prices) -> pd.DataFrame:
    """The table with the law's forecast beside it, average power and what prices add, and the devices' `limits`."""
    forecast = law.predict(asked, power=True)
    more = costs(forecast, numbers(asked, "gpu_count"), prices)
    forecast = forecast.drop(columns=POWER_FACTOR).join(more).join(limits(asked, law.catalogue))
    return asked.drop(columns=[name for name in forecast if name in asked]).join(forecast)


def check_forecasts(law: FittedLaw) -> None:
    """Raises InputError for a law that looks at what is only known after a run."""
    if law.law.post_run:
        what = f"{law.law.name} is a post-run law: it looks at what was measured"
        raise InputError(what, where="law", remedy="fit one that forecasts: roofline, reduced_form or operation")


def chosen_boundary(law: FittedLaw, asked: str | None) -> str:
    """The boundary that is asked for, or the law's only one."""
    fitted = law.provenance.boundaries
    if asked is None and len(fitted) == 1:
        return fitted[0]
    if asked not in fitted:
        what = f"the law has joules of {' and of '.join(fitted)}" + (f", not of {asked}" if asked else "")
        remedy = f"one of {', '.join(fitted)}" if len(fitted) > 1 else "leave it out"
        raise InputError(what, where="boundary", remedy=remedy)
    return asked


def _warnings(law: FittedLaw, row: Mapping[str, Any], memory: Memory, outside: tuple[Extrapolation, ...]) -> list[str]:
    warnings = [f"extrapolates: {each.text}" for each in outside]
    if not memory.fits:
        need, have = (f"{size / 2**30:,.1f} GiB" for size in (memory.needed_bytes, memory.usable_bytes))
        warnings.append(f"does not fit: {need} a GPU by count, {row['gpu_model']} has {have} to use")
    if power := power_warning(row):
        warnings.append(power)
    if math.isnan(float(row["predicted_energy_j"])):
        warnings.append(f"energy cannot be told: no power limit of {row['gpu_model']} is known")
    if row["node_count"] > 1 and "network_bytes_per_s" not in row:
        warnings.append("no network_bytes_per_s: nodes are taken to be linked as fast as the devices in one")
    return warnings + boundary_warnings(str(row["boundary"]), law.provenance)
