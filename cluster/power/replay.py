"""A recorded power trace, played against the clock: what was metered elsewhere runs through the whole program here.

The file, CSV or Parquet by its ending, has a row a reading: `time_s` (s, from any zero), `device` (text), `power_w`
(W), and where there are any `energy_counter_j` (J), `temperature_c` (degC), `boundary` (text, one for all rows).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.cluster.power.meter import DeviceLike, MeterKind, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor

NUMBERS = ("time_s", "power_w", "energy_counter_j", "temperature_c")
REQUIRED = ("time_s", "device", "power_w")
DEFAULT_BOUNDARY = "gpu"


@dataclass(frozen=True)
class Trace:
    """The rows of one recorded device, in order of time; `time_s` counts from the recording's first row."""

    time_s: tuple[float, ...]
    power_w: tuple[float | None, ...]
    energy_counter_j: tuple[float | None, ...]
    temperature_c: tuple[float | None, ...]


class ReplayMeter:
    """Gives each recorded row once, when it falls due, stamped with the time it fell due. See `open_replay`."""

    name = "replay"
    kind: MeterKind = "replayed"

    def __init__(
        self, traces: Mapping[str, Trace], boundary: str, source: str, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self.boundary = boundary
        self.device_uuids = tuple(traces)
        self.covers: Mapping[str, tuple[str, ...]] = {uuid: (uuid,) for uuid in traces}
        self.description: Mapping[str, str] = dict.fromkeys(traces, f"replay of {source}")
        self.sensors: Mapping[str, Sensor] = {}
        self.surroundings: Mapping[str, Surrounding] = {}
        self._traces = traces
        self._next_row = dict.fromkeys(traces, 0)
        self._now_ns = now_ns
        self._begin_ns = now_ns()

    def read(self) -> list[Reading]:
        now_ns = self._now_ns()
        return [reading for uuid, trace in self._traces.items() for reading in self._due(uuid, trace, now_ns)]

    def _due(self, uuid: str, trace: Trace, now_ns: int) -> list[Reading]:
        row = self._next_row[uuid]
        if row == len(trace.time_s):
            return [Reading(uuid, now_ns, error="the recording has ended")]
        due = []
        while row < len(trace.time_s) and (time_ns := self._begin_ns + round(trace.time_s[row] * 1e9)) <= now_ns:
            power_w, counter_j = trace.power_w[row], trace.energy_counter_j[row]
            error = "recorded without a value" if power_w is None and counter_j is None else ""
            due.append(Reading(uuid, time_ns, power_w, counter_j, trace.temperature_c[row], error))
            row += 1
        self._next_row[uuid] = row
        return due

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """A recording does not change with what runs now."""

    def close(self) -> None:
        """The file was read whole."""


def open_replay(
    devices: Sequence[DeviceLike], path: str | Path | None, now_ns: Callable[[], int] = time.monotonic_ns
) -> ReplayMeter:
    """Play a recording for these devices: by UUID where the file has all of them, otherwise in the file's order.

    Raises InputError for a file that is missing, unreadable, empty, not ordered, or has too few devices.
    """
    path = Path(path or "")
    traces, boundary = read_traces(path)
    uuids = [device.uuid for device in devices]
    names = uuids if set(uuids) <= traces.keys() else list(traces)
    if len(names) < len(uuids):
        what = f"{len(traces)} recorded device(s) for {len(uuids)} device(s) of this node"
        raise InputError(what, where=str(path), remedy="record as many devices as are to be played")
    played = {uuid: traces[name] for uuid, name in zip(uuids, names, strict=False)}
    return ReplayMeter(played, boundary, path.name, now_ns)


def read_traces(path: Path) -> tuple[dict[str, Trace], str]:
    """The recording's devices in order of first appearance, and the boundary of its joules."""
    columns = _read_columns(path)
    if missing := [name for name in REQUIRED if name not in columns]:
        raise InputError(
            f"no column {', '.join(missing)}", where=str(path), remedy=f"columns are {', '.join(REQUIRED)}"
        )
    if not columns["time_s"]:
        raise InputError("the recording is empty", where=str(path), remedy="record at least one reading")
    for name in NUMBERS:
        columns[name] = [_number(value, name, path) for value in columns.get(name, [None] * len(columns["time_s"]))]
    rows: dict[str, list[int]] = {}
    for row, device in enumerate(columns["device"]):
        if device is None or columns["time_s"][row] is None:
            raise InputError("a row without time or device", where=f"{path} row {row + 1}", remedy="fill both in")
        rows.setdefault(str(device), []).append(row)
    begin_s = min(columns["time_s"])
    traces = {device: _trace(columns, mine, begin_s, f"{path} device {device}") for device, mine in rows.items()}
    return traces, _boundary(columns, path)


def _trace(columns: dict[str, list[Any]], rows: list[int], begin_s: float, where: str) -> Trace:
    time_s, power_w, counter_j, temperature_c = (tuple(columns[name][row] for row in rows) for name in NUMBERS)
    if any(later < earlier for earlier, later in pairwise(time_s)):
        raise InputError("time_s goes backwards", where=where, remedy="sort the recording by time")
    if any(watts is not None and watts < 0 for watts in power_w):
        raise InputError("power_w is negative", where=where, remedy="power is in watts, at least 0")
    return Trace(tuple(at_s - begin_s for at_s in time_s), power_w, counter_j, temperature_c)


def _boundary(columns: dict[str, list[Any]], path: Path) -> str:
    boundaries = {str(value) for value in columns.get("boundary", [DEFAULT_BOUNDARY])}
    if len(boundaries) > 1:
        what = f"several boundaries: {', '.join(sorted(boundaries))}"
        raise InputError(what, where=str(path), remedy="a recording has one boundary")
    return boundaries.pop()


def _number(value: Any, name: str, path: Path) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(f"{name} has {value!r}", where=str(path), remedy="finite numbers, or nothing where unknown")
    return float(value)


def _read_columns(path: Path) -> dict[str, list[Any]]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    readers = {".csv": pyarrow.csv.read_csv, ".parquet": pyarrow.parquet.read_table}
    if path.suffix not in readers:
        what = f"a recording ends in .csv or .parquet, not {path.suffix!r}"
        raise InputError(what, where=str(path), remedy="write it as one of these")
    try:
        columns: dict[str, list[Any]] = readers[path.suffix](path).to_pydict()
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"cannot be read: {error}", where=str(path), remedy="give a CSV or Parquet file") from error
    return columns
