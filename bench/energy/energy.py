"""Readings and a window become joules: per device from its counter, with the power trace integrated beside it.

Pure functions. An energy that cannot be told is None, never 0, and `checks` says why. The counter comes first
(`counter_energy`); the trace (`trace_energy`) is its check, and the source where a device has no counter.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from joulelaw.bench.energy.counter_energy import counter_energy
from joulelaw.bench.energy.readings import DeviceReadings
from joulelaw.bench.energy.trace_energy import those, trace_energy
from joulelaw.bench.known import total
from joulelaw.cluster.power.sensor import Sensor


@dataclass(frozen=True)
class DeviceEnergy:
    """The joules of one metered domain over a window, and the facts its verdict needs.

    A meter that stood still has no energy to tell: `frozen`, and None, for no device that works uses 0 J.
    """

    domain: str
    energy_j: float | None = None  # from `source`
    source: Literal["counter", "trace", ""] = ""
    counter_j: float | None = None
    trace_j: float | None = None
    stderr_j: float | None = None  # random part only: a sensor's gain is not in it
    readings: int = 0  # inside the window, with a number
    ticks: int = 0  # of the counter, inside the window
    largest_gap_s: float = math.inf  # without news of the source: between ticks, or between readings of power
    counter_resets: int = 0
    clock_jumps: int = 0  # readings stamped earlier than the one before
    lost: bool = False  # the GPU, inside the window
    frozen: bool = False  # 0 J or less

    @property
    def disagreement(self) -> float | None:
        """(trace - counter) / counter, or None without both."""
        return _disagreement(self.trace_j, self.counter_j)


@dataclass(frozen=True)
class GroupEnergy:
    """The joules of a group: None as soon as one of its domains has none, or is shared with devices outside."""

    energy_j: float | None
    trace_j: float | None
    stderr_j: float | None
    disagreement: float | None
    devices: tuple[DeviceEnergy, ...]
    shared_domains: tuple[str, ...]


def group_energy(
    readings: Mapping[str, DeviceReadings],
    group: Sequence[str],
    begin_ns: int,
    end_ns: int,
    covers: Mapping[str, Sequence[str]] | None = None,
    sensors: Mapping[str, Sensor] | None = None,
    limits_w: Mapping[str, tuple[float, float | None]] | None = None,
) -> GroupEnergy:
    """Joules of the devices `group` of one node over a window in that node's CLOCK_MONOTONIC.

    `readings` are by domain; `covers` is the meter's: which devices' energy each domain holds. Without it each device
    is its own domain. `sensors` and `limits_w`, by domain, are those of `window_energy`.
    """
    covers = {uuid: (uuid,) for uuid in group} if covers is None else covers
    members = set(group)
    domains = [domain for domain, devices in covers.items() if members & set(devices)]
    unmetered = members - {device for domain in domains for device in covers[domain]}
    known, limits = sensors or {}, limits_w or {}
    devices = [
        window_energy(readings[domain], begin_ns, end_ns, known.get(domain), limits.get(domain, (0.0, None)))
        if domain in readings
        else DeviceEnergy(domain)
        for domain in [*domains, *sorted(unmetered)]
    ]
    return _total(devices, [domain for domain in domains if not set(covers[domain]) <= members])


def combine(nodes: Sequence[GroupEnergy]) -> GroupEnergy:
    """The joules of a group that spans nodes, each with its own window on its own clock."""
    return _total(
        [device for node in nodes for device in node.devices],
        [domain for node in nodes for domain in node.shared_domains],
    )


def window_energy(
    readings: DeviceReadings,
    begin_ns: int,
    end_ns: int,
    sensor: Sensor | None = None,
    limits_w: tuple[float, float | None] = (0.0, None),
) -> DeviceEnergy:
    """Joules of one domain between two times of its node's CLOCK_MONOTONIC.

    From the counter wherever any reading has one, otherwise from the trace. `readings` should reach a quarter of a
    second or more beyond both ends of the window, so that the ticks around its edges are among them; with some seconds
    more the ticks are known more closely. `sensor` is what the meter knows of the domain. `limits_w` is what the device
    draws at least (idle) and at most (its power limit), None where unknown: it bounds what a sensor does not see.
    """
    time_s = (readings.time_ns - begin_ns) / 1e9  # the subtraction is exact, in int64
    span_s = (end_ns - begin_ns) / 1e9
    inside = (time_s >= 0) & (time_s <= span_s)
    has_power, has_counter = ~np.isnan(readings.power_w), ~np.isnan(readings.counter_j)
    facts = DeviceEnergy(
        readings.domain,
        source="counter" if has_counter.any() else "trace" if has_power.any() else "",
        readings=int(np.count_nonzero(inside & (has_power | has_counter))),
        clock_jumps=int(np.count_nonzero(readings.time_ns[1:] < readings.time_ns[:-1])),
        lost=bool(np.any(readings.lost & inside)),
    )
    if facts.clock_jumps or facts.lost or span_s <= 0:
        return facts
    power_s, power_w = those(has_power, time_s, readings.power_w)
    trace = trace_energy(power_s, power_w, span_s, sensor, limits_w)
    if facts.source != "counter":
        gap_s = trace.largest_gap_s
        return _thawed(
            replace(
                facts, energy_j=trace.energy_j, trace_j=trace.energy_j, stderr_j=trace.stderr_j, largest_gap_s=gap_s
            )
        )
    counter_s, counter_j = those(has_counter, time_s, readings.counter_j)
    probed_s = sensor.counter_tick_s if sensor else None
    counter = counter_energy(counter_s, counter_j, span_s, readings.tick_s, (power_s, power_w), probed_s)
    return _thawed(
        replace(
            facts,
            energy_j=counter.energy_j,
            counter_j=counter.energy_j,
            trace_j=trace.energy_j,
            stderr_j=counter.stderr_j,
            ticks=counter.ticks,
            largest_gap_s=counter.largest_gap_s,
            counter_resets=counter.resets,
        )
    )


def _thawed(energy: DeviceEnergy) -> DeviceEnergy:
    """The energy, unless it is 0 J or less."""
    if energy.energy_j is None or energy.energy_j > 0:
        return energy
    return replace(energy, energy_j=None, stderr_j=None, frozen=True)


def _total(devices: list[DeviceEnergy], shared: list[str]) -> GroupEnergy:
    energy_j, trace_j, counter_j, variance = (
        None if shared else total(values)
        for values in (
            [device.energy_j for device in devices],
            [device.trace_j for device in devices],
            [device.counter_j for device in devices],
            [None if device.stderr_j is None else device.stderr_j**2 for device in devices],
        )
    )
    stderr_j = None if energy_j is None or variance is None else math.sqrt(variance)
    return GroupEnergy(energy_j, trace_j, stderr_j, _disagreement(trace_j, counter_j), tuple(devices), tuple(shared))


def _disagreement(trace_j: float | None, counter_j: float | None) -> float | None:
    return None if trace_j is None or not counter_j else (trace_j - counter_j) / counter_j
