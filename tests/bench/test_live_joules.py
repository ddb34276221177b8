"""Joules of a live training: the running sum against closed forms, and stretches of what was kept."""

import time
from collections.abc import Sequence

import pytest

from joulelaw.bench.live.going import Going
from joulelaw.bench.live.joules import LiveMeter, RunningJoules, SoFar
from joulelaw.bench.live.ranks import Company, Member, Ranks
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import NoMeter, Reading
from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import FakeGpu

SECOND = 1_000_000_000
CPU = Device("CPU-x-0", "A CPU (1 core)", 0, "cpu", 10**9, (0,), None, "")

LIVE = """
from joulelaw.bench.live.joules import LiveMeter
from joulelaw.bench.meter.devices import node_devices

device = node_devices()[0]
live = LiveMeter(open_meter([device], MeterOptions()), [device], 20.0, lambda: [(begin_ns, None)])
begin_ns = time.monotonic_ns() + 1_000_000_000
live.watch({device.uuid: [os.getpid()]})
time.sleep(3.0)
end_ns = time.monotonic_ns()
live.wait_past(end_ns + round(1e9 * live.beyond_s))
live.stop()
energy, conditions = live.energy(begin_ns, end_ns)
so_far = live.so_far()
show({"origin_ns": ORIGIN_NS, "begin_ns": begin_ns, "end_ns": end_ns, "energy_j": energy.energy_j,
      "stderr_j": energy.stderr_j, "foreign": conditions.foreign_processes, "so_far": [
      so_far.energy_j, so_far.begin_ns, so_far.time_ns], "kept": len(live.readings(begin_ns, end_ns))})
"""


def counted(joules: Sequence[float], every_s: float = 0.05, uuid: str = "A") -> list[Reading]:
    return [Reading(uuid, round(k * every_s * SECOND), energy_counter_j=each) for k, each in enumerate(joules)]


def test_counters_add_up_over_devices_and_calls() -> None:
    running = RunningJoules(["A", "B"])
    assert running.joules is None
    running.add([*counted([100.0, 110.0]), *counted([5.0, 5.5], uuid="B"), *counted([0.0, 9.0], uuid="beside")])
    running.add([Reading("A", SECOND, energy_counter_j=140.0), Reading("B", SECOND, error="busy")])
    assert running.joules == pytest.approx(40.0 + 0.5)


def test_power_holds_until_the_next_reading_and_a_counter_takes_its_place() -> None:
    running = RunningJoules(["A"])
    running.add([Reading("A", k * SECOND, power_w=watts) for k, watts in enumerate([100.0, 300.0, 300.0])])
    assert running.joules == pytest.approx(400.0)
    running.add([Reading("A", 3 * SECOND, 300.0, 50.0), Reading("A", 4 * SECOND, 300.0, 250.0)])
    assert running.joules == pytest.approx(600.0)


def test_a_counter_that_goes_back_makes_the_sum_unknown() -> None:
    running = RunningJoules(["A"])
    running.add(counted([10.0, 20.0, 3.0, 30.0]))
    assert running.joules is None
    standing = RunningJoules(["A"])
    standing.add(counted([10.0, 10.0]))
    assert standing.joules is None, "no device that works uses 0 J"


def test_a_stretch_of_a_played_gpu_is_known_and_the_running_sum_is_near_it() -> None:
    gpu = FakeGpu("GPU-1", low_w=100.0, high_w=300.0, period_ms=700.0)
    found = fake_nvml().run([gpu], LIVE, age_s=1.0)
    edges = [(found[name] - found["origin_ns"]) / 1e9 for name in ("begin_ns", "end_ns")]
    truth_j = gpu.energy_j(*edges)
    assert found["energy_j"] == pytest.approx(truth_j, rel=0.03)
    assert abs(found["energy_j"] - truth_j) < 4 * found["stderr_j"]
    so_far_j, *times_ns = found["so_far"]
    # A tick of 100 ms may be missing at either end.
    assert so_far_j == pytest.approx(gpu.energy_j(*((t - found["origin_ns"]) / 1e9 for t in times_ns)), abs=60.0)
    assert found["foreign"] == 0
    assert found["kept"] > 30


class Fed:
    """A meter of one device whose joules the test sets."""

    def __init__(self) -> None:
        self.now = SoFar(None, 0, 0)

    def so_far(self) -> SoFar:
        return self.now


def test_what_is_left_to_go_is_by_the_steps_so_far_and_before_them_by_the_forecast() -> None:
    fed, company = Fed(), Company([Member(0, "here", 1, 1, None)], 0)
    going = Going(fed, Ranks(0, 1), company, 100)  # type: ignore[arg-type]
    assert going.told(1, 500.0)["energy_to_go_j"] == pytest.approx(500.0 * 99 / 100)
    now_ns = time.monotonic_ns()
    fed.now = SoFar(100.0, now_ns - 20 * SECOND, now_ns - 10 * SECOND)
    going.warm(10)
    fed.now = SoFar(600.0, now_ns - 20 * SECOND, now_ns)  # 50 W for 10 s, in which 40 steps were done
    told = going.told(50, 500.0)
    assert told["energy_j"] == 600.0
    assert told["power_w"] == pytest.approx(30.0)  # of all of the 20 s: it was asked for the first time
    assert told["energy_to_go_j"] == pytest.approx(500.0 / 40 * 50, rel=0.01)


def test_readings_that_no_stretch_needs_are_let_go() -> None:
    live = LiveMeter(NoMeter([CPU], "a test"), [CPU], 1.0, lambda: [(50 * SECOND, 60 * SECOND)])
    live.stop()
    live._waiting = counted([0.1 * k for k in range(2000)])  # 100 s
    live._put()
    live._waiting = [Reading(each.device_uuid, each.time_ns + 200 * SECOND) for each in counted([0.0] * 2000)]
    live._put()
    live._prune()
    assert [len(part) for part in live._parts if part["time_ns"][0].as_py() >= 200 * SECOND] == []
    assert len(live.readings(50 * SECOND, 60 * SECOND)) == pytest.approx(30 / 0.05, abs=2)
