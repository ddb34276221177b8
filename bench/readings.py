"""A meter's readings as arrays, one set a metered domain: from the live stream or from a `power` table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from joulelaw.cluster.power.meter import GPU_LOST, Reading

# How often a meter's counter moves on, where that is known; NVML's (20 to 100 ms) depends on the card.
COUNTER_TICK_S: Mapping[str, float] = {"rapl": 1e-3, "cpu_time_estimate": 0.0}


@dataclass(frozen=True)
class DeviceReadings:
    """All readings of one domain, in the order they were taken; NaN where a number is missing."""

    domain: str
    time_ns: npt.NDArray[np.int64]
    power_w: npt.NDArray[np.float64]
    counter_j: npt.NDArray[np.float64]
    failed: npt.NDArray[np.bool_]  # readings with an error
    lost: npt.NDArray[np.bool_]  # readings whose error is the loss of the GPU
    tick_s: float | None = None  # the counter's update interval; None unknown, 0 continuous


def from_readings(readings: Iterable[Reading], meter: str = "") -> dict[str, DeviceReadings]:
    """By domain; `meter` is the meter's name, from which the counter's tick may be known."""
    rows: dict[str, list[Reading]] = {}
    for reading in readings:
        rows.setdefault(reading.device_uuid, []).append(reading)
    return {
        domain: _arrays(
            domain,
            [row.time_ns for row in mine],
            [row.power_w for row in mine],
            [row.energy_counter_j for row in mine],
            [row.error for row in mine],
            COUNTER_TICK_S.get(meter),
        )
        for domain, mine in rows.items()
    }


def from_table(power: pa.Table) -> dict[str, DeviceReadings]:
    """The rows of one trial and node of a dataset's `power` table, in their order, by domain."""
    rows: dict[str, list[int]] = {}
    columns = power.select(["device_uuid", "meter", "time_ns", "power_w", "energy_counter_j", "error"]).to_pydict()
    for row, domain in enumerate(columns["device_uuid"]):
        rows.setdefault(domain, []).append(row)

    def of(name: str, mine: list[int]) -> list[Any]:
        return [columns[name][row] for row in mine]

    return {
        domain: _arrays(
            domain,
            of("time_ns", mine),
            of("power_w", mine),
            of("energy_counter_j", mine),
            of("error", mine),
            COUNTER_TICK_S.get(columns["meter"][mine[0]]),
        )
        for domain, mine in rows.items()
    }


def _arrays(
    domain: str,
    time_ns: list[int],
    power_w: list[float | None],
    counter_j: list[float | None],
    errors: list[str | None],
    tick_s: float | None,
) -> DeviceReadings:
    return DeviceReadings(
        domain,
        np.array(time_ns, dtype=np.int64),
        np.array(power_w, dtype=np.float64),  # None becomes NaN
        np.array(counter_j, dtype=np.float64),
        np.array([bool(error) for error in errors], dtype=np.bool_),
        np.array([(error or "").startswith(GPU_LOST) for error in errors], dtype=np.bool_),
        tick_s,
    )


def power_series(readings: DeviceReadings) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Times (ns) and watts to draw: as read, or between counter readings where the meter has only a counter.

    From a counter a time is the end of the stretch whose mean power stands beside it; a reset leaves a hole.
    """
    has_power = ~np.isnan(readings.power_w)
    if has_power.any():
        return readings.time_ns[has_power], readings.power_w[has_power]
    has_counter = ~np.isnan(readings.counter_j)
    time_ns = readings.time_ns[has_counter]
    joules, seconds = np.diff(readings.counter_j[has_counter]), np.diff(time_ns) / 1e9
    usable = (joules >= 0) & (seconds > 0)
    return time_ns[1:][usable], joules[usable] / seconds[usable]
