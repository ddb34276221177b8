"""Sampler, NVML meter, window and verdict against joules known in closed form, with and without faults."""

import random
from itertools import pairwise
from typing import Any

import pytest

from joulelaw.bench.energy.energy import DeviceEnergy, group_energy
from joulelaw.bench.energy.readings import from_readings
from joulelaw.bench.trial.checks import TrialFacts, verdict
from joulelaw.cluster.power.meter import Reading
from tests.fake_nvml.devices import FakeGpu

RATE_HZ, SECONDS = 20, 3.6
RECORD = """
with Sampler(open_meter([Gpu(uuid) for uuid in {uuids!r}], MeterOptions(kind="nvml")), {rate_hz}) as sampler:
    time.sleep({seconds})
show({{"origin_ns": ORIGIN_NS, "begin_ns": first_ns, "end_ns": time.monotonic_ns(),
      "readings": [asdict(reading) for reading in sampler.drain()], "torch": "torch" in sys.modules}})
""".replace("with Sampler", "first_ns = time.monotonic_ns()\nwith Sampler", 1)
pytestmark = pytest.mark.xdist_group("fake_nvml")


@pytest.fixture(scope="module")
def devices() -> dict[str, Any]:
    """One device a case. Faults begin 2 s after the script does, in the middle of the recording."""
    gpus = [
        FakeGpu("GPU-constant", low_w=300, high_w=300, tick_ms=20),
        FakeGpu("GPU-slow-square", low_w=80, high_w=400, period_ms=700, duty=0.3, tick_ms=100),
        FakeGpu("GPU-fast-square", low_w=80, high_w=400, period_ms=37, duty=0.6, tick_ms=20),
        FakeGpu("GPU-no-counter", low_w=80, high_w=400, period_ms=900, settings={"counter": 0, "sensor_every_ms": 20}),
        FakeGpu("GPU-lost", settings={"lost_s": 2}),
        FakeGpu("GPU-reset", settings={"reset_s": 2}),
        FakeGpu("GPU-frozen", settings={"frozen_s": 1.2}),
        FakeGpu("GPU-silent", settings={"counter": 0, "fields": 0, "power": 0}),
        FakeGpu("GPU-beating", settings={"sensor_every_ms": 1000, "sensor_over_ms": 1}, low_w=100, high_w=900),
    ]
    return {gpu.uuid: gpu for gpu in gpus}


@pytest.fixture(scope="module")
def recording(fake_nvml: Any, devices: dict[str, Any]) -> Any:
    script = RECORD.format(uuids=list(devices), rate_hz=RATE_HZ, seconds=SECONDS)
    shown = fake_nvml.run(list(devices.values()), script)
    shown["readings"] = [Reading(**reading) for reading in shown["readings"]]
    return shown


def windows(recording: Any, count: int, margin_s: float = 0.3) -> list[tuple[int, int]]:
    """Stretches of at least 1 s that readings surround by `margin_s`."""
    draw = random.Random(7)
    first, last = (recording["begin_ns"] + margin_s * 1e9, recording["end_ns"] - margin_s * 1e9)
    begins = [draw.uniform(first, last - 1e9) for _ in range(count)]
    return [(int(begin), int(draw.uniform(begin + 1e9, last))) for begin in begins]


def metered(recording: Any, uuid: str, begin_ns: int, end_ns: int) -> tuple[DeviceEnergy, tuple[str, ...]]:
    energy = group_energy(from_readings(recording["readings"], "nvml"), [uuid], begin_ns, end_ns)
    judged = verdict(TrialFacts(energy, (end_ns - begin_ns) / 1e9, losses=(1.0, 0.5)))
    assert judged.valid == (not judged.reasons)
    return energy.devices[0], judged.reasons


def longest_wait_s(recording: Any, uuid: str) -> float:
    times = [reading.time_ns for reading in recording["readings"] if reading.device_uuid == uuid]
    return max(later - earlier for earlier, later in pairwise(times)) / 1e9


@pytest.mark.parametrize("uuid", ["GPU-constant", "GPU-slow-square", "GPU-fast-square"])
def test_the_counter_gives_the_true_joules(recording: Any, devices: dict[str, Any], uuid: str) -> None:
    """Within what ticks and readings leave open at the two edges, and half a percent of it off on average."""
    gpu, wait_s, errors = devices[uuid], longest_wait_s(recording, uuid), []
    allowed_j = gpu.high_w * wait_s + (gpu.high_w - gpu.low_w) * (gpu.tick_ms / 1e3 + wait_s) / 2
    for begin_ns, end_ns in windows(recording, 40):
        true_j = gpu.energy_j(*((edge_ns - recording["origin_ns"]) / 1e9 for edge_ns in (begin_ns, end_ns)))
        device, _ = metered(recording, uuid, begin_ns, end_ns)
        assert device.source == "counter"
        assert device.energy_j == pytest.approx(true_j, abs=allowed_j)
        errors.append(device.energy_j - true_j)
    assert abs(sum(errors) / len(errors)) < allowed_j / 4, "edges err to both sides"


@pytest.mark.parametrize("uuid", ["GPU-constant", "GPU-fast-square"])
def test_a_good_window_of_two_seconds_is_valid(recording: Any, uuid: str) -> None:
    begin_ns = recording["begin_ns"] + 400_000_000
    device, reasons = metered(recording, uuid, begin_ns, begin_ns + 2 * 10**9)
    if longest_wait_s(recording, uuid) < 0.06:  # a busy machine may hold the sampler up, and then the verdict says so
        assert reasons == ()
        assert device.stderr_j / device.energy_j < 0.02
    assert set(reasons) <= {"gap", "window_too_short"}


def test_without_a_counter_the_held_trace_gives_the_joules(recording: Any, devices: dict[str, Any]) -> None:
    """Each change of power is seen at most one reading and one look of the sensor late."""
    gpu, wait_s = devices["GPU-no-counter"], longest_wait_s(recording, "GPU-no-counter")
    for begin_ns, end_ns in windows(recording, 20):
        begin_s, end_s = ((edge_ns - recording["origin_ns"]) / 1e9 for edge_ns in (begin_ns, end_ns))
        changes = 2 * (end_s - begin_s) / (gpu.period_ms / 1e3) + 2
        device, _ = metered(recording, gpu.uuid, begin_ns, end_ns)
        assert (device.source, device.counter_j) == ("trace", None)
        allowed_j = changes * (gpu.high_w - gpu.low_w) * (wait_s + 0.02 + 0.025)
        assert device.energy_j == pytest.approx(gpu.energy_j(begin_s, end_s), abs=allowed_j)


@pytest.mark.parametrize(
    ("uuid", "reason"),
    [
        ("GPU-lost", "gpu_lost"),
        ("GPU-reset", "counter_reset"),
        ("GPU-frozen", "gap"),
        ("GPU-silent", "no_reading"),
    ],
)
def test_a_fault_in_the_window_is_no_number_and_has_its_reason(recording: Any, uuid: str, reason: str) -> None:
    begin_ns, end_ns = recording["origin_ns"] + 800_000_000, recording["end_ns"] - 300_000_000
    device, reasons = metered(recording, uuid, begin_ns, end_ns)
    assert device.energy_j is None
    assert reason in reasons


def test_a_gpu_lost_after_the_window_leaves_it_valid(recording: Any, devices: dict[str, Any]) -> None:
    begin_ns = recording["begin_ns"] + 200_000_000
    device, reasons = metered(recording, "GPU-lost", begin_ns, recording["origin_ns"] + 1_700_000_000)
    assert "gpu_lost" not in reasons
    assert device.energy_j is not None


def test_one_fault_in_a_group_leaves_the_group_without_a_number(recording: Any) -> None:
    readings, span = from_readings(recording["readings"], "nvml"), (recording["begin_ns"] + 10**9, recording["end_ns"])
    energy = group_energy(readings, ["GPU-constant", "GPU-lost"], *span)
    assert energy.devices[0].energy_j is not None
    assert energy.energy_j is None
    assert verdict(TrialFacts(energy, 2.0)).reasons == ("gpu_lost",)


def test_a_sensor_that_beats_with_the_load_disagrees_with_the_counter(recording: Any) -> None:
    """It looks for 1 ms once a second at a load that is high for half of each second: it sees only one half."""
    begin_ns = recording["origin_ns"] + 1_000_000_000
    device, reasons = metered(recording, "GPU-beating", begin_ns, begin_ns + 2 * 10**9)
    assert abs(device.disagreement) > 0.5
    assert "counter_trace_disagree" in reasons


def test_metering_loads_no_torch(recording: Any) -> None:
    assert recording["torch"] is False
