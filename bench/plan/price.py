"""What trials are expected to take: counted FLOPs and bytes, and a law's seconds and joules."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from joulelaw.bench.plan.plan import Price
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.parallelism import counts

# From launch to the first step: building the model, the process group, DeepSpeed's engine. Seen on 2 CPU cores;
# only the progress bar and the total time lean on it.
SETUP_S = {"single": 0.5, "fsdp": 1.0}
OTHERS_SETUP_S = 1.5  # seen of zero2 and zero3, taken for the rest


def counted(configurations: Sequence[Configuration], catalogue: Catalogue) -> list[Mapping[str, float]]:
    """The row of `parallelism.counts` of each configuration."""
    if not configurations:
        return []
    frame = counts(one_step_each(configurations), catalogue)
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def priced(specs: Sequence[TrialSpec], catalogue: Catalogue, law: FittedLaw) -> list[Price]:
    """FLOPs, bytes, seconds and joules of each trial."""
    configurations = list({spec.configuration: None for spec in specs})  # repeats cost the same
    rows = dict(zip(configurations, counted(configurations, catalogue), strict=True))
    steps = dict(zip(configurations, forecast_steps(configurations, law), strict=True))
    return [_price(spec, rows[spec.configuration], *steps[spec.configuration]) for spec in specs]


def forecast_steps(configurations: Sequence[Configuration], law: FittedLaw) -> list[tuple[float | None, float | None]]:
    """Seconds and joules of one optimizer step of each configuration; None where the law cannot tell."""
    middle = replace(law, covariance=np.zeros((0, 0)))  # a plan shows no intervals, which take most of the time
    forecast = middle.predict(one_step_each(configurations).assign(boundary=law.provenance.boundaries[0]))
    pairs = zip(forecast["predicted_duration_s"], forecast["predicted_energy_j"], strict=True)
    return [(_finite(seconds), _finite(joules)) for seconds, joules in pairs]


def measured_steps(step_s: float, window: Window) -> int:
    """How many steps the window will hold: both minima, cut off at max_s."""
    enough = max(window.min_steps, math.ceil(window.min_s / step_s))
    return max(1, min(enough, math.ceil(window.max_s / step_s)))


def _price(spec: TrialSpec, row: Mapping[str, float], step_s: float | None, step_j: float | None) -> Price:
    asked = spec.configuration
    flop = row["flop_per_micro_step"] * asked.grad_accumulation * asked.gpu_count
    memory = float(row["memory_bytes_per_device"])
    if step_s is None:
        return Price(flop, memory)
    steps = measured_steps(step_s, spec.window)
    setup_s = SETUP_S.get(asked.strategy, OTHERS_SETUP_S)
    trial_s = setup_s + (spec.window.warmup_steps + steps) * step_s
    return Price(flop, memory, step_s, trial_s, None if step_j is None else step_j * steps)


def one_step_each(configurations: Sequence[Configuration]) -> pd.DataFrame:
    """One optimizer step of each configuration, as rows of the measurement table without results."""
    rows: list[dict[str, Any]] = [{**each.to_dict(), "micro_steps": each.grad_accumulation} for each in configurations]
    return pd.DataFrame(rows).drop(columns="data")  # no law looks at it, and a cell is one value


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
