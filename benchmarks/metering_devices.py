"""The devices that metering is scored on: five loads by four kinds of sensor, with their true energy in closed form.

Times, powers and phases are drawn, the same in every run. Counters tick as often as such cards' do (20 to 100 ms), each
with a phase of its own, and every third is a little irregular.
"""

import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.fake_nvml.devices import FakeGpu  # a path of its own: benchmarks are scripts

LOADS = ("constant", "slow square", "fast square", "ramp", "bursts")
TICKS_MS = {"a100": 100.0, "v100": 20.0, "turing": 50.0, "h100": 100.0}
LIMIT_W = 400.0
# Periods so near to what a sensor's looks repeat that the trace hardly moves: of the looks' interval, and how far off.
BEATS = ((1.0, 0.0), (0.5, 0.0), (2.0, 0.0), (1.0, 2e-4), (1.0, -2e-3), (0.5, 1e-3), (1 / 3, 0.0), (1.0, 1e-2))
UPDATES_MS = {"a100": 100.0, "v100": 20.0, "turing": 100.0, "h100": 100.0}


def device(load: str, sensor: Any, draw: Random, **settings: Any) -> FakeGpu:
    """A device with a load of this kind."""
    low_w, high_w = draw.uniform(60, 120), draw.uniform(250, 390)
    tick_ms = TICKS_MS[sensor]
    gpu = FakeGpu(
        f"GPU-{sensor}-{load.replace(' ', '-')}-{draw.getrandbits(32):08x}",
        low_w=low_w,
        high_w=high_w,
        phase_ms=draw.uniform(0, 5000),
        sensor=sensor,
        tick_ms=tick_ms,
        tick_phase_ms=draw.uniform(0, tick_ms),
        tick_jitter_ms=draw.choice([0.0, 0.0, 4.0]),
        seed=draw.getrandbits(16),
        settings={"limit_w": LIMIT_W, "sensor_phase_ms": draw.uniform(0, 100), **settings},
    )
    match load:
        case "constant":
            return replace(gpu, wave="constant", low_w=high_w)
        case "slow square":
            return replace(gpu, period_ms=draw.uniform(500, 4000), duty=draw.uniform(0.3, 0.7))
        case "fast square":
            return replace(gpu, period_ms=draw.uniform(15, 95), duty=draw.uniform(0.3, 0.7))
        case "ramp":
            return replace(gpu, wave="ramp", period_ms=draw.uniform(4000, 40000), duty=draw.uniform(0.3, 0.7))
        case _:
            return _bursts(gpu, draw)


def _bursts(gpu: FakeGpu, draw: Random) -> FakeGpu:
    at_ms, bursts = 0.0, []
    for _ in range(draw.randint(4, 8)):
        length_ms = draw.uniform(40, 400)
        bursts.append((at_ms, length_ms))
        at_ms += length_ms + draw.uniform(40, 400)
    return replace(gpu, wave="burst", bursts=tuple(bursts), period_ms=at_ms + draw.uniform(100, 600))


def devices(sensors: tuple[str, ...], seed: int, counter: bool, gains: tuple[float, ...] = (1.0,)) -> list[FakeGpu]:
    """One device for each load and sensor; gains in turn."""
    draw = Random(seed)
    pairs = [(load, sensor) for sensor in sensors for load in LOADS]
    return [
        device(load, sensor, draw, counter=int(counter), gain=gains[index % len(gains)])
        for index, (load, sensor) in enumerate(pairs)
    ]


def beating(sensors: tuple[str, ...], seed: int) -> list[FakeGpu]:
    """Fast squares in step with the sensor, or nearly so, on devices without a counter."""
    draw, found = Random(seed), []
    for sensor in sensors:
        for times, off in BEATS:
            gpu = device("fast square", sensor, draw, counter=0)
            found.append(replace(gpu, period_ms=UPDATES_MS[sensor] * times * (1 + off)))
    return found


def load_of(gpu: FakeGpu) -> str:
    """Which of LOADS a device was made for."""
    return next(load for load in LOADS if load.replace(" ", "-") in gpu.uuid)


def true_j(gpu: FakeGpu, origin_ns: int, begin_ns: int, end_ns: int) -> float:
    """Joules that the device drew between two times of CLOCK_MONOTONIC."""
    return gpu.energy_j((begin_ns - origin_ns) / 1e9, (end_ns - origin_ns) / 1e9)
