"""The sampler keeps every reading, keeps its rate without drift, and outlives a meter that raises."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest

from joulelaw.cluster.power.meter import NoMeter, Reading
from joulelaw.cluster.power.sampler import Sampler, next_deadline_ns


class Counting(NoMeter):
    """Each reading carries how many there were before it, so that a lost one shows; `fails` says which raise."""

    def __init__(self, fails: Callable[[int], bool] = lambda count: False) -> None:
        super().__init__([], "")
        self.covers = {"A": ("A",), "B": ("B",)}
        self.fails, self.count, self.closed_after = fails, 0, -1
        self.watched: list[tuple[str, Sequence[int]]] = []
        self.enough = threading.Event()

    def read(self) -> list[Reading]:
        count = self.count
        self.count += 1
        if self.count >= 12:
            self.enough.set()
        if self.fails(count):
            raise RuntimeError("the vendor's library is upset")
        now_ns = time.monotonic_ns()
        return [Reading(domain, now_ns, energy_counter_j=float(count)) for domain in self.covers]

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        self.watched.append((device_uuid, pids))

    def close(self) -> None:
        self.closed_after = self.count


def counts(readings: list[Reading], domain: str) -> list[float | None]:
    return [reading.energy_counter_j for reading in readings if reading.device_uuid == domain]


def test_every_reading_is_drained_once_in_order() -> None:
    meter, drained = Counting(), []
    sampler = Sampler(meter, rate_hz=200)
    while not meter.enough.wait(0.005):
        drained += sampler.drain()
    sampler.stop()
    drained += sampler.drain()
    assert counts(drained, "A") == list(range(meter.count))
    assert counts(drained, "B") == list(range(meter.count))
    assert meter.closed_after == meter.count, "closed once, after the last reading"
    assert sampler.drain() == []
    assert sampler.cpu_s > 0


def test_a_meter_that_raises_gives_errors_and_is_asked_again() -> None:
    meter = Counting(fails=lambda count: 3 <= count < 6)
    with Sampler(meter, rate_hz=200) as sampler:
        assert meter.enough.wait(30)
    readings = sampler.drain()
    failed = [reading for reading in readings if reading.error]
    assert [reading.device_uuid for reading in failed] == ["A", "B"] * 3
    assert {reading.error for reading in failed} == {"RuntimeError: the vendor's library is upset"}
    assert {reading.energy_counter_j for reading in failed} == {None}
    assert counts([r for r in readings if not r.error], "A") == [0, 1, 2, *range(6, meter.count)]


def test_a_full_buffer_drops_the_oldest_and_counts_them() -> None:
    meter = Counting()
    with Sampler(meter, rate_hz=500, capacity=7) as sampler:
        assert meter.enough.wait(30)
    readings = sampler.drain()
    assert len(readings) == 7
    assert sampler.dropped == 2 * meter.count - 7
    assert readings[-1].energy_counter_j == meter.count - 1


def test_watching_reaches_the_meter() -> None:
    meter = Counting()
    with Sampler(meter, rate_hz=1) as sampler:
        sampler.watch("A", [1, 2])
    assert meter.watched == [("A", [1, 2])]


def test_stopping_twice_closes_once_and_takes_a_last_reading() -> None:
    meter = Counting()
    sampler = Sampler(meter, rate_hz=0.01)
    while meter.count == 0:
        time.sleep(0.001)
    sampler.stop()
    sampler.stop()
    assert counts(sampler.drain(), "A") == [0, 1], "one at the start and one at the end, a period apart or not"


@pytest.mark.parametrize(
    ("now_ns", "expected"), [(1000, (1050, 0)), (1049, (1050, 0)), (1050, (1100, 1)), (1162, (1200, 3))]
)
def test_deadlines_stay_on_their_grid_and_late_ones_are_skipped(now_ns: int, expected: tuple[int, int]) -> None:
    assert next_deadline_ns(1000, 50, now_ns) == expected


def test_deadlines_do_not_drift_when_each_reading_is_late() -> None:
    """A thousand periods of 50 ms, each woken 3 ms late and read for 4 ms, end on the thousandth multiple."""
    deadline_ns = 0
    for _ in range(1000):
        deadline_ns, missed = next_deadline_ns(deadline_ns, 50_000_000, deadline_ns + 7_000_000)
        assert missed == 0
    assert deadline_ns == 1000 * 50_000_000
