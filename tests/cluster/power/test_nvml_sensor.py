"""How a sensor's numbers are seen to move, and what is stated of it by its name."""

from typing import Any

import pytest

from joulelaw.cluster.power.moves import Moves
from joulelaw.cluster.power.nvml_sensor import GAIN_BOUND, averaged_s, sensor_class
from tests.fake_nvml.devices import FakeGpu

MS = 1_000_000
SWING = {"low_w": 100.0, "high_w": 400.0, "period_ms": 377.0}
ASK = """
meter = open_meter([Gpu(uuid) for uuid in {uuids!r}], MeterOptions(kind="nvml"))
show({{uuid: asdict(sensor) for uuid, sensor in meter.sensors.items()}})
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


def sensors_of(fake_nvml: Any, gpus: list[FakeGpu]) -> Any:
    return fake_nvml.run(gpus, ASK.format(uuids=[gpu.uuid for gpu in gpus]))


def test_probing_finds_ticks_and_the_rhythm_of_power(fake_nvml: Any) -> None:
    """Within a tenth: a busy machine looks late, and 20, 50 and 100 ms must not be taken for each other."""
    gpus = [
        FakeGpu("GPU-a", tick_ms=100.0, tick_phase_ms=37.0, sensor="a100", **SWING),
        FakeGpu("GPU-b", tick_ms=20.0, tick_phase_ms=3.0, sensor="v100", **SWING),
        FakeGpu("GPU-c", tick_ms=50.0, sensor="turing", **SWING),
        FakeGpu("GPU-d", tick_ms=100.0, tick_jitter_ms=10.0, sensor="h100", **SWING),
        FakeGpu("GPU-e", tick_ms=0.0, sensor="h100", settings={"counter_frozen_s": 1e9}, **SWING),
    ]
    sensors = sensors_of(fake_nvml, gpus)
    ticks = {uuid: sensor["counter_tick_s"] for uuid, sensor in sensors.items()}
    assert ticks.pop("GPU-e") == 0.0, "it moves at every look"
    assert ticks == pytest.approx({"GPU-a": 0.1, "GPU-b": 0.02, "GPU-c": 0.05, "GPU-d": 0.1}, rel=0.1)
    updates = [sensor["power_update_s"] for sensor in sensors.values()]
    assert updates == pytest.approx([0.1, 0.02, 0.1, 0.1, 0.1], rel=0.1)
    assert [sensor["sensor_class"] for sensor in sensors.values()] == ["a100", "v100", "turing", "h100", "h100"]
    assert [sensor["power_averaged_s"] for sensor in sensors.values()] == [0.025, 0.01, 0.1, 0.025, 0.025]
    assert {sensor["gain_bound"] for sensor in sensors.values()} == {GAIN_BOUND}


def test_what_does_not_move_or_answer_is_unknown(fake_nvml: Any) -> None:
    gpus = [
        FakeGpu("GPU-still", settings={"frozen_s": 0}, **SWING),
        FakeGpu("GPU-level", tick_ms=20.0),
        FakeGpu("GPU-uncounted", settings={"counter": 0}, **SWING),
        FakeGpu("GPU-averaged", sensor="h100", settings={"counter": 0}, **SWING),
        FakeGpu("GPU-older", sensor="h100", settings={"fields": 0}, **SWING),
        FakeGpu("GPU-counted", settings={"fields": 0, "power": 0}),
        FakeGpu("GPU-k80", name="Tesla K80"),
    ]
    sensors = sensors_of(fake_nvml, gpus)
    assert sensors["GPU-still"]["counter_tick_s"] is None
    assert sensors["GPU-still"]["power_update_s"] is None
    assert sensors["GPU-level"]["power_update_s"] is None, "the same power all the time"
    assert sensors["GPU-uncounted"]["counter_tick_s"] is None
    assert sensors["GPU-uncounted"]["power_update_s"] == pytest.approx(0.1, rel=0.1)
    sources = {uuid: (sensor["power_source"], sensor["power_averaged_s"]) for uuid, sensor in sensors.items()}
    assert sources["GPU-uncounted"] == ("NVML_FI_DEV_POWER_INSTANT", 0.025), "no other field on GA100"
    assert sources["GPU-averaged"] == ("NVML_FI_DEV_POWER_AVERAGE", 1.0), "it misses nothing, and is all there is"
    assert sources["GPU-older"] == ("nvmlDeviceGetPowerUsage", 1.0)
    assert sources["GPU-counted"] == ("", None)
    assert (sensors["GPU-k80"]["sensor_class"], sensors["GPU-k80"]["gain_bound"]) == ("", None)


def moves(moved_ms: list[float], looks: int) -> Moves:
    return Moves(lambda: 0.0, looks, [round(at_ms * MS) for at_ms in moved_ms])


def test_moves_that_a_busy_machine_let_pass_are_counted() -> None:
    assert moves([3, 103, 203, 503, 603], 500).every_s() == pytest.approx(0.1)
    assert moves([3, 23, 43.4, 122.7, 143], 400).every_s() == pytest.approx(0.02)
    assert moves([3], 500).every_s() is None
    assert moves([], 500).every_s() is None
    assert moves([k * 1.1 for k in range(90)], 100).every_s() == 0.0


def test_a_look_that_raises_ends_the_looking() -> None:
    def look() -> float:
        raise RuntimeError("driver")

    failing = Moves(look)
    failing.take()
    failing.take()
    assert failing.is_done
    assert failing.every_s() is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA A30", "a100"),
        ("Tesla V100-SXM3-32GB", "v100"),
        ("NVIDIA TITAN V", "v100"),
        ("Quadro GV100", "v100"),
        ("NVIDIA GH200 480GB", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H200", "h100"),
        ("Tesla T4", "turing"),
        ("Quadro RTX 6000", "turing"),
        ("NVIDIA A10G", "ampere"),
        ("NVIDIA A100X", "a100"),
        ("NVIDIA A40", "ampere"),
        ("Quadro RTX 4000", "turing"),
        ("NVIDIA RTX 2000 Ada Generation", "ada"),
        ("NVIDIA RTX A6000", "ampere"),
        ("NVIDIA RTX 6000 Ada Generation", "ada"),
        ("NVIDIA L4", "ada"),
        ("NVIDIA L40S", "ada"),
        ("NVIDIA B200", "blackwell"),
        ("NVIDIA GeForce RTX 5090", "blackwell"),
        ("Tesla P100-PCIE-16GB", ""),
        ("Tesla K80", ""),
    ],
)
def test_classes_by_the_names_that_nvml_gives(name: str, expected: str) -> None:
    assert sensor_class(name) == expected


def test_nothing_is_stated_of_a_class_that_nobody_measured() -> None:
    assert averaged_s("NVML_FI_DEV_POWER_INSTANT", "ada") is None
    assert averaged_s("nvmlDeviceGetPowerUsage", "ada") == 1.0
    assert averaged_s("nvmlDeviceGetPowerUsage", "v100") == 0.01
    assert averaged_s("", "v100") is None
