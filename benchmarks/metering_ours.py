"""Our side of benchmarks/metering.py: a recording that windows are cut from, and `joulelaw meter`'s windows, live.

    python benchmarks/metering_ours.py record SECONDS OUT
    python benchmarks/metering_ours.py meter PLAN.json

`record` leaves the readings of all devices that NVML shows, as a study's sampler takes them, and what the meter knows
of their sensors. `meter` prints windows as metering_peers.py does.
"""

import json
import multiprocessing
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.bench.energy.readings import DeviceReadings, from_readings
from joulelaw.bench.meter.devices import node_devices
from joulelaw.bench.meter.window import BEYOND_S, measured
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import Meter, MeterOptions, Reading, open_meter
from joulelaw.cluster.power.sampler import Sampler
from joulelaw.cluster.power.sensor import Sensor

RATE_HZ = 20.0
DRAIN_EVERY_S = 1.0


@dataclass(frozen=True)
class Recording:
    """What was read from one domain after the other, the times between which windows may lie, and the cost."""

    readings: list[Reading]
    sensors: Mapping[str, Sensor]
    begin_ns: int
    end_ns: int
    cpu_share: float  # CPU time of the sampling thread over the clock's
    missed: int

    def devices(self) -> dict[str, DeviceReadings]:
        return from_readings(self.readings, "nvml")


def cut(readings: DeviceReadings, sensor: Sensor | None, begin_ns: int, end_ns: int, limit_w: float) -> DeviceEnergy:
    """The joules of any window, with what is known of the device: its sensor and its power limit."""
    return window_energy(readings, begin_ns, end_ns, sensor, (0.0, limit_w))


def opened(devices: Sequence[Any] | None = None) -> Meter:
    return open_meter(devices or node_devices(), MeterOptions(kind="nvml"))


def record(seconds: float, out: Path) -> None:
    readings: list[Reading] = []
    meter = opened()
    with Sampler(meter, RATE_HZ) as sampler:
        begin_ns, cpu_s = time.monotonic_ns(), sampler.cpu_s
        while time.monotonic_ns() < begin_ns + seconds * 1e9:
            time.sleep(DRAIN_EVERY_S)
            readings += sampler.drain()
        end_ns = time.monotonic_ns()
        share = (sampler.cpu_s - cpu_s) / ((end_ns - begin_ns) / 1e9)
    readings += sampler.drain()
    recording = Recording(readings, dict(meter.sensors), begin_ns, end_ns, share, sampler.missed)
    out.write_bytes(pickle.dumps(recording))


def meter(plan: Sequence[tuple[float, float, float]]) -> None:
    """One device a window, as its edges lie on that device's ticks; all devices at the same time, each in a process."""
    devices = node_devices()
    with ProcessPoolExecutor(len(devices), multiprocessing.get_context("fork")) as processes:
        by_device = list(processes.map(_all_metered, devices, [plan] * len(devices)))
    found = []
    for number, (nominal_s, _, _) in enumerate(plan):
        mine = [windows[number] for windows in by_device]
        found.append({"nominal_s": nominal_s, **{name: [each[name] for each in mine] for name in mine[0]}})
    print(json.dumps(found), flush=True)


def _all_metered(device: Device, plan: Sequence[tuple[float, float, float]]) -> list[dict[str, Any]]:
    return [_metered(device, *each) for each in plan]


def _metered(device: Device, nominal_s: float, length_s: float, pause_s: float) -> dict[str, Any]:
    """As `joulelaw meter --seconds` does it."""
    time.sleep(pause_s)
    with measured([device], MeterOptions(kind="nvml"), of="devices") as window:
        left_s = length_s - (time.monotonic_ns() - window.begin_ns) / 1e9
        time.sleep(max(0.0, left_s - BEYOND_S))
        window.expect_end(BEYOND_S)
        time.sleep(BEYOND_S)
    (found,) = window.result.devices
    begin_ns, end_ns = window.result.begin_ns, window.result.end_ns
    return {"begin_ns": begin_ns, "end_ns": end_ns, "joules": found.energy_j, "stderr_j": found.energy_stderr_j}


if __name__ == "__main__":
    if sys.argv[1] == "record":
        record(float(sys.argv[2]), Path(sys.argv[3]))
    else:
        meter(json.loads(Path(sys.argv[2]).read_text()))
