"""What goes on at a GPU and around it: clock, throttling, processes of others, the rest of the node; every fault."""

from pathlib import Path
from typing import Any

import pytest

from tests.cluster.power.sysfs import Machine
from tests.fake_nvml.devices import FakeGpu

A, B, C = "GPU-a", "GPU-b", "GPU-c"
HEAT, POWER_CAP = 0x20, 0x4  # nvmlClocksEventReasonSwThermalSlowdown, SwPowerCap
pytestmark = pytest.mark.xdist_group("fake_nvml")

SECONDS = """
meter = open_meter([Gpu(uuid) for uuid in {uuids!r}], MeterOptions(kind="nvml"))
{before}
with Sampler(meter, 20) as sampler:
    time.sleep({seconds})
show({{"origin_ns": ORIGIN_NS, "readings": [asdict(reading) for reading in sampler.drain()]}})
"""


def sampled(fake_nvml: Any, gpus: list[FakeGpu], seconds: float, before: str = "") -> dict[str, list[Any]]:
    """Readings by GPU, each with its time in s since the waveforms began.

    Without those just before something happens (at 1.2, 1.5 and 1.8 s): a reading's calls may lie to both sides of it.
    """
    uuids = [gpu.uuid for gpu in gpus]
    shown = fake_nvml.run(gpus, SECONDS.format(uuids=uuids, seconds=seconds, before=before))
    for reading in shown["readings"]:
        reading["at_s"] = (reading["time_ns"] - shown["origin_ns"]) / 1e9
    clear = [each for each in shown["readings"] if not any(0 <= edge - each["at_s"] < 0.15 for edge in (1.2, 1.5, 1.8))]
    return {uuid: [each for each in clear if each["device_uuid"] == uuid] for uuid in uuids}


def test_clock_throttling_and_temperature_come_about_once_a_second(fake_nvml: Any) -> None:
    gpus = [
        FakeGpu(A, settings={"heat_from_s": 1.8, "clock_mhz": 1400}),
        FakeGpu(
            B, settings={"cap_from_s": 0, "cap_to_s": 1.8, "temperature_c": 40, "warms_by_c": 30, "warms_over_s": 1}
        ),
        FakeGpu(C, settings={"conditions": 0}),
    ]
    found = sampled(fake_nvml, gpus, 2.6)
    for uuid, before, after in ((A, 0, HEAT), (B, POWER_CAP, 0)):
        told = [each for each in found[uuid] if each["throttle"] is not None]
        assert 2 <= len(told) <= 4
        assert {each["throttle"] for each in told if each["at_s"] < 1.8} == {before}
        assert {each["throttle"] for each in told if each["at_s"] > 1.8} == {after}
        assert all((each["clock_mhz"] is None) == (each["throttle"] is None) for each in found[uuid])
    assert {each["clock_mhz"] for each in found[A] if each["throttle"] == HEAT} == {980}
    warming = [each["temperature_c"] for each in found[B]]
    assert None not in warming, "the last that was read stands beside each reading"
    assert warming == sorted(warming)
    assert warming[-1] - warming[0] > 10
    assert {each[name] for each in found[C] for name in ("clock_mhz", "throttle", "foreign_processes")} == {None}
    assert {each["error"] for each in found[C]} == {""}


def test_processes_of_others_are_counted_and_ours_are_not(fake_nvml: Any) -> None:
    """The third as in a container: the list has other numbers than ours, and none that we watch is known to use it."""
    gpus = [
        FakeGpu(A, settings={"pids": "11,12", "foreign_from_s": 1.5, "foreign_pid": 99}),
        FakeGpu(B, settings={"pids": "13"}),
        FakeGpu(C, settings={"pids": "21,22,23"}),
    ]
    watch = f"""
meter.watch({A!r}, [11, 12])
meter.watch({C!r}, [os.getpid()])
meter._gpus[{C!r}]._same_numbers = False
"""
    found = sampled(fake_nvml, gpus, 2.3, watch)
    told = {
        uuid: [
            (each["at_s"] > 1.5, each["foreign_processes"])
            for each in readings
            if each["foreign_processes"] is not None
        ]
        for uuid, readings in found.items()
    }
    assert set(told[A]) == {(False, 0), (True, 1)}
    assert {foreign for _, foreign in told[B]} == {1}, "nobody named it"
    assert {foreign for _, foreign in told[C]} == {3}


def test_a_slices_processes_are_watched_on_its_gpu(fake_nvml: Any) -> None:
    script = """
meter = open_meter([Gpu("MIG-0-GPU-a"), Gpu("MIG-1-GPU-a")], MeterOptions(kind="nvml"))
meter.watch("MIG-0-GPU-a", [11])
meter.watch("MIG-1-GPU-a", [12])
show(meter.read()[0].foreign_processes)
"""
    assert fake_nvml.run([FakeGpu(A, settings={"slices": 2, "pids": "11,12,13"})], script) == 1


def test_no_fault_gives_a_number_that_does_not_say_so(fake_nvml: Any) -> None:
    """A reset shows as a fall, a counter that stands still as one; of windows with them the verdict tells."""
    settings: dict[str, dict[str, Any]] = {
        "lost": {"lost_s": 1.5},
        "error": {"error_from_s": 1.2, "error_to_s": 1.8},
        "denied": {"error_from_s": 1.2, "error_to_s": 1.8, "error_code": 4},
        "uncounted": {"counter": 0},
        "silent": {"counter": 0, "fields": 0, "power": 0},
        "reset": {"reset_s": 1.5},
        "stopped": {"counter_frozen_s": 1.5},
        "held": {"power_frozen_s": 1.5},
    }
    gpus = [FakeGpu(uuid, 100.0, 400.0, 333.0, settings=each) for uuid, each in settings.items()]
    found = sampled(fake_nvml, gpus, 2.2)
    failed = [each for uuid in ("lost", "error", "denied", "silent") for each in found[uuid] if each["error"]]
    assert all(each["energy_counter_j"] is None and each["power_w"] is None for each in failed)
    for uuid in ("error", "denied"):
        assert all(bool(each["error"]) == (1.2 <= each["at_s"] < 1.8) for each in found[uuid])
        assert found[uuid][-1]["error"] == ""
    assert all(each["error"].startswith("gpu_lost") for each in found["lost"] if each["at_s"] > 1.5)
    assert not any(each["error"] for each in found["lost"] if each["at_s"] < 1.5)
    assert all(each["error"] for each in found["silent"])
    assert {each["energy_counter_j"] for each in found["uncounted"]} == {None}
    assert min(each["power_w"] for each in found["uncounted"]) >= 100
    counted = {uuid: [each["energy_counter_j"] for each in found[uuid]] for uuid in ("reset", "stopped", "held")}
    assert sum(later < earlier for earlier, later in zip(counted["reset"][:-1], counted["reset"][1:], strict=True)) == 1
    assert len({each["energy_counter_j"] for each in found["stopped"] if each["at_s"] > 1.5}) == 1
    assert counted["held"] == sorted(counted["held"])
    assert len({each["power_w"] for each in found["held"] if each["at_s"] > 1.5} - {None}) == 1


def test_the_rest_of_the_node_is_read_beside_the_gpus_asked_for(fake_nvml: Any, tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    machine.zone("intel-rapl:0", "package-0", 5_000_000)
    machine.zone("intel-rapl:0:0", "core", 1)
    machine.zone("intel-rapl:0:1", "dram", 3_000_000)
    machine.zone("intel-rapl:1", "psys", 7)
    script = f"""
from joulelaw.cluster.power.nvml import open_nvml
meter = open_nvml([Gpu({B!r})], pathlib.Path({str(tmp_path)!r}))
readings = meter.read()
show({{"covers": meter.covers, "surroundings": meter.surroundings, "said": meter.description,
      "sensors": list(meter.sensors), "readings": [asdict(reading) for reading in readings]}})
"""
    gpus = [FakeGpu(A, 150, 150), FakeGpu(B, 250, 250), FakeGpu(C, settings={"lost_s": 0})]
    shown = fake_nvml.run(gpus, script, env={"CUDA_VISIBLE_DEVICES": "1"})
    assert shown["covers"] == {B: [B]}
    assert shown["surroundings"] == {A: "gpu", "package-0": "cpu", "dram-0": "dram"}
    assert [reading["device_uuid"] for reading in shown["readings"]] == [B, A, "package-0", "dram-0"]
    assert [reading["power_w"] for reading in shown["readings"]] == [250, 150, None, None]
    assert {reading["error"] for reading in shown["readings"]} == {""}
    assert shown["said"]["dram-0"].endswith("intel-rapl:0:1/energy_uj")
    assert shown["sensors"] == [B, A]
