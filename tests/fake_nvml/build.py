"""Builds the fake NVML library and puts it before a subprocess's loader, so that the real pynvml runs on it."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.fake_nvml.devices import FakeGpu

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NAME = "libnvidia-ml.so.1"
# Run before a script: the waveforms begin when the script does, however long the imports took.
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

if "FAKE_NVML" in os.environ and "FAKE_AGE_S" in os.environ:
    setup = pathlib.Path(os.environ["FAKE_NVML"])
    ORIGIN_NS = time.monotonic_ns() - round(float(os.environ["FAKE_AGE_S"]) * 1e9)
    setup.write_text(f"origin_ns={ORIGIN_NS}\\n" + setup.read_text())
"""


class FakeNvml:
    """The built library in a folder of its own, which goes with this object. It lacks the functions in `without`."""

    def __init__(self, without: Sequence[str] = ()) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="fake_nvml_"))
        self._remove = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.library = self.folder / "lib" / NAME
        self.library.parent.mkdir()
        source = HERE / "fake_nvml.c"
        build = ["cc", "-Wall", "-Werror", "-shared", "-fPIC", "-O2", "-o", str(self.library), str(source), "-lm"]
        build += [f"-D{name}=absent_{name}" for name in without]
        subprocess.run(build, check=True, capture_output=True, text=True)
        self.tools = self.folder / "bin"  # CodeCarbon asks whether there is an nvidia-smi before it asks NVML
        self.tools.mkdir()
        (self.tools / "nvidia-smi").write_text("#!/bin/sh\nexit 0\n")
        (self.tools / "nvidia-smi").chmod(0o755)

    def environment(self, gpus: Sequence[FakeGpu], origin_ns: int) -> dict[str, str]:
        """For any command: it sees these devices, whose waveforms began at this time of CLOCK_MONOTONIC."""
        setup = self._setup(gpus)
        setup.write_text(f"origin_ns={origin_ns}\n" + setup.read_text())
        return self._environ({"FAKE_NVML": str(setup)})

    def run(self, gpus: Sequence[FakeGpu], script: str, env: Mapping[str, str] | None = None, age_s: float = 0) -> Any:
        """What the script shows, from JSON. It finds in ORIGIN_NS when the waveforms began: `age_s` before it did."""
        setup = self._setup(gpus)
        return self.run_bare(script, {"FAKE_NVML": str(setup), "FAKE_AGE_S": str(age_s), **(env or {})})

    def run_bare(self, script: str, env: Mapping[str, str], library: bool = True) -> Any:
        """Without a device file the library says that no driver is loaded; without the library there is none."""
        command = [sys.executable, "-c", PREAMBLE + script]
        whole = self._environ(env) if library else {**os.environ, "PYTHONPATH": str(ROOT), **env}
        done = subprocess.run(command, env=whole, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def _setup(self, gpus: Sequence[FakeGpu]) -> Path:
        setup = self.folder / f"devices-{time.monotonic_ns()}"
        setup.write_text("\n".join(gpu.line() for gpu in gpus) + "\n")
        return setup

    def _environ(self, env: Mapping[str, str]) -> dict[str, str]:
        paths = {"LD_LIBRARY_PATH": self.library.parent, "PATH": self.tools, "PYTHONPATH": ROOT}
        before = {
            name: os.pathsep.join(filter(None, (str(path), os.environ.get(name)))) for name, path in paths.items()
        }
        return {**os.environ, **before, **env}


@functools.cache
def fake_nvml() -> FakeNvml:
    """Built once a process."""
    return FakeNvml()
