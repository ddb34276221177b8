"""Ticks of a counter are enclosed by readings a millisecond apart: by themselves, and all of them when asked."""

from itertools import pairwise
from typing import Any

import pytest

from tests.fake_nvml.devices import FakeGpu

GPUS = [
    FakeGpu("GPU-a", tick_ms=100.0, tick_phase_ms=31.0),
    FakeGpu("GPU-b", tick_ms=20.0, tick_phase_ms=7.0, sensor="v100"),
    FakeGpu("GPU-uncounted", 100.0, 400.0, 61.0, sensor="v100", settings={"counter": 0}),
]
RECORD = """
meter = open_meter([Gpu(uuid) for uuid in {uuids!r}], MeterOptions(kind="nvml"))
with Sampler(meter, 20) as sampler:
    time.sleep(2.4)
    sampler.look_closely(0.4)
    close_ns = time.monotonic_ns()
    time.sleep(0.6)
show({{"origin_ns": ORIGIN_NS, "close_ns": close_ns, "readings": [asdict(reading) for reading in sampler.drain()]}})
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


@pytest.fixture(scope="module")
def recording(fake_nvml: Any) -> Any:
    shown = fake_nvml.run(GPUS, RECORD.format(uuids=[gpu.uuid for gpu in GPUS]))
    for reading in shown["readings"]:
        reading["at_s"] = (reading["time_ns"] - shown["origin_ns"]) / 1e9
    shown["close_s"] = (shown["close_ns"] - shown["origin_ns"]) / 1e9
    return shown


def enclosed(recording: Any, gpu: FakeGpu, from_s: float, to_s: float) -> list[tuple[float, float]]:
    """Pairs of readings at most 3 ms apart between which the counter moved."""
    mine = [each for each in recording["readings"] if each["device_uuid"] == gpu.uuid and from_s <= each["at_s"] < to_s]
    return [
        (before["at_s"], after["at_s"])
        for before, after in pairwise(mine)
        if before["energy_counter_j"] != after["energy_counter_j"] and after["at_s"] - before["at_s"] < 3e-3
    ]


@pytest.mark.parametrize("gpu", GPUS[:2], ids=lambda gpu: gpu.uuid)
def test_ticks_lie_where_they_were_enclosed(recording: Any, gpu: FakeGpu) -> None:
    by_itself = enclosed(recording, gpu, 0, recording["close_s"])
    asked = enclosed(recording, gpu, recording["close_s"], recording["close_s"] + 0.4)
    assert asked, "one of the ticks within 0.4 s at least, however busy the machine"
    for before_s, after_s in by_itself + asked:
        assert before_s <= gpu.last_tick_s(after_s) <= after_s


def test_on_a_machine_with_time_they_are_enclosed_unasked_and_all_of_them_when_asked(recording: Any) -> None:
    gpu, close_s = GPUS[0], recording["close_s"]
    times_s = [each["at_s"] for each in recording["readings"] if each["device_uuid"] == gpu.uuid]
    waits_s = [after - before for before, after in pairwise(t for t in times_s if close_s < t < close_s + 0.4)]
    if max(waits_s) < 2e-3 and max(after - before for before, after in pairwise(times_s)) < 0.085:
        assert len(enclosed(recording, gpu, close_s, close_s + 0.4)) >= 3
        assert enclosed(recording, gpu, 0, close_s)


def test_close_readings_have_the_counter_alone(recording: Any) -> None:
    for gpu in GPUS[:2]:
        mine = [each for each in recording["readings"] if each["device_uuid"] == gpu.uuid]
        assert all(each["energy_counter_j"] is not None and each["error"] == "" for each in mine)
        alone = [each for each in mine if each["power_w"] is None]
        assert len(alone) > len(mine) / 4
        assert {each["temperature_c"] for each in mine} == {50.0}


def test_power_that_alone_tells_the_energy_is_read_at_each_change(recording: Any) -> None:
    """Every 20 ms, at 20 readings a second of everything else."""
    mine = [each for each in recording["readings"] if each["device_uuid"] == "GPU-uncounted"]
    before = [each["at_s"] for each in mine if each["at_s"] < recording["close_s"]]
    assert len(before) > 30 * (before[-1] - before[0])
    assert all(each["power_w"] is not None for each in mine)
