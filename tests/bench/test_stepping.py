"""The step loop by itself, on steps that take a known time: pauses, and no waiting for the device inside the window."""

import time
from collections import deque
from itertools import pairwise
from typing import Any, cast

import pytest
import torch

from joulelaw.bench.data.batches import Epoch
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.strategies import Stepper
from joulelaw.bench.training import stepping
from joulelaw.bench.training.aliasing import MOST
from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.step_clock import StepRow
from joulelaw.bench.training.stepping import AHEAD, Measured, StepLoop

CPU = torch.device("cpu")
STEP_S = 0.02


class Sleeper:
    """A stepper and its data: each step sleeps."""

    def step(self, number: int) -> list[int]:
        return [number]

    def micro_step(self, batch: object, last: bool) -> torch.Tensor:
        time.sleep(STEP_S)
        return torch.tensor(0.5)

    def optimizer_step(self) -> None:
        """Nothing to learn."""

    def skipped_steps(self) -> int:
        return 0


def run(window: Window, sensor_update_s: float | None = None) -> tuple[Measured, list[list[Any]]]:
    rows: list[list[Any]] = []
    sleeper = Sleeper()
    group = Group(0, 1, CPU, None)
    loop = StepLoop(cast(Stepper, sleeper), cast(Epoch, sleeper), group, CPU, lambda event: rows.extend(event["rows"]))
    return loop.run(window, sensor_update_s), rows


def test_steps_in_time_with_a_sensor_that_sees_only_part_are_put_out_of_it() -> None:
    measured, rows = run(Window(warmup_steps=20, min_steps=10, min_s=0.2), sensor_update_s=STEP_S)
    usual_s = sorted(1e-9 * (row[3] - row[2]) for row in rows if not row[1])[10]
    if usual_s > 1.1 * STEP_S:
        pytest.skip("the machine is too busy to sleep for a given time")
    assert measured.jitter_s == pytest.approx(MOST * usual_s, rel=0.1)
    paused = [1e-9 * (after[2] - before[2]) for before, after in pairwise(rows[21:])]
    assert min(paused) >= STEP_S + measured.jitter_s


def test_without_such_a_sensor_or_out_of_its_time_nothing_is_paused() -> None:
    assert run(Window(5, 5))[0].jitter_s == 0
    assert run(Window(5, 5, min_s=2 * STEP_S), sensor_update_s=2.5 * STEP_S)[0].jitter_s == 0


class Queue:
    """A device that works through steps of 10 ms in the order they are queued, and tells who waited for it."""

    def __init__(self) -> None:
        self.now_ns = self.free_ns = 0
        self.pending: deque[StepRow] = deque()
        self.most_ahead = 0

    def start(self) -> int:
        self.synchronize()
        return self.now_ns

    def end(self, step: int, measured: bool, loss: torch.Tensor) -> None:
        begin_ns = max(self.now_ns, self.free_ns)
        self.now_ns += 100_000  # the host only queues
        self.free_ns = begin_ns + 10_000_000
        self.pending.append(StepRow(step, measured, begin_ns, self.free_ns, 0.5))
        self.most_ahead = max(self.most_ahead, len(self.pending))

    def wait(self, behind: int) -> None:
        running = [row for row in self.pending if row.end_ns > self.now_ns]
        if len(running) > behind:
            self.now_ns = running[-1 - behind].end_ns

    def finished(self) -> list[StepRow]:
        rows = []
        while self.pending and self.pending[0].end_ns <= self.now_ns:
            rows.append(self.pending.popleft())
        return rows

    def synchronize(self, device: object = None) -> None:
        self.now_ns = max(self.now_ns, self.free_ns)


def test_inside_the_window_the_device_never_runs_dry_and_the_host_is_at_most_some_steps_ahead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, rows = Queue(), []
    waits: list[int] = []
    sleeper = Sleeper()
    monkeypatch.setattr(stepping, "step_clock", lambda device: queue)
    monkeypatch.setattr(stepping, "synchronize", lambda device: (waits.append(len(rows)), queue.synchronize()))
    monkeypatch.setattr(stepping.time, "monotonic_ns", lambda: queue.now_ns)
    monkeypatch.setattr(Sleeper, "micro_step", lambda self, batch, last: torch.tensor(0.5))
    heard = iter([""] * 3 + ["enough"])
    loop = StepLoop(
        cast(Stepper, sleeper),
        cast(Epoch, sleeper),
        Group(0, 1, CPU, None),
        CPU,
        lambda event: rows.extend(event["rows"]),
        lambda: next(heard, ""),
    )
    measured = loop.run(Window(warmup_steps=3, min_steps=20, min_s=0.5, max_s=60, tolerance=0.01))
    steps = [row for row in rows if row[1]]
    assert len(steps) == measured.measured_steps > 55, "it went on beyond its minimum"
    assert all(after[2] == before[3] for before, after in pairwise(steps)), "back to back"
    assert len(waits) == 2, "the device is waited for once at either edge"
    assert queue.most_ahead <= stepping.SEND_EVERY_S / 0.01 + AHEAD
    assert 1e-9 * (steps[-1][3] - steps[0][2]) == pytest.approx(0.01 * len(steps))
