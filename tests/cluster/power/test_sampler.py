"""The sampler keeps every reading, keeps its rate without drift, and outlives a meter that raises."""

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from joulelaw.cluster.power.meter import NoMeter, Reading
from joulelaw.cluster.power.sampler import Sampler, deadline_ns, next_count


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


def test_readings_come_once_a_period_and_fill_every_rhythm_evenly() -> None:
    """Against ticks of 20, 50 and 100 ms and a quarter more of the period: no stretch of a tick stays unread."""
    period_ns, count = 50_000_000, 400
    due_ns = np.array([deadline_ns(number, 0, period_ns) for number in range(count)])
    assert (due_ns // period_ns == np.arange(count)).all()
    assert np.diff(due_ns).max() <= 1.62 * period_ns
    for tick_ms in (20, 50, 62.5, 100):
        places = np.sort(due_ns / 1e6 % tick_ms) / tick_ms
        assert np.diff(places).max() < 0.03, "an even grid would leave a fifth of some unread, and all of others"


def test_late_readings_are_skipped_and_counted() -> None:
    period_ns = 50_000_000
    dues_ns = [deadline_ns(number, 7, period_ns) for number in range(300)]
    for now_ns in range(7, 10 * period_ns, 1_234_567):
        passed = sum(due_ns <= now_ns for due_ns in dues_ns)
        following, missed = next_count(0, 7, period_ns, now_ns)
        assert (following, missed) == (max(1, passed), max(0, passed - 1))


def test_readings_do_not_drift_when_each_is_late() -> None:
    """A thousand periods of 50 ms, each woken 3 ms late and read for 4 ms, end in the thousandth period."""
    count, period_ns = 0, 50_000_000
    for _ in range(1000):
        count, _ = next_count(count, 0, period_ns, deadline_ns(count, 0, period_ns) + 7_000_000)
    assert count == 1000


def test_looking_closely_reads_every_millisecond_for_so_long() -> None:
    meter = Counting()
    meter.kind = "measured"
    with Sampler(meter, rate_hz=2) as sampler:
        assert not meter.enough.wait(0.2)
        sampler.look_closely(0.3)
        time.sleep(0.4)
        count = meter.count
        assert meter.enough.wait(0.01), "hundreds within the time, and a busy machine grants a dozen"
        time.sleep(0.2)
        assert meter.count - count <= 2, "it ends"
    times_ns = [r.time_ns for r in sampler.drain() if r.device_uuid == "A"]
    assert min(np.diff(times_ns)) < 5e6
