"""A real pynvml on a fake NVML: the C source beside this file, built once and put in a subprocess's loader path."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
PREAMBLE = """
import json, os, pathlib, sys, time
from dataclasses import asdict, dataclass
from joulelaw.cluster.power.meter import MeterOptions, MeterUnavailableError, open_meter
from joulelaw.cluster.power.nvml import nvml_devices, nvml_problem
from joulelaw.cluster.power.sampler import Sampler

@dataclass(frozen=True)
class Gpu:
    uuid: str
    kind: str = "cuda"
    cores: tuple = ()

def show(value):
    print(json.dumps(value))

if "FAKE_NVML" in os.environ:  # the waveforms begin when the script does, however long the imports took
    setup = pathlib.Path(os.environ["FAKE_NVML"])
    ORIGIN_NS = time.monotonic_ns() - round(float(os.environ["FAKE_AGE_S"]) * 1e9)
    setup.write_text(f"origin_ns={ORIGIN_NS}\\n" + setup.read_text())
"""


@dataclass(frozen=True)
class FakeGpu:
    """A device of the fake library; `settings` are its other keys. Its true energy is known for any stretch of time."""

    uuid: str
    low_w: float = 200.0
    high_w: float = 200.0
    period_ms: float = 1000.0
    duty: float = 0.5
    tick_ms: float = 100.0
    name: str = "NVIDIA A100-SXM4-40GB"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def line(self) -> str:
        own = {name: value for name, value in vars(self).items() if name != "settings"}
        return ";".join(f"{key}={value}" for key, value in {**own, **self.settings}.items())

    def energy_j(self, begin_s: float, end_s: float) -> float:
        """Joules between two times since the origin, summed over the square wave's pieces."""
        period_s, joules, at_s = self.period_ms / 1e3, 0.0, begin_s
        while at_s < end_s:
            start_s = math.floor(at_s / period_s + 1e-9) * period_s
            high_until_s = start_s + self.duty * period_s
            is_high = at_s < high_until_s - 1e-12
            until_s = min(end_s, high_until_s if is_high else start_s + period_s)
            joules += (self.high_w if is_high else self.low_w) * (until_s - at_s)
            at_s = until_s
        return joules


@dataclass(frozen=True)
class FakeNvml:
    """Runs scripts in a process whose NVML is the fake one."""

    library: Path
    folder: Path

    def run(self, gpus: list[FakeGpu], script: str, env: Mapping[str, str] | None = None, age_s: float = 0) -> Any:
        """What the script shows, from JSON. It finds in ORIGIN_NS when the waveforms began: `age_s` before it did."""
        setup = self.folder / f"devices-{time.monotonic_ns()}"
        setup.write_text("\n".join(gpu.line() for gpu in gpus) + "\n")
        return self.run_bare(script, {"FAKE_NVML": str(setup), "FAKE_AGE_S": str(age_s), **(env or {})})

    def run_bare(self, script: str, env: Mapping[str, str], library: bool = True) -> Any:
        """Without a device file the library says that no driver is loaded; without the library there is none."""
        whole = {**os.environ, "PYTHONPATH": str(ROOT), **env}
        whole |= {"LD_LIBRARY_PATH": str(self.library.parent)} if library else {}
        done = subprocess.run(
            [sys.executable, "-c", PREAMBLE + script], env=whole, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> FakeNvml:
    folder = tmp_path_factory.mktemp("fake_nvml")
    library = folder / "libnvidia-ml.so.1"
    build = ["gcc", "-Wall", "-Werror", "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "fake_nvml.c"), "-lm"]
    subprocess.run(build, check=True, capture_output=True, text=True)
    return FakeNvml(library, folder)


@pytest.fixture(scope="session")
def fake_gpu() -> Callable[..., FakeGpu]:
    return FakeGpu
