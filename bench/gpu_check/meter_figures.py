"""Joules of the stretches that a part names, counter and trace, and how often the device's numbers move. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from joulelaw.bench.energy.energy import window_energy
from joulelaw.bench.energy.readings import DeviceReadings, from_readings
from joulelaw.cluster.power.meter import Reading

# A gap between readings beyond which a change between them says nothing of when it came.
CLOSE_S = 0.004


@dataclass(frozen=True)
class Stretch:
    """A named time, in ns of CLOCK_MONOTONIC."""

    name: str
    begin_ns: int
    end_ns: int

    @classmethod
    def of(cls, event: Mapping[str, Any]) -> Self:
        return cls(event["name"], event["begin_ns"], event["end_ns"])


def figures_of(stretches: Sequence[Stretch], readings: Sequence[Reading], meter: str, device: str) -> dict[str, Any]:
    """`stretches` with the joules of each, and `seen`: ticks and updates where the meter was read closely."""
    found = from_readings([each for each in readings if each.device_uuid == device], meter).get(device)
    errors = sorted({each.error for each in readings if each.error})
    if found is None:
        return {"stretches": {}, "seen": {}, "errors": errors}
    return {
        "stretches": {each.name: _joules(each, found) for each in stretches},
        "seen": {
            "counter_tick_s": update_s(found.time_ns, found.counter_j),
            "power_update_s": update_s(found.time_ns, found.power_w),
            "readings": len(found.time_ns),
        },
        "errors": errors,
    }


def _joules(stretch: Stretch, readings: DeviceReadings) -> dict[str, Any]:
    seconds = (stretch.end_ns - stretch.begin_ns) / 1e9
    energy = window_energy(readings, stretch.begin_ns, stretch.end_ns)
    return {
        "seconds": seconds,
        "energy_j": energy.energy_j,
        "energy_stderr_j": energy.stderr_j,
        "counter_j": energy.counter_j,
        "trace_j": energy.trace_j,
        "disagreement": energy.disagreement,
        "power_w": None if energy.energy_j is None else energy.energy_j / seconds,
        "source": energy.source,
        "ticks": energy.ticks,
        "readings": energy.readings,
    }


def update_s(time_ns: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> float | None:
    """The median time between two changes of a number, of those that were read closely; None of fewer than three."""
    there = ~np.isnan(values)
    time_s, values = time_ns[there] / 1e9, values[there]
    changed = np.flatnonzero(np.diff(values) != 0) + 1
    close = changed[(time_s[changed] - time_s[changed - 1]) < CLOSE_S]
    if len(close) < 3:
        return None
    # Two that are both known closely, with nothing but close readings between them.
    sparse = np.concatenate([[0], np.cumsum(np.diff(time_s) >= CLOSE_S)])
    whole = sparse[close[1:]] == sparse[close[:-1]]
    steps = np.diff(time_s[close])[whole]
    return float(np.median(steps)) if len(steps) >= 2 else None
