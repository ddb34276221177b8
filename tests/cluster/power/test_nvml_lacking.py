"""Drivers that lack some of NVML's functions, or fail in some for good: a number less, and never the joules."""

import re
from typing import Any

import pytest

from tests.fake_nvml.build import HERE, FakeNvml
from tests.fake_nvml.devices import FakeGpu

A = "GPU-aaaaaaaa-0000-0000-0000-000000000001"
SOURCE = (HERE / "fake_nvml.c").read_text() + (HERE / "links.h").read_text()
# Without these there is no NVML, no GPU, or none that has a name.
NEEDED = {
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetUUID",
}
SHOW = """
devices = nvml_devices()
meter = open_meter([Gpu(device.uuid) for device in devices], MeterOptions(kind="nvml"))
meter.watch(devices[0].uuid, [11])
show({"devices": [asdict(device) for device in devices], "covers": meter.covers, "reading": asdict(meter.read()[0]),
      "sensors": {uuid: asdict(sensor) for uuid, sensor in meter.sensors.items()}})
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


def shown_without(lacking: list[str], gpu: FakeGpu) -> Any:
    return FakeNvml(without=lacking).run([gpu], SHOW, age_s=10)


def busy(**settings: Any) -> FakeGpu:
    return FakeGpu(A, 250, 250, settings={"pids": "11,99", "cap_from_s": 0, **settings})


def test_the_least_that_a_driver_may_have_gives_joules() -> None:
    optional = set(re.findall(r"^(?:int|const char \*)\s*(nvml\w+)\(", SOURCE, re.MULTILINE)) - NEEDED
    shown = shown_without(sorted(optional - {"nvmlDeviceGetTotalEnergyConsumption"}), busy())
    reading = shown["reading"]
    assert 2500 - 25 <= reading["energy_counter_j"] < 2500 + 250 * 60
    missing = ("power_w", "temperature_c", "clock_mhz", "throttle", "foreign_processes")
    assert {name: reading[name] for name in missing} == dict.fromkeys(missing)
    assert reading["error"] == ""
    assert shown["devices"][0]["driver"] == shown["devices"][0]["name"] == shown["sensors"][A]["sensor_class"] == ""


LACKING = {
    "nvmlDeviceGetCurrentClocksEventReasons": {"throttle": 4},  # the older name is there
    "nvmlDeviceGetComputeRunningProcesses_v3": {"foreign_processes": 1},  # so is _v2
    "nvmlDeviceGetFieldValues": {"power_w": 250},  # by the older call
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_counter_j": None, "power_w": 250},
    "nvmlDeviceGetHandleByUUID": {"power_w": 250},
    "nvmlDeviceGetMigMode": {"power_w": 250},
}


def test_a_lacking_function_costs_its_own_number_at_most() -> None:
    for lacking, told in LACKING.items():
        reading = shown_without([lacking], busy())["reading"]
        assert {name: reading[name] for name in told} == told, lacking
        assert reading["error"] == "", lacking


@pytest.mark.parametrize("lacking", ["nvmlDeviceGetHandleByUUID", "nvmlDeviceGetDeviceHandleFromMigDeviceHandle"])
def test_a_slice_is_found_without_the_function_that_finds_it(lacking: str) -> None:
    shown = shown_without([lacking], busy(slices=2))
    assert shown["covers"] == {A: [f"MIG-0-{A}", f"MIG-1-{A}"]}
    assert shown["reading"]["power_w"] == 250


def test_what_always_fails_beside_the_counter_leaves_the_rest(fake_nvml: Any) -> None:
    """Not "not supported", which is asked once and known, but an error that nobody expects, of one call."""
    for call, told in (("ClockInfo", "clock_mhz"), ("Temperature", "temperature_c"), ("PowerUsage", "power_w")):
        script = f"""
import pynvml
def fails(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
pynvml.nvmlDeviceGet{call} = fails
"""
        reading = fake_nvml.run([busy(fields=0)], script + SHOW, age_s=10)["reading"]
        values = {"clock_mhz": 987, "temperature_c": 50, "power_w": 250, "throttle": 4, "foreign_processes": 1}
        assert {name: reading[name] for name in values} == {**values, told: None}
        assert reading["energy_counter_j"] >= 2475


def test_a_counter_that_always_fails_leaves_power_and_says_so(fake_nvml: Any) -> None:
    script = """
import pynvml
def fails(*_):
    raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)
pynvml.nvmlDeviceGetTotalEnergyConsumption = fails
"""
    reading = fake_nvml.run([busy()], script + SHOW, age_s=10)["reading"]
    assert (reading["energy_counter_j"], reading["power_w"]) == (None, 250)
    assert reading["error"] == "energy counter: Unknown Error"


@pytest.mark.parametrize("answer", ["untouched", "of an unknown type"])
def test_a_power_field_that_is_not_filled_in_is_no_power_of_0_w(fake_nvml: Any, answer: str) -> None:
    """The driver's call succeeds all the same."""
    script = f"""
import ctypes, pynvml
pynvml.nvmlInit()
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(pynvml.c_nvmlFieldValue_t))
def answer(handle, count, values):
    if {answer!r} != "untouched":
        values[0].nvmlReturn, values[0].valueType = 0, 99
    return 0
pynvml.nvmlLib.nvmlDeviceGetFieldValues = answer
"""
    shown = fake_nvml.run([busy()], script + SHOW, age_s=10)
    assert (shown["reading"]["power_w"], shown["sensors"][A]["power_source"]) == (250, "nvmlDeviceGetPowerUsage")


def test_a_machine_whose_gpus_have_all_gone_does_not_pass_for_a_cpu_one(fake_nvml: Any) -> None:
    script = """
from joulelaw import InputError
try:
    show([device.uuid for device in nvml_devices()])
except InputError as error:
    show(str(error))
"""
    assert "GPU is lost" in fake_nvml.run([busy(lost_s=0)], script)
    denied = {"error_from_s": 0, "error_to_s": 9e9, "error_code": 4}
    assert fake_nvml.run([busy(**denied)], script) == [], "a container that was given none of them"
    assert fake_nvml.run([busy(lost_s=0), FakeGpu("GPU-b")], script) == ["GPU-b"]
