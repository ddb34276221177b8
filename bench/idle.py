"""The power of every metered domain while none of a study's ranks runs: what net energy leaves out.

An estimate has an idle power of 0 W by construction: it counts the CPU time of ranks, and there are none. A replayed
trace has none to tell of, as its begin is somebody else's.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from joulelaw.bench.energy import DeviceEnergy, window_energy
from joulelaw.bench.power_feed import PowerFeed
from joulelaw.bench.readings import DeviceReadings, from_tables, last_temperatures
from joulelaw.cluster.power.sensor import Sensor

# Readings on either side of the stretch that counts, so that the ticks around its edges are among them.
BEYOND_S = 0.25
_DRAIN_EVERY_S = 0.1


@dataclass(frozen=True)
class Idle:
    """Of one domain: watts with their random part as one standard error; None where no reading told."""

    power_w: float | None = None
    stderr_w: float | None = None
    temperature_c: float | None = None


NOTHING = Idle(0.0, 0.0)
IdleByDomain = Mapping[tuple[str, str], Idle]


def measure_idle(
    feed: PowerFeed, seconds: float, sleep: Callable[[float], None] = time.sleep
) -> dict[tuple[str, str], Idle]:
    """By node and domain, surroundings among them; waits so long where a meter measures, and for no other."""
    measuring = {node: meter for node, meter in feed.meters.items() if meter.kind == "measured"}
    idle = {
        (node, domain): NOTHING
        for node, meter in feed.meters.items()
        if meter.kind == "estimated"
        for domain in meter.covers
    }
    if seconds <= 0 or not measuring:
        return idle
    seen: dict[str, list[pa.Table]] = {node: [] for node in measuring}
    feed.drain_power()  # what came before: ranks of a probe, say
    until_s = time.monotonic() + seconds + 2 * BEYOND_S
    while time.monotonic() < until_s:
        sleep(_DRAIN_EVERY_S)
        for node, new in feed.drain_power().items():
            if new and node in seen:
                seen[node].append(pa.Table.from_batches([new]))
    for node, meter in measuring.items():
        warm = {domain: told[-1][1] for domain, told in last_temperatures(seen[node], seconds).items()}
        for domain, readings in from_tables(seen[node]).items():
            idle[node, domain] = _idle(readings, meter.sensors.get(domain), warm.get(domain))
    return idle


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
