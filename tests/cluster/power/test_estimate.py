"""The estimate: CPU time of real processes, as the kernel's own accounts have it, times the stated watts."""

import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from joulelaw.bench.energy.energy import window_energy
from joulelaw.bench.energy.readings import from_readings
from joulelaw.cluster.power.estimate import open_estimate, process_cpu_ns

# Burns the CPU seconds named on each line of its input, then prints what the process has used in all.
WORKER = """
import sys, time
for line in sys.stdin:
    until = time.process_time() + float(line)
    while time.process_time() < until:
        pass
    print(time.process_time(), flush=True)
"""


@dataclass(frozen=True)
class Cpu:
    uuid: str
    cores: tuple[int, ...] = (0,)
    kind: Literal["cuda", "cpu"] = "cpu"


class Worker:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid

    def burn(self, cpu_s: float) -> float:
        """What the process has used in all, in s, by its own account."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{cpu_s}\n")
        return float(self.process.stdout.readline())

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    made = [Worker(), Worker()]
    for worker in made:
        worker.burn(0.0)  # started up
    yield made
    for worker in made:
        worker.end()


def test_joules_are_cpu_seconds_times_watts_of_all_watched_processes(workers: list[Worker]) -> None:
    meter = open_estimate([Cpu("a"), Cpu("b")], 3.5)
    before_s = [worker.burn(0.0) for worker in workers]
    meter.watch("a", [worker.pid for worker in workers])
    start_j = {reading.device_uuid: reading.energy_counter_j for reading in meter.read()}["a"]
    used_s = sum(worker.burn(0.2) - before for worker, before in zip(workers, before_s, strict=True))
    first, other = meter.read()
    assert first.energy_counter_j - start_j == pytest.approx(3.5 * used_s, rel=0.05)
    assert used_s > 0.4
    assert other.energy_counter_j is None
    assert "no process is watched" in other.error


def test_only_time_since_the_watch_began_counts(workers: list[Worker]) -> None:
    meter = open_estimate([Cpu("a")], 10.0)
    workers[0].burn(0.3)
    meter.watch("a", [workers[0].pid])
    assert meter.read()[0].energy_counter_j < 0.5


def test_a_process_that_ended_keeps_what_it_used_and_gives_no_number_of_what_nobody_saw(workers: list[Worker]) -> None:
    meter = open_estimate([Cpu("a")], 1.0)
    meter.watch("a", [workers[0].pid])
    workers[0].burn(0.2)
    alive_j = meter.read()[0].energy_counter_j
    workers[0].burn(0.1)
    workers[0].end()
    assert process_cpu_ns(workers[0].pid) is None
    (reading,) = meter.read()
    assert (reading.energy_counter_j, reading.error) == (None, "the processes at work have ended")
    meter.watch("a", [workers[1].pid])
    assert 0.19 < alive_j <= meter.read()[0].energy_counter_j < alive_j + 0.05


def test_a_process_that_ended_before_it_was_watched_gives_no_number(workers: list[Worker]) -> None:
    meter = open_estimate([Cpu("a")], 1.0)
    meter.watch("a", [workers[0].pid])
    workers[1].end()
    meter.watch("a", [workers[1].pid])
    (reading,) = meter.read()
    assert reading.energy_counter_j is None
    assert "had ended before they were watched" in reading.error


def test_the_counter_never_falls_from_one_trial_to_the_next(workers: list[Worker]) -> None:
    meter = open_estimate([Cpu("a")], 1.0)
    meter.watch("a", [workers[0].pid])
    workers[0].burn(0.1)
    meter.watch("a", [workers[1].pid])  # what the first used since the last reading is counted too
    at_change_j = meter.read()[0].energy_counter_j
    workers[0].burn(0.2)
    workers[1].burn(0.1)
    end_j = meter.read()[0].energy_counter_j
    assert at_change_j > 0.09
    assert 0.09 < end_j - at_change_j < 0.19, "only the second is watched by now"


def test_an_estimate_says_that_it_is_one() -> None:
    meter = open_estimate([Cpu("a")], 2.5)
    assert (meter.kind, meter.boundary) == ("estimated", "cpu_modelled")
    assert "2.5 W per core" in meter.description["a"]
    assert meter.covers == {"a": ("a",)}


def test_a_rank_that_ends_with_its_window_between_two_readings_loses_no_joules(workers: list[Worker]) -> None:
    """At 20 Hz up to 50 ms of a window would be lost, which is 5 % of one of a second."""
    meter = open_estimate([Cpu("a")], 10.0)
    meter.watch("a", [workers[0].pid])
    readings, begin_ns, used_s = meter.read(), time.monotonic_ns(), workers[0].burn(0.0)
    for _ in range(5):
        workers[0].burn(0.1)
        readings += meter.read()
    used_s = workers[0].burn(0.08) - used_s
    end_ns = time.monotonic_ns()
    workers[0].end()
    readings += meter.read()
    energy = window_energy(from_readings(readings, meter.name)["a"], begin_ns, end_ns)
    assert energy.energy_j is not None
    whole_j, seen_j = 10.0 * used_s, 10.0 * (used_s - 0.08)
    assert energy.energy_j > seen_j
    if energy.largest_gap_s < 0.15:  # otherwise the machine was so busy that 0.1 s of work took longer
        assert energy.energy_j > (whole_j + seen_j) / 2, "what was not seen goes on as before"
