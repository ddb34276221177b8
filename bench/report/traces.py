"""The power of trials over time, and how long their steps took, thinned to what a page can carry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.bench.energy.readings import DeviceReadings, power_series
from joulelaw.bench.report.one_clock import NS, timed_readings, timed_steps
from joulelaw.bench.report.study import Study

Array = npt.NDArray[np.float64]
# Numbers of all traces together, some four characters each: what keeps a page of 1,000 trials below 3 MB.
BUDGET = 220_000
MOST_VALUES, LEAST_VALUES = 240, 12
MOST_STEPS = 60


@dataclass(frozen=True)
class Trace:
    """One device: the mean watts of equal stretches of time, from `begin_s` after the window's beginning on."""

    device: str
    begin_s: float
    every_s: float
    power_w: Array


def plain_traces(study: Study) -> dict[str, dict[str, Any]]:
    """By a trial's place in the table of trials, as the page's script reads it; of valid trials with readings.

    Watts in tenths. `steps`: the end of each step and the seconds of its slowest rank; of more than MOST_STEPS the
    slowest of each stretch.
    """
    rows = study.valid[study.valid["window_begin_ns"].notna()]
    if rows.empty:
        return {}
    each = int(np.clip(BUDGET / max(float(rows["gpu_count"].sum()), 1), LEAST_VALUES, MOST_VALUES))
    told: dict[str, dict[str, Any]] = {}
    for place, row in rows.iterrows():
        begin_ns = int(row["window_begin_ns"])
        steps = timed_steps(study, row)
        traces = [thinned(readings, began_ns, each) for readings, began_ns in timed_readings(study, row, steps)]
        told[str(place)] = {
            "window_s": short((int(row["window_end_ns"]) - begin_ns) * NS),
            "devices": [
                {"begin_s": short(t.begin_s), "every_s": short(t.every_s), "dw": [round(10 * w) for w in t.power_w]}
                for t in traces
                if t is not None
            ],
            "steps": _steps(steps),
        }
    return {place: trace for place, trace in told.items() if trace["devices"] or trace["steps"]["end_s"]}


def thinned(readings: DeviceReadings, begin_ns: int, most: int) -> Trace | None:
    """Means over equal stretches, so that the joules under the line stay what they were; None without two readings.

    A reading's watts hold since the one before it.
    """
    time_ns, watts = power_series(readings)
    if time_ns.size < 2:
        return None
    at_s = (time_ns - begin_ns) * NS
    joules = np.concatenate([[0.0], np.cumsum(watts[1:] * np.diff(at_s))])
    edges = np.linspace(at_s[0], at_s[-1], min(most, time_ns.size - 1) + 1)
    every_s = float(edges[1] - edges[0])
    if every_s <= 0:
        return None
    return Trace(readings.domain, float(edges[0]), every_s, np.diff(np.interp(edges, at_s, joules)) / every_s)


def short(value: float) -> float:
    """To the tenth of a millisecond, or four digits."""
    return float(f"{value:.4g}") if abs(value) < 1 else round(value, 4)


def _steps(steps: pd.DataFrame) -> dict[str, list[float]]:
    if steps.empty:
        return {"end_s": [], "s": []}
    slowest = steps.sort_values("s").groupby("step").last()
    stretch = np.arange(len(slowest)) * min(MOST_STEPS, len(slowest)) // len(slowest)
    slowest = slowest.loc[slowest.groupby(stretch)["s"].idxmax()]
    return {"end_s": [short(end) for end in slowest["end_s"]], "s": [float(f"{s:.3g}") for s in slowest["s"]]}
