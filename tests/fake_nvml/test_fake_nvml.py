"""The fake library's truth: C and Python agree, and both with a fine numeric sum; its sensors show what they say."""

import itertools
import random

import numpy as np
import pytest

from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import FakeGpu

BURSTS = ((3.0, 4.0), (60.0, 9.5), (71.0, 1.25), (220.0, 30.0))
GPUS = [
    FakeGpu("constant", 250.0, 900.0, wave="constant"),
    FakeGpu("level", 250.0, 250.0, wave="ramp"),
    FakeGpu("square", 80.0, 400.0, period_ms=37.0, duty=0.6, phase_ms=11.0),
    FakeGpu("sawtooth", 80.0, 400.0, period_ms=730.0, wave="ramp", duty=1.0),
    FakeGpu("triangle", 80.0, 400.0, period_ms=411.0, wave="ramp", duty=0.3, phase_ms=400.0),
    FakeGpu("burst", 80.0, 700.0, period_ms=257.0, wave="burst", bursts=BURSTS),
    FakeGpu("ticks", tick_ms=20.0, tick_phase_ms=7.3),
    FakeGpu("wobbling", tick_ms=100.0, tick_phase_ms=61.0, tick_jitter_ms=25.0, seed=3),
]
TIMES = [random.Random(1).uniform(0, 50) for _ in range(200)]
ASK = """
import ctypes, pynvml
pynvml.nvmlInit()
library = pynvml.nvmlLib
library.fake_energy_j.restype = library.fake_last_tick_s.restype = ctypes.c_double
calls = (library.fake_energy_j, library.fake_last_tick_s)
show([[[call(gpu, ctypes.c_double(at)) for at in {times!r}] for call in calls] for gpu in range({count})])
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


def test_c_and_python_agree() -> None:
    shown = fake_nvml().run(GPUS, ASK.format(times=TIMES, count=len(GPUS)))
    for gpu, (energies_j, ticks_s) in zip(GPUS, shown, strict=True):
        assert energies_j == pytest.approx([gpu.energy_j(0, at_s) for at_s in TIMES], rel=1e-12, abs=1e-9), gpu.uuid
        assert ticks_s == pytest.approx([gpu.last_tick_s(at_s) for at_s in TIMES], rel=1e-12, abs=1e-9), gpu.uuid


@pytest.mark.parametrize("gpu", GPUS[:6], ids=lambda gpu: gpu.uuid)
def test_the_closed_form_is_the_integral_of_the_power(gpu: FakeGpu) -> None:
    """By the midpoint rule in steps of 20 us, which misses a jump by at most half a step."""
    step_s, jumps_a_period = 2e-5, 2 * len(BURSTS)
    for begin_s, end_s in ((0.0, 3.0), (1.2345, 2.3456), (7.001, 7.4)):
        middles = np.arange(begin_s + step_s / 2, end_s, step_s)
        summed_j = sum(gpu.power_w(float(at)) for at in middles) * step_s
        jumps = jumps_a_period * ((end_s - begin_s) / (gpu.period_ms / 1e3) + 2)
        allowed_j = jumps * step_s / 2 * (gpu.high_w - gpu.low_w) / 4 + gpu.high_w * step_s
        assert gpu.energy_j(begin_s, end_s) == pytest.approx(summed_j, abs=allowed_j)


def test_mean_powers_are_what_the_shapes_say() -> None:
    """Over whole periods: the duty for a square, one half for both ramps, the lengths' sum for bursts."""
    shares = {"square": 0.6, "sawtooth": 0.5, "triangle": 0.5, "burst": sum(length for _, length in BURSTS) / 257.0}
    for gpu in GPUS:
        if gpu.uuid in shares:
            seconds = 10 * gpu.period_ms / 1e3
            mean_w = gpu.low_w + shares[gpu.uuid] * (gpu.high_w - gpu.low_w)
            assert gpu.energy_j(2.5, 2.5 + seconds) == pytest.approx(mean_w * seconds)


def test_ticks_are_as_far_apart_as_stated() -> None:
    steady, wobbling = GPUS[-2:]
    assert [steady.tick_s(k) for k in (0, 1, 500)] == pytest.approx([0.0073, 0.0273, 10.0073])
    gaps = [after - before for before, after in itertools.pairwise(wobbling.tick_s(k) for k in range(2000))]
    assert min(gaps) >= 0.075
    assert max(gaps) <= 0.125
    assert max(gaps) - min(gaps) > 0.04
    assert sum(gaps) / len(gaps) == pytest.approx(0.1, rel=1e-3)


SENSORS = """
import pynvml
pynvml.nvmlInit()
shown = {}
for index in range(pynvml.nvmlDeviceGetCount()):
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    fields = {name: pynvml.nvmlDeviceGetFieldValues(gpu, [getattr(pynvml, "NVML_FI_DEV_POWER_" + name)])[0]
              for name in ("INSTANT", "AVERAGE")}
    shown[pynvml.nvmlDeviceGetUUID(gpu)] = {
        "usage": pynvml.nvmlDeviceGetPowerUsage(gpu) / 1e3, "name": pynvml.nvmlDeviceGetName(gpu),
        **{name: value.value.uiVal / 1e3 if value.nvmlReturn == 0 else None for name, value in fields.items()}}
show(shown)
"""


def test_sensor_classes_see_what_they_look_at() -> None:
    """High for the first 75 ms of every 100: a look at the last 25 ms, or 10 of 20, sees no high power at all.

    On Ampere without GA100 and later the older call is the 1 s average (NVML's header), elsewhere it is instantaneous.
    """
    load = {"low_w": 100.0, "high_w": 500.0}
    gpus = [FakeGpu(name, period_ms=100.0, duty=0.75, sensor=name, **load) for name in ("a100", "turing", "h100")]
    gpus.append(FakeGpu("v100", period_ms=20.0, duty=0.5, sensor="v100", **load))
    shown = fake_nvml().run(gpus, SENSORS, age_s=100)
    told = {uuid: [each["usage"], each["INSTANT"], each["AVERAGE"]] for uuid, each in shown.items()}
    assert told["a100"] == [100, 100, None]
    assert told["v100"] == [100, 100, None]
    assert told["turing"] == [400, 400, None]
    assert told["h100"] == [400, 100, 400]
    assert shown["turing"]["name"] == "NVIDIA GeForce RTX 2080 Ti"


PEERS_NEED = """
import pynvml
pynvml.nvmlInit()
gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
answers = {}
for name, arguments in {
    "Architecture": (), "UtilizationRates": (), "ComputeMode": (), "ComputeRunningProcesses": (), "PersistenceMode": (),
    "GraphicsRunningProcesses": (), "PowerManagementLimit": (), "PowerManagementDefaultLimit": (),
    "PowerManagementLimitConstraints": (), "EnforcedPowerLimit": (), "TemperatureV": (0,), "Temperature": (0,),
    "MemoryInfo": (), "ClockInfo": (1,), "CurrentClocksEventReasons": (), "CurrentClocksThrottleReasons": (),
    "CudaComputeCapability": (), "Index": ()}.items():
    answer = getattr(pynvml, "nvmlDeviceGet" + name)(gpu, *arguments)
    answers[name] = answer if isinstance(answer, (int, list, tuple)) else "given"
    if name.endswith("Processes"):
        answers[name] = [process.pid for process in answer]
try:
    pynvml.nvmlDeviceGetC2cModeInfoV(gpu)
except pynvml.NVMLError_NotSupported:
    answers["C2c"] = "not supported"
show(answers)
"""


def test_what_other_meters_ask_for_is_answered() -> None:
    """Every call of Zeus 0.16 and CodeCarbon 3.3.2 that a measurement makes, through pynvml's structures."""
    settings = {"pids": "11,12", "cap_from_s": 0, "foreign_from_s": 0, "foreign_pid": 13, "temperature_c": 61}
    answers = fake_nvml().run([FakeGpu("GPU-a", sensor="v100", settings=settings)], PEERS_NEED)
    assert answers["ComputeRunningProcesses"] == [11, 12, 13]
    assert answers["GraphicsRunningProcesses"] == []
    assert (answers["TemperatureV"], answers["Temperature"]) == (61, 61)
    assert (answers["Architecture"], answers["CudaComputeCapability"]) == (5, [7, 0])
    assert (answers["CurrentClocksEventReasons"], answers["ClockInfo"]) == (4, 987)
    assert answers["PowerManagementLimitConstraints"] == [100_000, 400_000]
    assert answers["C2c"] == "not supported"
