"""The power of trials over time, and how long their steps took, thinned to what a page can carry."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.bench.dataset.measurements import read_steps
from joulelaw.bench.energy.readings import DeviceReadings, power_series
from joulelaw.bench.energy.stored_power import readings_of
from joulelaw.bench.report.study import Study

Array = npt.NDArray[np.float64]
NS = 1e-9
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
    slowest of each stretch. A trial on several nodes is told by its first: other nodes' clocks have another zero.
    """
    rows = study.valid[study.valid["window_begin_ns"].notna()]
    if rows.empty:
        return {}
    each = int(np.clip(BUDGET / max(float(rows["gpu_count"].sum()), 1), LEAST_VALUES, MOST_VALUES))
    told: dict[str, dict[str, Any]] = {}
    for place, row in rows.iterrows():
        begin_ns = int(row["window_begin_ns"])
        traces = [thinned(readings, begin_ns, each) for readings in _readings(study, row)]
        told[str(place)] = {
            "window_s": short((int(row["window_end_ns"]) - begin_ns) * NS),
            "devices": [
                {"begin_s": short(t.begin_s), "every_s": short(t.every_s), "dw": [round(10 * w) for w in t.power_w]}
                for t in traces
                if t is not None
            ],
            "steps": _steps(study, row, begin_ns),
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


def _readings(study: Study, row: "pd.Series[Any]") -> list[DeviceReadings]:
    nodes = row["nodes"]
    node = nodes[0] if nodes is not None and len(nodes) else None
    return sorted(readings_of(study.folder, row["trial_id"], node), key=lambda each: each.domain)


def _steps(study: Study, row: "pd.Series[Any]", begin_ns: int) -> dict[str, list[float]]:
    steps = read_steps(study.folder, row["trial_id"])
    if steps.empty:
        return {"end_s": [], "s": []}
    slowest = steps.assign(s=(steps["end_ns"] - steps["begin_ns"]) * NS).sort_values("s").groupby("step").last()
    stretch = np.arange(len(slowest)) * min(MOST_STEPS, len(slowest)) // len(slowest)
    slowest = slowest.loc[slowest.groupby(stretch)["s"].idxmax()]
    return {
        "end_s": [short((end - begin_ns) * NS) for end in slowest["end_ns"]],
        "s": [float(f"{s:.3g}") for s in slowest["s"]],
    }
