"""The sampler's processor time at 20 Hz on 8 devices: NVML's on the fake library, whose calls cost next to nothing
themselves, with close looks and conditions; and replayed ones, beside a plain loop that appends to a CSV.

    python benchmarks/sampler.py [--seconds 30]

Each case has a new interpreter. Prints Markdown and, last, one JSON object.
"""

import argparse
import csv
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from measuring import Cost, answer, in_fresh_process, machine, peak_mb, table

from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import FakeGpu, SensorClass

RATE_HZ, DEVICES = 20.0, 8
DRAIN_EVERY_S = 1.0  # as a study's driver does


@dataclass(frozen=True)
class Gpu:
    uuid: str
    kind: Literal["cuda", "cpu"] = "cuda"
    cores: tuple[int, ...] = ()


def record(path: Path, seconds: float) -> None:
    """A recording of 8 devices with power, counter and temperature, a little longer than it is played."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time_s", "device", "power_w", "energy_counter_j", "temperature_c"])
        for tick in range(round((seconds + 10) * RATE_HZ)):
            for device in range(DEVICES):
                power_w = round(350 + 100 * math.sin(tick / 40 + device), 3)
                writer.writerow([tick / RATE_HZ, f"GPU-{device}", power_w, round(17.5 * tick + device, 3), 60])


def gpus() -> list[FakeGpu]:
    """Ticks and sensors of all classes, each with a phase of its own."""
    kinds: list[tuple[SensorClass, float]] = [("a100", 100.0), ("v100", 20.0), ("turing", 50.0), ("h100", 100.0)]
    return [
        FakeGpu(
            f"GPU-{device}", 100.0, 400.0, 370.0 + device, tick_ms=tick_ms, tick_phase_ms=7.1 * device, sensor=sensor
        )
        for device, (sensor, tick_ms) in enumerate(kinds * (DEVICES // len(kinds)))
    ]


def open_meter(recording: Path) -> Any:
    from joulelaw.cluster.power.replay import open_replay

    return open_replay([Gpu(f"GPU-{device}") for device in range(DEVICES)], recording)


def ours(recording: Path, seconds: float, take: Callable[[list[Any]], None] = lambda readings: None) -> None:
    """The sampler's thread, drained once a second, as a node's sampler is."""
    sampled(open_meter(recording), seconds, take)


def ours_nvml(recording: Path, seconds: float) -> None:
    """The same on GPUs whose counters tick: each is looked at closely about every 2 s."""
    from joulelaw.cluster.power.nvml import open_nvml

    sampled(open_nvml([Gpu(f"GPU-{device}") for device in range(DEVICES)]), seconds)


def sampled(meter: Any, seconds: float, take: Callable[[list[Any]], None] = lambda readings: None) -> None:
    from joulelaw.cluster.power.sampler import Sampler

    wall_s, cpu_s, got = time.perf_counter(), time.process_time(), 0
    sampler = Sampler(meter, RATE_HZ)
    while time.perf_counter() - wall_s < seconds:
        time.sleep(DRAIN_EVERY_S)
        readings = sampler.drain()
        take(readings)
        got += len(readings)
    cost = Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s, peak_mb())
    answer(cost, thread_cpu_s=sampler.cpu_s, readings=got, missed=sampler.missed)
    sampler.stop()


def ours_written(recording: Path, seconds: float) -> None:
    """The same, and what a study's driver does with the readings: Parquet that can be read at any moment."""
    from joulelaw.bench.dataset.dataset import TrialTables
    from joulelaw.bench.energy.readings import power_table

    tables = TrialTables(recording.parent, "trial", 0)

    def take(readings: list[Any]) -> None:
        part = power_table("replay", readings)
        tables.add_power("node", dict(zip(part.column_names, part.columns, strict=True)))

    ours(recording, seconds, take)


def theirs(recording: Path, seconds: float) -> None:
    """Poll, write, flush, sleep: the same meter."""
    meter = open_meter(recording)
    wall_s, cpu_s, got, polls = time.perf_counter(), time.process_time(), 0, 0
    with recording.with_suffix(".log.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        while time.perf_counter() - wall_s < seconds:
            for reading in meter.read():
                writer.writerow([reading.device_uuid, reading.time_ns, reading.power_w, reading.energy_counter_j,
                                 reading.temperature_c, reading.error])  # fmt: skip
                got += 1
            file.flush()
            polls += 1
            time.sleep(1 / RATE_HZ)
    cost = Cost(time.perf_counter() - wall_s, time.process_time() - cpu_s, peak_mb())
    answer(cost, thread_cpu_s=cost.cpu_s, readings=got, missed=round(cost.wall_s * RATE_HZ) - polls)


CASES = {"ours_nvml": ours_nvml, "ours": ours, "ours_written": ours_written, "theirs": theirs}
WORDS = {
    "ours_nvml": "joulelaw's sampler on NVML, drained every second",
    "ours": "the same on a recording",
    "ours_written": "the same, written as Parquet every 2 s (in a study the driver does that)",
    "theirs": "a loop of poll, `csv.writerow`, flush, `sleep(0.05)`",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--recording", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        CASES[options.case](options.recording, options.seconds)
        return
    said = machine()
    with tempfile.TemporaryDirectory() as home:
        recording = Path(home) / "recording.csv"
        record(recording, options.seconds)
        arguments = ("--recording", str(recording), "--seconds", str(options.seconds))
        os.environ.update(fake_nvml().environment(gpus(), time.monotonic_ns()))
        found = {case: in_fresh_process(__file__, "--case", case, *arguments) for case in CASES}
    print(f"{said}; {DEVICES} devices at {RATE_HZ:g} Hz for {options.seconds:g} s\n")
    rows = []
    for case, cost in found.items():
        shares = [f"{100 * cost[name] / cost['wall_s']:.2f}" for name in ("thread_cpu_s", "cpu_s")]
        rows.append([WORDS[case], *shares, f"{cost['peak_mb']:.0f}", cost["readings"], cost["missed"]])
    header = [
        "",
        "its thread, % of a core",
        "the process, % of a core",
        "peak resident set, MB",
        "readings",
        "polls missed",
    ]
    print(table(header, rows) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
