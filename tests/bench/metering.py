"""`joulelaw meter` on the fake NVML: by its command line, and from Python with the waveforms' time in hand."""

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from joulelaw.bench.energy.readings import power_table
from joulelaw.bench.meter import run as meter_run
from joulelaw.bench.meter.result import Measured, made_result
from joulelaw.cluster.power.meter import NoMeter, Reading
from tests.fake_nvml.build import ROOT, fake_nvml
from tests.fake_nvml.devices import FakeGpu

# The waveforms begin once all is imported, so that faults fall into the window: it opens within half a second or so.
WINDOW = """
from joulelaw.bench.meter.devices import chosen, node_devices
from joulelaw.bench.meter.readings import FileStore
from joulelaw.bench.meter.told import as_json
from joulelaw.bench.meter.window import measured

rest = setup.read_text().split("\\n", 1)[1].replace("OWN", str(os.getpid()))
origin_ns = time.monotonic_ns()
setup.write_text(f"origin_ns={{origin_ns}}\\n" + rest)
store = FileStore(pathlib.Path({out!r}))
with measured(chosen(node_devices(), {names!r}), of={of!r}, idle_s={idle_s}, store=store) as w:
    asked_ns = w.begin_ns + round({seconds} * 1e9)
    time.sleep(max(0, asked_ns - time.monotonic_ns()) / 1e9)
show({{**as_json(w.result), "origin_ns": origin_ns, "asked_ns": asked_ns, "modules": list(sys.modules)}})
"""


@dataclass(frozen=True)
class Metered:
    """What a window gave: the values of the command's last line, and the readings behind it."""

    shown: dict[str, Any]
    out: Path

    def device(self, uuid: str) -> dict[str, Any]:
        (found,) = [each for each in self.shown["devices"] if each["uuid"] == uuid]
        return dict(found)

    def true_j(self, gpu: FakeGpu) -> float:
        edges = (self.shown["begin_ns"], self.shown["end_ns"])
        return gpu.energy_j(*((edge_ns - self.shown["origin_ns"]) / 1e9 for edge_ns in edges))

    def wait_s(self, uuid: str) -> float:
        """The longest wait for a reading within a quarter of a second of either edge."""
        table = pq.read_table(self.out)
        times = [each["time_ns"] for each in table.to_pylist() if each["device_uuid"] == uuid]
        pairs = itertools.pairwise(times)
        edges = (self.shown["begin_ns"], self.shown["end_ns"])
        return max(b - a for a, b in pairs if any(abs(b - edge) < 250_000_000 for edge in edges)) / 1e9


def window(
    gpus: Sequence[FakeGpu],
    out: Path,
    seconds: float = 2.0,
    names: Sequence[str] = (),
    of: str = "program",
    idle_s: float = 0.0,
    env: Mapping[str, str] | None = None,
) -> Metered:
    script = WINDOW.format(names=list(names), of=of, idle_s=idle_s, out=str(out), seconds=seconds)
    return Metered(fake_nvml().run(gpus, script, env), out)


def command_line(
    *arguments: str,
    gpus: Sequence[FakeGpu] = (),
    cwd: Path = ROOT,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`joulelaw meter` as a user runs it, and the JSON of its last line."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "__main__.py"), "meter", *arguments],
        env={**environment(gpus), **(env or {})},
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    content = json.loads(done.stdout.splitlines()[-1])
    assert content["exit_code"] == done.returncode, done.stderr
    return done, content


def environment(gpus: Sequence[FakeGpu]) -> dict[str, str]:
    """A machine with these GPUs, or with none and no driver."""
    made = fake_nvml().environment(gpus, time.monotonic_ns())
    if not gpus:
        del made["FAKE_NVML"]
    return made


def stub_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured takes no time, and draws 40 W; that it takes any has its own tests."""

    def measure(asked: meter_run.Asked, *_: object) -> meter_run.Outcome:
        device = asked.devices[0]
        readings = [Reading(device.uuid, k * 50_000_000, energy_counter_j=k * 2.0) for k in range(100)]
        window = Measured([power_table("rapl", readings)], 10**9, 3 * 10**9)
        if asked.store is not None:
            asked.store.finish()
        return meter_run.Outcome(made_result(NoMeter([device], "a stub"), [device], window), False)

    monkeypatch.setattr(meter_run, "measure_stretch", measure)
    monkeypatch.setattr(meter_run, "measure_command", measure)
