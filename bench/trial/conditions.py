"""What was with the devices of a group over a window: who else used them, what slowed them, how warm they were.

Meters read this about once a second; a window shorter than that may have none of it, and then nothing is known.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """Of all devices of a group in its window. `foreign_processes` is the most seen at once on one device.

    `throttle` has every bit of NVML's clocks-event reasons that any reading had; temperatures are those of the warmest
    device; None where no reading tells.
    """

    foreign_processes: int = 0
    throttle: int = 0
    temperature_begin_c: float | None = None
    temperature_max_c: float | None = None
    clock_mhz_mean: float | None = None


NO_CONDITIONS = Conditions()


def conditions_of(parts: Sequence[pa.Table], domains: Iterable[str], begin_ns: int, end_ns: int) -> Conditions:
    """From one node's rows of the `power` table: of these domains, between two times of the node's CLOCK_MONOTONIC."""
    if not parts:
        return NO_CONDITIONS
    table = pa.concat_tables(parts)
    table = table.filter(pc.is_in(table["device_uuid"], pa.array(list(domains), pa.string())))
    time_ns = table["time_ns"].to_numpy()
    inside = (time_ns >= begin_ns) & (time_ns <= end_ns)
    masks = table["throttle"].filter(pa.array(inside)).drop_null().to_numpy()
    warm = _column(table, "temperature_c")
    clocks = _column(table, "clock_mhz")[inside]
    return Conditions(
        foreign_processes=int(_most(_column(table, "foreign_processes")[inside]) or 0),
        throttle=int(np.bitwise_or.reduce(masks)) if masks.size else 0,
        temperature_begin_c=_most(_at_begin(table["device_uuid"], time_ns, warm, begin_ns)),
        temperature_max_c=_most(warm[inside]),
        clock_mhz_mean=_mean_of_devices(table["device_uuid"].filter(pa.array(inside)), clocks),
    )


def together(nodes: Sequence[Conditions]) -> Conditions:
    """Of a group that spans nodes."""
    throttle = 0
    for node in nodes:
        throttle |= node.throttle
    clocks = _told(node.clock_mhz_mean for node in nodes)
    return Conditions(
        max((node.foreign_processes for node in nodes), default=0),
        throttle,
        max(_told(node.temperature_begin_c for node in nodes), default=None),
        max(_told(node.temperature_max_c for node in nodes), default=None),
        math.fsum(clocks) / len(clocks) if clocks else None,
    )


def _column(table: pa.Table, name: str) -> Numbers:
    """NaN where a number is missing."""
    found: Numbers = table[name].cast(pa.float64()).to_numpy()
    return found


def _most(values: Numbers) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else None


def _at_begin(uuids: pa.ChunkedArray, time_ns: npt.NDArray[np.int64], warm: Numbers, begin_ns: int) -> Numbers:
    """The last temperature of each device before a time, or else its first one; a device without any has none."""
    names = np.asarray(uuids.to_pylist())
    found = []
    for name in np.unique(names):
        rows = np.flatnonzero((names == name) & ~np.isnan(warm))
        if rows.size:
            before = rows[time_ns[rows] <= begin_ns]
            found.append(warm[before[-1] if before.size else rows[0]])
    return np.array(found)


def _mean_of_devices(uuids: pa.ChunkedArray, clocks: Numbers) -> float | None:
    """Each device counts once, however often it was read."""
    names = np.asarray(uuids.to_pylist())
    means = [clocks[(names == name) & ~np.isnan(clocks)] for name in np.unique(names)]
    known = [float(each.mean()) for each in means if each.size]
    return math.fsum(known) / len(known) if known else None


def _told(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
