"""The joules of a live training: a running sum to be shown at any time, and a stretch's energy as trials have it.

A thread of its own takes what the sampler has read, adds it up, and keeps the readings around those stretches that may
become the measured window; all others go, so that a training of weeks needs no more memory than one of an hour.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from joulelaw.bench.energy.energy import GroupEnergy, group_energy
from joulelaw.bench.energy.readings import from_tables, power_table
from joulelaw.bench.known import total
from joulelaw.bench.meter.window import BEYOND_S
from joulelaw.bench.trial.conditions import Conditions, conditions_of
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import Meter, Reading
from joulelaw.cluster.power.sampler import Sampler

# Readings so far beyond a window tell where the ticks around its edges are (see docs/metering.md).
AROUND_S = 10.0
_TAKE_EVERY_S = 1.0
_PRUNE_EVERY = 10
# Readings become a table in lots of at least so many: making one costs as much as a hundred readings.
_LOT = 512
_ANSWER_S = 2.0
Spans = Sequence[tuple[int, int | None]]


@dataclass(frozen=True)
class SoFar:
    """Joules between two times of CLOCK_MONOTONIC, the first being when metering began; None where a device did not
    tell."""

    energy_j: float | None
    begin_ns: int
    time_ns: int


class RunningJoules:
    """Adds up what each domain used: by its counter, and where it has none by each power until the next reading.

    To be shown while a training runs. A counter that goes back makes the sum unknown for good.
    """

    def __init__(self, domains: Iterable[str]) -> None:
        self._joules: dict[str, float | None] = dict.fromkeys(domains, 0.0)
        self._last: dict[str, Reading] = {}
        self._counts: set[str] = set()
        self.begin_ns = 0
        self.time_ns = 0

    def add(self, readings: Iterable[Reading]) -> None:
        """In the order in which they were taken; those of other domains are left out."""
        for reading in readings:
            domain = reading.device_uuid
            if domain not in self._joules:
                continue
            counts = reading.energy_counter_j is not None
            if not counts and (reading.power_w is None or domain in self._counts):
                continue
            if counts and domain not in self._counts:
                self._counts.add(domain)
                self._last.pop(domain, None)
            before, self._last[domain] = self._last.get(domain), reading
            self.begin_ns = self.begin_ns or reading.time_ns
            self.time_ns = max(self.time_ns, reading.time_ns)
            if before is not None:
                self._joules[domain] = _plus(self._joules[domain], _between(before, reading))

    @property
    def has_counters(self) -> bool:
        """Whether every domain tells joules by itself."""
        return self._counts == self._joules.keys()

    @property
    def joules(self) -> float | None:
        """Of all domains; None where one has told nothing, or what cannot be."""
        known = total(self._joules[domain] if domain in self._last else None for domain in self._joules)
        return known or None  # no device that works uses 0 J


def _between(before: Reading, reading: Reading) -> float | None:
    if before.energy_counter_j is not None and reading.energy_counter_j is not None:
        used_j = reading.energy_counter_j - before.energy_counter_j
        return used_j if used_j >= 0 else None
    return None if before.power_w is None else before.power_w * 1e-9 * (reading.time_ns - before.time_ns)


def _plus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


class LiveMeter:
    """Meters the devices of a training on one node, from construction to `stop`.

    `spans` gives the stretches of time whose readings are to be kept; an open end is now.
    """

    def __init__(self, meter: Meter, devices: Sequence[Device], rate_hz: float, spans: Callable[[], Spans]) -> None:
        self.meter, self.devices = meter, devices
        self.cpu_s = 0.0
        self._spans = spans
        self._sampler = Sampler(meter, rate_hz)
        self._running = RunningJoules(meter.covers)
        self._parts: list[pa.Table] = []
        self._waiting: list[Reading] = []
        self._takes = 0
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="joulelaw-live", daemon=True)
        self._thread.start()

    def watch(self, pids: Mapping[str, Sequence[int]]) -> None:
        """Names the training's processes, by device: others are foreign there, and an estimate counts no others."""
        for uuid, its in pids.items():
            self._sampler.watch(uuid, its)

    def so_far(self) -> SoFar:
        """As of the last second."""
        with self._lock:
            return SoFar(self._running.joules, self._running.begin_ns, self._running.time_ns)

    def look_closely(self, seconds: float) -> None:
        """The ticks of counters will be needed closely: an edge of a stretch is near."""
        if self.meter.kind == "measured":
            self._sampler.look_closely(seconds)

    @property
    def beyond_s(self) -> float:
        """How far beyond an edge to read: power that is an average over a second tells of it a second later."""
        averaged = max((each.power_averaged_s or 0.0 for each in self.meter.sensors.values()), default=0.0)
        return BEYOND_S + (0.0 if self._running.has_counters else averaged)

    def wait_past(self, time_ns: int) -> None:
        """Until readings have come of after a time, or none will come."""
        until_ns = time_ns + round(_ANSWER_S * 1e9)
        while self.so_far().time_ns <= time_ns and time.monotonic_ns() < until_ns:
            time.sleep(0.02)
            self._take()

    def energy(self, begin_ns: int, end_ns: int) -> tuple[GroupEnergy, Conditions]:
        """Joules of the devices between two times of kept readings, and what was with the devices meanwhile."""
        with self._lock:
            self._put()
            parts = list(self._parts)
        uuids = [device.uuid for device in self.devices]
        meter = self.meter
        domains = [name for name, covered in meter.covers.items() if set(covered) & set(uuids)]
        energy = group_energy(from_tables(parts), uuids, begin_ns, end_ns, meter.covers, meter.sensors)
        return energy, conditions_of(parts, domains, begin_ns, end_ns)

    def readings(self, begin_ns: int, end_ns: int) -> pa.Table:
        """Kept readings between two times and around them, as rows of the `power` table without its key and node."""
        around_ns = round(AROUND_S * 1e9)
        with self._lock:
            self._put()
            whole = pa.concat_tables([power_table(self.meter.name, []), *self._parts])
        time_ns = whole["time_ns"].to_numpy()
        return whole.filter(pa.array((time_ns >= begin_ns - around_ns) & (time_ns <= end_ns + around_ns)))

    def stop(self) -> None:
        """Reads no more; what was read stays."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join(_ANSWER_S)
        self._sampler.stop()
        self._take()

    @property
    def whole_cpu_s(self) -> float:
        """CPU time of its threads so far."""
        return self.cpu_s + self._sampler.cpu_s

    def _run(self) -> None:
        while not self._over.wait(_TAKE_EVERY_S):
            self._take()
            self.cpu_s = time.thread_time()

    def _take(self) -> None:
        with self._lock:
            readings = self._sampler.drain()
            self._running.add(readings)
            self._waiting += readings
            if len(self._waiting) >= _LOT:
                self._put()
            self._takes += 1
            if self._takes % _PRUNE_EVERY == 0:
                self._prune()

    def _put(self) -> None:
        if self._waiting:
            self._parts.append(power_table(self.meter.name, self._waiting))
            self._waiting = []

    def _prune(self) -> None:
        """Lets go of readings that no stretch needs; those of the last moments are needed by a stretch to come."""
        around_ns, now_ns = round(AROUND_S * 1e9), time.monotonic_ns()
        wanted = [(begin - around_ns, (now_ns if end is None else end) + around_ns) for begin, end in self._spans()]
        wanted.append((now_ns - around_ns, now_ns))
        self._parts = [part for part in self._parts if _touches(part, wanted)]


def _touches(part: pa.Table, wanted: Iterable[tuple[int, int]]) -> bool:
    first, last = part["time_ns"][0].as_py(), part["time_ns"][-1].as_py()
    return any(first <= end and last >= begin for begin, end in wanted)
