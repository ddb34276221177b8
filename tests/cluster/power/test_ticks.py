"""Close looks in made-up time, against a counter whose every tick is known: found, enclosed, and cheap."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from joulelaw.cluster.power.meter import Reading
from joulelaw.cluster.power.sampler import deadline_ns
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.power.ticks import CloseLooks
from tests.fake_nvml.devices import FakeGpu

PERIOD_NS, AWAKE_NS = 50_000_000, 100_000  # a sleep ends so much late
SECONDS = 120


@dataclass
class Watch:
    """What a sampler's loop would see of one counter: the reading before each, and those taken closely."""

    gpu: FakeGpu
    stands_s: tuple[float, float] = (math.inf, math.inf)  # the counter does not move between the two
    readings: list[Reading] = field(default_factory=list)
    close_ns: list[int] = field(default_factory=list)

    def read(self, now_ns: int) -> list[Reading]:
        at_s = now_ns / 1e9
        begin_s, end_s = self.stands_s
        at_s = begin_s if begin_s <= at_s < end_s else at_s
        counter_j = self.gpu.energy_j(0, self.gpu.last_tick_s(at_s))
        self.readings.append(Reading("A", now_ns, energy_counter_j=counter_j))
        return self.readings[-1:]

    def run(self, seen_tick_s: float, late_ns: int = AWAKE_NS) -> "Watch":
        looks = CloseLooks({"A": Sensor(counter_tick_s=seen_tick_s)}, ["A"], PERIOD_NS / 1e9, 0)
        now_ns = count = 0
        while now_ns < SECONDS * 1e9:
            if now_ns >= deadline_ns(count, 0, PERIOD_NS):
                looks.note(self.read(now_ns))
                count += 1
            if looks.due(now_ns):
                self.close_ns.append(now_ns)
                looks.note(self.read(now_ns + 1))
                looks.plan(now_ns)
            now_ns = round(max(now_ns + 1, min(looks.due_ns(), deadline_ns(count, 0, PERIOD_NS)) + late_ns))
        return self

    def enclosed(self) -> list[tuple[int, int]]:
        """Pairs of readings at most 2 ms apart between which the counter moved."""
        return [
            (before.time_ns, after.time_ns)
            for before, after in pairwise(self.readings)
            if before.energy_counter_j != after.energy_counter_j and after.time_ns - before.time_ns < 2_000_000
        ]

    def longest_blind_s(self) -> float:
        times_ns = [0, *(end_ns for _, end_ns in self.enclosed()), round(SECONDS * 1e9)]
        return max(later - earlier for earlier, later in pairwise(times_ns)) / 1e9


@pytest.mark.parametrize("tick_ms", [20.0, 50.0, 99.83, 100.0])
@pytest.mark.parametrize("seen", [0.997, 1.0, 1.003])
def test_a_steady_counter_is_enclosed_every_two_seconds_by_a_few_readings(tick_ms: float, seen: float) -> None:
    """Half a second of watching tells a tick of 100 ms to 0.3 %."""
    watch = Watch(FakeGpu("A", tick_ms=tick_ms, tick_phase_ms=13.7)).run(seen * tick_ms / 1e3)
    for begin_ns, end_ns in watch.enclosed():
        assert begin_ns / 1e9 <= watch.gpu.last_tick_s(end_ns / 1e9) <= end_ns / 1e9
        assert end_ns - begin_ns <= 1_200_000
    assert watch.longest_blind_s() < 6, "at first it may miss some"
    assert len(watch.enclosed()) >= 0.9 * SECONDS / 2.1
    settled = [at_ns for at_ns in watch.close_ns if at_ns > 20e9]
    assert len(settled) <= 6 * (SECONDS - 20) / 2


def test_a_counter_without_a_steady_rhythm_is_found_by_wider_looks() -> None:
    watch = Watch(FakeGpu("A", tick_ms=100.0, tick_jitter_ms=20.0)).run(0.0977)
    assert len(watch.enclosed()) >= 0.6 * SECONDS / 2
    assert watch.longest_blind_s() < 8
    assert len(watch.close_ns) <= 25 * SECONDS


def test_a_counter_that_stands_still_is_looked_at_ever_less_and_found_again() -> None:
    watch = Watch(FakeGpu("A", tick_ms=100.0), stands_s=(30, 80)).run(0.1)
    standing = [at_ns for at_ns in watch.close_ns if 40e9 <= at_ns < 80e9]
    assert len(standing) <= 4 * 130, "four whole ticks of a millisecond's steps in 40 s"
    assert any(end_ns > 80e9 for _, end_ns in watch.enclosed())


def test_a_machine_that_wakes_us_late_encloses_less_closely_and_costs_no_more() -> None:
    watch = Watch(FakeGpu("A", tick_ms=100.0)).run(0.1, late_ns=5_000_000)
    assert watch.enclosed() == []
    assert len(watch.close_ns) <= 20 * SECONDS


def test_power_alone_is_read_at_each_of_its_changes_and_slow_power_at_the_usual_rate() -> None:
    sensors = {
        "fast": Sensor(power_update_s=0.02),
        "slow": Sensor(power_update_s=0.1),
        "always": Sensor(power_update_s=0.0),
        "counted": Sensor(counter_tick_s=0.0, power_update_s=0.02),
    }
    looks = CloseLooks(sensors, [*sensors, "unknown"], PERIOD_NS / 1e9, 0)
    now_ns, read_ns = 0, []
    while now_ns < 2e9:
        assert looks.due(now_ns) == ["fast"]
        read_ns.append(now_ns)
        looks.plan(now_ns)
        now_ns = round(looks.due_ns())
    changes = [at_ns // 20_000_000 for at_ns in read_ns]
    assert set(changes) == set(range(100)), "no change unread"
    assert len(read_ns) <= 130
