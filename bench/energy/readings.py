"""A meter's readings as arrays, one set a metered domain: from the live stream or from a `power` table."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from joulelaw.cluster.power.meter import GPU_LOST, Reading
from joulelaw.cluster.streams.metering import readings_batch

# How often a meter's counter moves on, where that is known; NVML's (20 to 100 ms) depends on the card.
COUNTER_TICK_S: Mapping[str, float] = {"rapl": 1e-3, "cpu_time_estimate": 0.0}
# What of a `power` table an energy is made from.
COLUMNS = ["device_uuid", "meter", "time_ns", "power_w", "energy_counter_j", "error"]
# Parts with so many rows in all are put together first: for a few readings each, that is four times as fast.
_FEW_ROWS = 100_000


@dataclass(frozen=True)
class DeviceReadings:
    """All readings of one domain, in the order they were taken; NaN where a number is missing."""

    domain: str
    time_ns: npt.NDArray[np.int64]
    power_w: npt.NDArray[np.float64]
    counter_j: npt.NDArray[np.float64]
    lost: npt.NDArray[np.bool_]  # readings whose error is the loss of the GPU
    tick_s: float | None = None  # the counter's update interval; None unknown, 0 continuous


def power_table(meter: str, readings: Sequence[Reading]) -> pa.Table:
    """Readings of one node's meter as rows of the `power` table, without its key and node."""
    return pa.Table.from_batches([readings_batch(meter, readings)])


def from_readings(readings: Iterable[Reading], meter: str = "") -> dict[str, DeviceReadings]:
    """By domain; `meter` is the meter's name, from which the counter's tick may be known."""
    return from_table(power_table(meter, list(readings)))


def from_table(power: pa.Table) -> dict[str, DeviceReadings]:
    """The rows of one trial and node of a dataset's `power` table, in their order, by domain."""
    return from_tables([power])


def from_tables(parts: Sequence[pa.Table]) -> dict[str, DeviceReadings]:
    """The same of a table in parts."""
    if len(parts) > 1 and sum(map(len, parts)) <= _FEW_ROWS:
        parts = [pa.concat_tables(parts)]
    return {each.domain: each for each in by_domain(parts)}


def by_domain(parts: Iterable[pa.Table]) -> Iterator[DeviceReadings]:
    """One domain after the other, of the parts of a table; texts are dictionaries or not.

    Who keeps none needs memory for the readings once, and for one domain again.
    """
    pieces: dict[str, list[DeviceReadings]] = {}
    for part in parts:
        for readings in _split(part):
            pieces.setdefault(readings.domain, []).append(readings)
    pa.default_memory_pool().release_unused()  # what reading took: as much as two domains
    for domain in list(pieces):
        yield _joined(domain, pieces.pop(domain))


def _joined(domain: str, pieces: Sequence[DeviceReadings]) -> DeviceReadings:
    return DeviceReadings(
        domain,
        np.concatenate([piece.time_ns for piece in pieces]),
        np.concatenate([piece.power_w for piece in pieces]),
        np.concatenate([piece.counter_j for piece in pieces]),
        np.concatenate([piece.lost for piece in pieces]),
        pieces[0].tick_s,
    )


def _split(part: pa.Table) -> Iterator[DeviceReadings]:
    """Sorted by domain once, then each domain is a slice."""
    part = part.unify_dictionaries()
    codes, domains = _texts(part["device_uuid"])
    small = codes.astype(np.uint16) if len(domains) < 2**16 else codes  # NumPy sorts 16 bits in linear time
    order = np.argsort(small, kind="stable")
    time_ns, power_w, counter_j = (
        _numbers(part[name].combine_chunks(), np.nan)[order] for name in ("time_ns", "power_w", "energy_counter_j")
    )
    error_codes, errors = _texts(part["error"])
    losses = np.array([error.startswith(GPU_LOST) for error in errors])
    lost = losses[error_codes][order] if losses.any() else np.broadcast_to(np.False_, order.size)
    end = 0
    for domain, count in zip(domains, np.bincount(codes, minlength=len(domains)), strict=True):
        begin, end = end, end + int(count)
        if count:
            here = slice(begin, end)
            tick_s = COUNTER_TICK_S.get(part["meter"][int(order[begin])].as_py())
            yield DeviceReadings(domain, time_ns[here], power_w[here], counter_j[here], lost[here], tick_s)


def _texts(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int32], list[str]]:
    """A column of texts as numbers, and the texts that they stand for; null is the text without letters."""
    array = column.combine_chunks()
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    return _numbers(encoded.indices, len(texts)), [*texts, ""]


def _numbers(array: pa.Array, missing: float) -> npt.NDArray[Any]:
    """With a number for null. Not by `to_numpy`, which loads pandas: a fifth of the time of ten million readings."""
    return np.from_dlpack(array.fill_null(missing) if array.null_count else array)


def of_domains(readings: pa.Table, domains: Collection[str]) -> pa.Table:
    """The rows of these domains."""
    inside = pc.is_in(readings["device_uuid"], pa.array(sorted(domains), pa.string()))
    return readings if pc.all(inside).as_py() else readings.filter(inside)


def between(readings: pa.Table, begin_ns: int, end_ns: int) -> pa.Table:
    """The rows of a stretch of time, its ends among them."""
    time_ns = readings["time_ns"].to_numpy()
    inside = (time_ns >= begin_ns) & (time_ns <= end_ns)
    return readings if inside.all() else readings.filter(pa.array(inside))


def last_temperatures(parts: Sequence[pa.Table], seconds: float) -> dict[str, list[tuple[float, float]]]:
    """Of each domain that tells its own: (seconds before its last reading, degC), of so many last seconds.

    `parts` as they came from one node, in order, none of them empty.
    """
    recent: list[pa.Table] = []
    for part in reversed(parts):
        recent.insert(0, part)
        if pc.min(part["time_ns"]).as_py() < pc.min(parts[-1]["time_ns"]).as_py() - 1e9 * seconds:
            break
    if not recent:
        return {}
    told, together = {}, pa.concat_tables(recent)
    for domain in pc.unique(together["device_uuid"]).to_pylist():
        rows = together.filter(pc.equal(together["device_uuid"], domain))
        since_s = 1e-9 * (rows["time_ns"].to_numpy() - rows["time_ns"][-1].as_py())
        celsius = rows["temperature_c"].to_numpy()
        known = ~np.isnan(celsius) & (since_s >= -seconds)
        if known.any():
            told[domain] = list(zip(since_s[known].tolist(), celsius[known].tolist(), strict=True))
    return told


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
