"""Joules against a known truth: ours beside Zeus, CodeCarbon and two loops, in one run on the same devices.

    python -m venv build/peers
    build/peers/bin/pip install zeus==0.16.0 codecarbon==3.3.2 nvidia-ml-py==13.615.71
    python benchmarks/metering.py --peers build/peers/bin/python [--quick]

A library that exports NVML's symbols plays devices whose energy has a closed form (tests/fake_nvml); each tool runs on
it in a process of its own, all at the same time, and measures windows of random length at random times. Errors are
against the closed form over exactly the window that the tool was asked for. Takes 6 minutes, with --quick 3.
Prints Markdown and, last, one JSON object.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import metering_devices as played
import metering_faults as faults
import metering_ours
from measuring import ROOT, machine
from metering_ours import Recording
from metering_peers import TOOLS
from metering_scores import Errors, Window, markdown, summary

from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import MODELS, FakeGpu

LENGTHS_S = (2, 5, 10, 30)
COUNTS = (5, 4, 3, 2)  # live windows of each length, on all devices at once
QUICK_COUNTS = (2, 1, 1, 1)
CUT = 25  # windows of each length that are cut from one device's recording
SPARE_S = 4.0  # before and after the windows that are cut
HERE = Path(__file__).resolve().parent
LIVE = ("joulelaw meter", *TOOLS)


class Round:
    """One set of devices, and the processes that measure it."""

    def __init__(self, gpus: list[FakeGpu], home: Path) -> None:
        self.gpus = gpus
        self.home = home
        self.origin_ns = time.monotonic_ns()
        self.environment = fake_nvml().environment(gpus, self.origin_ns)
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, tool: str, *command: str) -> None:
        out = self.home / f"{tool.replace(' ', '-')}.out"
        errors = out.with_suffix(".err").open("wb")
        environment = {**self.environment, "HOME": str(self.home)}
        if tool == "zeus":  # its monitor of power refuses nodes with GPUs of several names
            alike = [replace(gpu, name=MODELS["a100"]) for gpu in self.gpus]
            environment |= {"FAKE_NVML": fake_nvml().environment(alike, self.origin_ns)["FAKE_NVML"]}
        self.running[tool] = subprocess.Popen(command, stdout=out.open("wb"), stderr=errors, env=environment)

    def record(self, seconds: float) -> None:
        self.start("record", sys.executable, str(HERE / "metering_ours.py"), "record", str(seconds), str(self.recorded))

    @property
    def recorded(self) -> Path:
        return self.home / "recording.pickle"

    def finish(self) -> None:
        for tool, process in self.running.items():
            if process.wait():
                words = (self.home / f"{tool.replace(' ', '-')}.err").read_text()
                raise SystemExit(f"{tool} failed:\n{words[-3000:]}")

    def recording(self) -> Recording:
        found: Recording = pickle.loads(self.recorded.read_bytes())
        return found

    def live(self, tool: str) -> Iterator[Window]:
        """The windows that a tool measured itself."""
        text = (self.home / f"{tool.replace(' ', '-')}.out").read_text()
        for window in json.loads(text.splitlines()[-1]):
            for index, gpu in enumerate(self.gpus):
                begin_ns, end_ns = (_of(window[name], index) for name in ("begin_ns", "end_ns"))
                stderr_j = window["stderr_j"][index] if "stderr_j" in window else None
                true_j = played.true_j(gpu, self.origin_ns, begin_ns, end_ns)
                yield Window(gpu, window["nominal_s"], window["joules"][index], stderr_j, true_j)

    def cut(self, lengths_s: tuple[int, ...], draw: Random) -> Iterator[Window]:
        """Windows of our recording, anywhere in it."""
        recording = self.recording()
        devices = recording.devices()
        for gpu in self.gpus:
            for nominal_s in lengths_s:
                for _ in range(CUT):
                    length_ns = round(1e9 * nominal_s * draw.uniform(0.9, 1.1))
                    first_ns, last_ns = recording.begin_ns + 1e9 * SPARE_S, recording.end_ns - 1e9 * SPARE_S - length_ns
                    begin_ns = round(draw.uniform(first_ns, last_ns))
                    sensor = recording.sensors.get(gpu.uuid)
                    energy = metering_ours.cut(
                        devices[gpu.uuid], sensor, begin_ns, begin_ns + length_ns, played.LIMIT_W
                    )
                    true_j = played.true_j(gpu, self.origin_ns, begin_ns, begin_ns + length_ns)
                    bound = sensor.gain_bound if sensor else None
                    yield Window(gpu, nominal_s, energy.energy_j, energy.stderr_j, true_j, bound)


def _of(value: Any, index: int) -> int:
    return int(value[index] if isinstance(value, list) else value)


def plan(counts: tuple[int, ...]) -> list[tuple[float, float, float]]:
    """Nominal length, length and pause before it, in s, of each live window."""
    draw = Random(11)
    lengths = [length_s for length_s, count in zip(LENGTHS_S, counts, strict=True) for _ in range(count)]
    draw.shuffle(lengths)
    return [(length_s, length_s * draw.uniform(0.9, 1.1), draw.uniform(0.1, 0.9)) for length_s in lengths]


def play(name: str, gpus: list[FakeGpu], seconds: float, home: Path, peers: str = "", lines: str = "") -> Round:
    """Starts all tools on a set of devices."""
    folder = home / name.replace(" ", "-")
    folder.mkdir()
    found = Round(gpus, folder)
    found.record(seconds)
    if lines:
        found.start("joulelaw meter", sys.executable, str(HERE / "metering_ours.py"), "meter", lines)
        has_counter = bool(gpus[0].settings["counter"])
        for tool in TOOLS if peers else ():
            if has_counter or tool != "aligned":
                found.start(tool, peers, str(HERE / "metering_peers.py"), tool, lines)
                time.sleep(1.0)  # starting takes a core
    return found


def started(
    number: int, sensors: tuple[str, ...], seconds: float, home: Path, peers: str, lines: str
) -> dict[str, Round]:
    """All sets of devices of two kinds of sensor, and all that measures them, at once."""
    with_counter, without = (played.devices(sensors, 7 + number, counter) for counter in (True, False))
    gains = played.devices(sensors, 17 + number, True, (1.05, 0.93))
    rounds = {
        "counter": play(f"counter {number}", with_counter, seconds, home, peers, lines),
        "no counter": play(f"no counter {number}", without, seconds, home, peers, lines),
        "gain": play(f"gain {number}", gains, min(seconds, 60), home),
        "beating": play(f"beating {number}", played.beating(sensors, 27 + number), seconds, home),
    }
    if not number:
        rounds["faults"] = play("faults", faults.devices(), faults.RECORD_UNTIL_S, home)
        rounds["cost"] = play("cost", with_counter[:8], min(seconds, 60), home)
    return rounds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default="", help="the interpreter of the other tools; without it they are left out")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    said, counts = machine(), QUICK_COUNTS if options.quick else COUNTS
    windows = plan(counts)
    seconds = sum(length_s + pause_s for _, length_s, pause_s in windows) + 20
    pairs = (("a100", "v100"), ("turing", "h100"))
    errors = Errors()
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        lines = home / "plan.json"
        lines.write_text(json.dumps(windows))
        costs, judged = [], []
        for number, sensors in enumerate(pairs):
            rounds = started(number, sensors, seconds, home, options.peers, str(lines))
            for name, each in rounds.items():
                each.finish()
                collect(name, each, errors, Random(number))
                if name == "faults":
                    judged = faults.judged(each.recording(), each.origin_ns)
                if name == "cost":
                    costs.append(each.recording().cpu_share)
    hook = subprocess.run(
        [sys.executable, str(HERE / "metering_hook.py")], capture_output=True, text=True, check=True
    ).stdout
    found = summary(errors, judged, costs, json.loads(hook.splitlines()[-1]), LENGTHS_S)
    print(
        f"{said}; {len(windows)} live windows on {4 * len(played.LOADS)} devices with a counter and as many without\n"
    )
    print(markdown(found))
    print(json.dumps(found))


def collect(name: str, each: Round, errors: Errors, draw: Random) -> None:
    """All windows of a set of devices."""
    if name in ("faults", "cost"):
        return
    lengths_s = tuple(length for length in LENGTHS_S if name != "gain" or length <= 10)
    errors.add(name, "joulelaw, any window", each.cut(lengths_s, draw))
    for tool in LIVE:
        if tool in each.running:
            errors.add(name, tool, each.live(tool))


if __name__ == "__main__":
    main()
