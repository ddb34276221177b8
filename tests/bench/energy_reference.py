"""Readings and joules as they were first written, whole masks over whole arrays: what the faster ones must equal."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from joulelaw.bench.energy.readings import COUNTER_TICK_S, DeviceReadings
from joulelaw.cluster.power.meter import GPU_LOST

Floats = npt.NDArray[np.float64]


def from_rows(power: pa.Table) -> dict[str, DeviceReadings]:
    """Row by row, in the table's order."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in power.to_pylist():
        rows.setdefault(row["device_uuid"], []).append(row)
    return {
        domain: DeviceReadings(
            domain,
            np.array([row["time_ns"] for row in mine], dtype=np.int64),
            np.array([row["power_w"] for row in mine], dtype=np.float64),
            np.array([row["energy_counter_j"] for row in mine], dtype=np.float64),
            np.array([(row["error"] or "").startswith(GPU_LOST) for row in mine]),
            COUNTER_TICK_S.get(mine[0]["meter"]),
        )
        for domain, mine in rows.items()
    }


def trace_j(time_s: Floats, power_w: Floats, span_s: float) -> float:
    """Each reading holds from its own time until the next, within 0 and the span."""
    bounds = np.clip(np.append(time_s, span_s), 0.0, span_s)
    bounds[0] = 0.0  # before the first reading power is taken to have been as it was then
    return float(power_w @ np.diff(bounds))


def trace_stderr_j(time_s: Floats, power_w: Floats, span_s: float) -> float:
    first = max(0, int(np.count_nonzero(time_s <= 0)) - 1)
    last = max(first + 1, int(np.count_nonzero(time_s < span_s)))
    watts, bounds = power_w[first:last], np.append(np.clip(time_s[first:last], 0.0, None), span_s)
    bounds[0] = 0.0
    held_s = np.diff(bounds)
    starts = np.flatnonzero(np.append(True, np.diff(watts) != 0))
    sampled_s = np.minimum(np.add.reduceat(held_s, starts), np.maximum(0.1, held_s[starts]))
    return float(np.sqrt(np.sum((np.diff(watts[starts]) * sampled_s[1:]) ** 2) / 2))


def largest_gap_s(time_s: Floats, span_s: float) -> float:
    ends = np.concatenate([[min(0.0, time_s[0])], time_s, [max(span_s, time_s[-1])]])
    touches = (ends[1:] > 0) & (ends[:-1] < span_s)
    return float(np.max(np.diff(ends)[touches], initial=0.0))


def ticks(time_s: Floats, counter_j: Floats, tick_s: float | None) -> tuple[Floats, Floats]:
    """Times and values of the readings that bring news of a counter."""
    since_s = np.diff(time_s)
    width_s = since_s if tick_s is None else np.minimum(since_s, tick_s)
    is_news = np.diff(counter_j) > 0
    if tick_s is not None:
        is_news |= since_s > tick_s
    is_news &= since_s > 0
    return (time_s[1:] - width_s / 2)[is_news], counter_j[1:][is_news]


def step_at_most_j(edge_s: float, time_s: Floats, counter_j: Floats) -> float:
    """How far one step of power within the stretch between two ticks may move the counter at an edge in it from the
    straight line: 0 where the ticks around are not known to a tenth of it, else less than what came between."""
    news = (np.diff(counter_j) > 0) & (np.diff(time_s) > 0)
    width_s, (tick_s, value_j) = np.diff(time_s)[news], ticks(time_s, counter_j, None)
    right = int(np.count_nonzero(tick_s < edge_s))
    if not 3 <= right < tick_s.size - 2:
        return 0.0
    known = width_s[right - 2 : right + 2].max() <= 0.1 * (tick_s[right] - tick_s[right - 1])
    return float(value_j[right] - value_j[right - 1]) if known else 0.0


def counter_at(edge_s: float, time_s: Floats, value_j: Floats) -> float:
    """On the straight line between the ticks around an edge; beyond them on that over the last 0.25 s."""
    right = int(np.clip(np.count_nonzero(time_s < edge_s), 1, time_s.size - 1))
    left = right - 1
    if edge_s > time_s[-1]:
        left = max([k for k in range(time_s.size - 1) if time_s[k] <= time_s[-1] - 0.25], default=0)
        right = time_s.size - 1
    if edge_s < time_s[0]:
        left = 0
        right = min([k for k in range(1, time_s.size) if time_s[k] >= time_s[0] + 0.25], default=time_s.size - 1)
    power_w = (value_j[right] - value_j[left]) / (time_s[right] - time_s[left])
    nearest = right if edge_s > time_s[-1] else left
    return float(value_j[nearest] + power_w * (edge_s - time_s[nearest]))
