"""Readings as a sampler takes them of a device whose energy has a closed form, without waiting for it to be drawn.

The device is the fake library's (`FakeGpu`): its waveform, its counter's ticks and its sensor class.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.bench.energy.readings import DeviceReadings
from joulelaw.cluster.power.sampler import deadline_ns
from joulelaw.cluster.power.sensor import Sensor
from tests.fake_nvml.devices import FakeGpu

Floats = npt.NDArray[np.float64]
SECOND = 1_000_000_000
# How often a sensor looks, and over how long, in s (arXiv 2312.02741).
SENSORS = {"a100": (0.1, 0.025), "v100": (0.02, 0.01), "turing": (0.1, 0.1), "average": (0.1, 1.0)}
BURSTS_EVERY_S = 2.0


@dataclass(frozen=True)
class Simulated:
    """What was read of a device, and what a meter would know of it."""

    readings: DeviceReadings
    sensor: Sensor


def tick_times(gpu: FakeGpu, until_s: float) -> Floats:
    """Of the device's counter, from some before 0 on."""
    return np.array([gpu.tick_s(number) for number in range(-3, round(until_s / gpu.tick_ms * 1e3) + 3)])


def simulated(
    gpu: FakeGpu,
    rng: np.random.Generator,
    until_s: float,
    sensor: str = "a100",
    bursts: bool = True,
    ticks_s: Floats | None = None,
    counter: bool = True,
) -> Simulated:
    """Readings at 20 Hz and, in bursts, every ms around a tick every 2 s. `ticks_s` in place of the device's own."""
    ticks_s = tick_times(gpu, until_s) if ticks_s is None else ticks_s
    steady_s = [deadline_ns(count, 0, 50_000_000) / SECOND for count in range(round(20 * until_s))]
    closely_s = [
        start_s - rng.uniform(0.001, 0.003) + step * 0.00105
        for start_s in (ticks_s[np.searchsorted(ticks_s, at_s)] for at_s in np.arange(1, until_s - 1, BURSTS_EVERY_S))
        for step in range(6)
    ]
    at_s = np.sort(np.array(steady_s + (closely_s if bursts else [])))
    at_s += np.minimum(rng.exponential(3e-5, at_s.size), 2e-4)  # what reading takes
    at_s = np.unique(at_s)
    every_s, over_s = SENSORS[sensor]
    looked_s = np.floor((at_s - 0.3 * every_s) / every_s) * every_s + 0.3 * every_s
    power_w = [gpu.energy_j(look_s - over_s, look_s) / over_s for look_s in looked_s]
    shown_s = ticks_s[np.searchsorted(ticks_s, at_s, side="right") - 1]
    counter_j = [round(1e3 + gpu.energy_j(0.0, tick_s), 3) for tick_s in shown_s]
    nothing = np.full(at_s.size, np.nan)
    readings = DeviceReadings(
        gpu.uuid,
        np.round(at_s * SECOND).astype(np.int64),
        np.round(power_w, 3),
        np.array(counter_j) if counter else nothing,
        np.zeros(at_s.size, dtype=np.bool_),
    )
    tick_s = gpu.tick_ms / 1e3 * (1 + 3e-4 * rng.normal()) if counter else None
    return Simulated(readings, Sensor(tick_s, "", every_s, over_s, sensor))
