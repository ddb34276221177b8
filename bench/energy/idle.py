"""The power of every metered domain of a node while no rank runs there: what net energy leaves out.

An estimate has an idle power of 0 W by construction: it counts the CPU time of ranks, and there are none. A replayed
trace has none to tell of, as its begin is somebody else's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.bench.energy.readings import DeviceReadings, between, from_tables, last_temperatures
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.streams.metering import ClockOffset, MeterInfo

# Readings on either side of the stretch that counts, so that the ticks around its edges are among them.
BEYOND_S = 0.25


@dataclass(frozen=True)
class Idle:
    """Of one domain: watts with their random part as one standard error; None where no reading told."""

    power_w: float | None = None
    stderr_w: float | None = None
    temperature_c: float | None = None


NOTHING = Idle(0.0, 0.0)
IdleByDomain = Mapping[tuple[str, str], Idle]


class IdlePhase:
    """A node's stretch without a trial, from `begin_s` (time.monotonic) on: as long as a meter that measures needs for
    `seconds`, and of no length with any other."""

    def __init__(self, meter: MeterInfo, seconds: float, offset: ClockOffset, begin_s: float) -> None:
        self._meter, self._seconds = meter, seconds
        self._measures = meter.kind == "measured" and seconds > 0
        self._end_s = begin_s + seconds + 2 * BEYOND_S if self._measures else float("-inf")
        self._begin_ns = round(1e9 * begin_s) + offset.offset_ns + offset.error_ns
        self._parts: list[pa.Table] = []

    def add(self, readings: pa.RecordBatch) -> None:
        """New readings of the node; those from before the stretch do not count: ranks of a probe, say."""
        if self._measures and (new := between(pa.Table.from_batches([readings]), self._begin_ns, 2**63 - 1)):
            self._parts.append(new)

    def is_over(self, drained_s: float) -> bool:
        """Whether all of it was read, once the node's readings until then have been drained."""
        return drained_s >= self._end_s

    def result(self) -> dict[str, Idle]:
        """By domain, surroundings among them; without those that nothing is known of."""
        if self._meter.kind == "estimated":
            return dict.fromkeys(self._meter.covers, NOTHING)
        warm = {domain: told[-1][1] for domain, told in last_temperatures(self._parts, self._seconds).items()}
        return {
            domain: _idle(readings, self._meter.sensors.get(domain), warm.get(domain))
            for domain, readings in from_tables(self._parts).items()
        }


def _idle(readings: DeviceReadings, sensor: Sensor | None, temperature_c: float | None) -> Idle:
    beyond_ns = round(BEYOND_S * 1e9)
    begin_ns, end_ns = int(readings.time_ns[0]) + beyond_ns, int(readings.time_ns[-1]) - beyond_ns
    if end_ns <= begin_ns:
        return Idle(temperature_c=temperature_c)
    energy: DeviceEnergy = window_energy(readings, begin_ns, end_ns, sensor)
    if energy.energy_j is None or energy.counter_resets or energy.lost:
        return Idle(temperature_c=temperature_c)
    seconds = 1e-9 * (end_ns - begin_ns)
    stderr_w = None if energy.stderr_j is None else energy.stderr_j / seconds
    return Idle(energy.energy_j / seconds, stderr_w, temperature_c)
