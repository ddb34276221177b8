"""NVML devices and readings, by the real pynvml on a fake library: identity, fall-backs and faults."""

from typing import Any

import pytest

from tests.fake_nvml.devices import FakeGpu

A, B = "GPU-aaaaaaaa-0000-0000-0000-000000000001", "GPU-bbbbbbbb-0000-0000-0000-000000000002"
READ_ONCE = """
meter = open_meter([Gpu(uuid) for uuid in {uuids!r}], MeterOptions(kind="nvml"))
readings = meter.read()
show({{"readings": [asdict(r) for r in readings], "covers": meter.covers, "description": meter.description,
      "surroundings": meter.surroundings, "sensors": {{uuid: asdict(s) for uuid, s in meter.sensors.items()}},
      "name": meter.name, "kind": meter.kind, "boundary": meter.boundary, "uuids": meter.device_uuids}})
"""
pytestmark = pytest.mark.xdist_group("fake_nvml")


def read_once(fake_nvml: Any, gpus: list[Any], uuids: list[str], **keywords: Any) -> Any:
    shown = fake_nvml.run(gpus, READ_ONCE.format(uuids=uuids), **keywords)
    return shown, {reading["device_uuid"]: reading for reading in shown["readings"]}


@pytest.mark.parametrize("visible", [None, "", "0,1", "1,0", "1", B])
def test_a_uuid_means_the_same_gpu_whatever_cuda_sees(fake_nvml: Any, visible: str | None) -> None:
    gpus = [FakeGpu(A, low_w=111, high_w=111), FakeGpu(B, low_w=222, high_w=222)]
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    shown, readings = read_once(fake_nvml, gpus, [B, A], env=env)
    assert {uuid: reading["power_w"] for uuid, reading in readings.items()} == {A: 111, B: 222}
    assert (shown["name"], shown["kind"], shown["boundary"]) == ("nvml", "measured", "gpu")
    assert shown["covers"] == {B: [B], A: [A]}


def test_millijoules_and_milliwatts_become_si(fake_nvml: Any) -> None:
    """300 W for the 1000 s before the script, less at most one tick of 0.1 s, and for the moments since."""
    gpus = [FakeGpu(A, low_w=300, high_w=300)]
    _, readings = read_once(fake_nvml, gpus, [A], age_s=1000)
    assert 300_000 - 30 <= readings[A]["energy_counter_j"] < 300_000 + 300 * 60
    assert (readings[A]["power_w"], readings[A]["temperature_c"], readings[A]["error"]) == (300, 50, "")


def test_power_is_the_instant_field_by_name_or_says_what_it_is_instead(fake_nvml: Any) -> None:
    gpus = [
        FakeGpu(A),
        FakeGpu(B, settings={"fields": 0}),
        FakeGpu("GPU-c", settings={"fields": 0, "power": 0}),
        FakeGpu("GPU-d", settings={"counter": 0}),
    ]
    shown, readings = read_once(fake_nvml, gpus, [gpu.uuid for gpu in gpus])
    said = shown["description"]
    assert said[A] == "energy: nvmlDeviceGetTotalEnergyConsumption; power: NVML_FI_DEV_POWER_INSTANT"
    assert said[B].endswith("power: nvmlDeviceGetPowerUsage")
    assert said["GPU-c"].endswith("power: none")
    assert said["GPU-d"].startswith("energy: no energy counter")
    assert readings["GPU-c"]["power_w"] is None
    assert readings["GPU-c"]["energy_counter_j"] is not None
    assert readings["GPU-d"]["energy_counter_j"] is None
    assert {reading["error"] for reading in readings.values()} == {""}


def test_a_gpu_that_gives_nothing_reads_as_an_error(fake_nvml: Any) -> None:
    _, readings = read_once(fake_nvml, [FakeGpu(A, settings={"fields": 0, "power": 0, "counter": 0})], [A])
    assert readings[A]["error"] == "this GPU gives neither energy nor power"


def test_instant_power_sees_a_swing_that_the_average_hides(fake_nvml: Any) -> None:
    """100 W and 500 W in turn, every 0.5 s: looked at over 25 ms it is one or the other, over 1 s it is 300 W."""
    script = """
import pynvml
from joulelaw.cluster.power import nvml_gpu
pynvml.nvmlInit()
handle = pynvml.nvmlDeviceGetHandleByUUID({uuid!r})
fields = {{name: nvml_gpu.PowerField(name) for name in (nvml_gpu.INSTANT, nvml_gpu.AVERAGE)}}
seen = {{name: [] for name in fields}}
for _ in range(60):
    for name, field in fields.items():
        seen[name].append(field(handle))
    time.sleep(0.02)
show(seen)
"""
    gpu = FakeGpu(A, low_w=100, high_w=500, sensor="h100")
    seen = fake_nvml.run([gpu], script.format(uuid=A), age_s=100)
    assert {100, 500} <= set(seen["NVML_FI_DEV_POWER_INSTANT"])
    assert seen["NVML_FI_DEV_POWER_AVERAGE"] == pytest.approx([300] * 60, abs=0.01)


def test_inventory_lists_each_gpu(fake_nvml: Any) -> None:
    gpus = [FakeGpu(A, settings={"memory_mb": 81920, "limit_w": 350.5}), FakeGpu(B, sensor="v100")]
    first, second = fake_nvml.run(gpus, "show([asdict(device) for device in nvml_devices()])")
    assert first == {
        "uuid": A,
        "name": "NVIDIA A100-SXM4-40GB",
        "index": 0,
        "memory_bytes": 80 * 2**30,
        "power_limit_w": 350.5,
        "driver": "999.1",
        "compute_capability": [8, 0],
        "pci_bus_id": "00000000:01:00.0",
        "pcie": [4, 16],
    }
    assert (second["uuid"], second["name"], second["index"]) == (B, "Tesla V100-SXM2-16GB", 1)


def test_slices_stand_for_their_gpu_and_share_its_meter(fake_nvml: Any) -> None:
    gpus = [FakeGpu(A, low_w=150, high_w=150, settings={"slices": 3, "memory_mb": 30720}), FakeGpu(B)]
    listed = fake_nvml.run(gpus, "show([asdict(device) for device in nvml_devices()])")
    slices = [f"MIG-{part}-{A}" for part in range(3)]
    assert [device["uuid"] for device in listed] == [*slices, B]
    assert listed[0]["name"] == "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
    assert listed[0]["memory_bytes"] == 10 * 2**30
    assert listed[0]["power_limit_w"] is None, "the limit is the whole GPU's"
    shown, readings = read_once(fake_nvml, gpus, slices[:2])
    assert list(readings) == [A, B], "the other GPU is read beside it"
    assert readings[A]["power_w"] == 150
    assert shown["surroundings"] == {B: "gpu"}
    assert shown["description"][A].endswith(f"of the whole GPU, cut by MIG into {', '.join(slices)}")
    assert shown["covers"] == {A: slices}, "a slice outside the inventory draws from the same counter"
    assert shown["uuids"] == slices[:2]


def test_without_library_or_driver_there_are_no_gpus_and_auto_meters_nothing(fake_nvml: Any) -> None:
    script = """
meter = open_meter([Gpu("GPU-x")], MeterOptions())
try:
    open_meter([Gpu("GPU-x")], MeterOptions(kind="nvml"))
except MeterUnavailableError as refusal:
    told = str(refusal)
show({"devices": nvml_devices(), "problem": nvml_problem(), "told": told, "meter": meter.name,
      "readings": [asdict(reading) for reading in meter.read()]})
"""
    for library, cause in ((True, "Driver Not Loaded"), (False, "NVML Shared Library Not Found")):
        shown = fake_nvml.run_bare(script, {}, library=library)
        assert shown["devices"] == []
        assert cause in shown["problem"]
        assert cause in shown["told"]
        assert "install the NVIDIA driver" in shown["told"]
        assert shown["meter"] == "none"
        (reading,) = shown["readings"]
        assert reading["energy_counter_j"] is None
        assert cause in reading["error"]


def test_an_unknown_uuid_is_refused_by_name(fake_nvml: Any) -> None:
    script = """
try:
    open_meter([Gpu("GPU-elsewhere")], MeterOptions(kind="nvml"))
except MeterUnavailableError as refusal:
    show(str(refusal))
"""
    told = fake_nvml.run([FakeGpu(A)], script)
    assert "GPU-elsewhere" in told
    assert "nvidia-smi -L" in told


def test_a_lost_gpu_is_left_out_of_the_inventory(fake_nvml: Any) -> None:
    gpus = [FakeGpu(A, settings={"lost_s": 0}), FakeGpu(B)]
    listed = fake_nvml.run(gpus, "show([asdict(device) for device in nvml_devices()])")
    assert [device["uuid"] for device in listed] == [B]


def test_a_gpu_machine_with_a_broken_driver_does_not_pass_for_a_cpu_one(fake_nvml: Any) -> None:
    script = """
from joulelaw import InputError
try:
    nvml_devices()
except InputError as error:
    show(str(error))
"""
    assert "see that nvidia-smi works" in fake_nvml.run_bare(script, {"FAKE_NVML_INIT": "18"})


def test_an_error_for_a_while_is_an_error_and_passes(fake_nvml: Any) -> None:
    script = """
meter = open_meter([Gpu({uuid!r})], MeterOptions(kind="nvml"))
shown = []
while len(shown) < 200 and (not shown or shown[-1]["error"] or not any(r["error"] for r in shown)):
    time.sleep(0.02)
    shown.append(asdict(meter.read()[0]))
meter.close()
shown.append(asdict(meter.read()[0]))
show(shown)
"""
    gpu = FakeGpu(A, settings={"error_from_s": 0.3, "error_to_s": 0.6})
    *readings, closed = fake_nvml.run([gpu], script.format(uuid=A))
    failed = [reading for reading in readings if reading["error"]]
    assert failed
    assert {reading["energy_counter_j"] for reading in failed} == {None}
    assert {reading["power_w"] for reading in failed} == {None}
    assert all("Unknown Error" in reading["error"] for reading in failed)
    assert readings[-1]["error"] == ""
    assert readings[-1]["energy_counter_j"] > 0
    assert "Uninitialized" in closed["error"], "a closed meter has given NVML back"
