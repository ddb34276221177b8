"""Step clocks: every step once, in order, touching; on CUDA nothing is read before the device has passed it."""

from collections import deque
from typing import Any

import pytest
import torch

from joulelaw.bench.training import step_clock
from joulelaw.bench.training.step_clock import CudaClock, HostClock

MS = 1_000_000


def test_on_a_cpu_steps_touch_and_come_once() -> None:
    clock = HostClock()
    begin_ns = clock.start()
    for step in range(3):
        clock.end(step, measured=step > 0, loss=torch.tensor(0.5 * step))
    rows = clock.finished()
    assert [(row.step, row.measured, row.loss) for row in rows] == [(0, False, 0.0), (1, True, 0.5), (2, True, 1.0)]
    assert rows[0].begin_ns == begin_ns
    assert [row.begin_ns for row in rows[1:]] == [row.end_ns for row in rows[:-1]]
    assert clock.finished() == []


class FakeCuda:
    """A device whose queued work takes stated times, and a host clock that runs beside it, both in ms."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host_ms = 1000.0
        self.queued_until_ms = 0.0
        self.drift = 1.0
        monkeypatch.setattr(step_clock, "_event", lambda: FakeEvent(self))
        monkeypatch.setattr(step_clock, "_sent_to_host", lambda loss: loss)
        monkeypatch.setattr(torch.cuda, "synchronize", self.synchronize)
        monkeypatch.setattr(step_clock.time, "monotonic_ns", lambda: round(MS * self.host_ms))

    def work(self, ms: float) -> None:
        self.queued_until_ms = max(self.queued_until_ms, self.host_ms) + ms

    def synchronize(self, device: Any = None) -> None:
        self.host_ms = max(self.host_ms, self.queued_until_ms)


class FakeEvent:
    def __init__(self, cuda: FakeCuda) -> None:
        self.cuda = cuda
        self.at_ms = 0.0

    def record(self) -> None:
        self.at_ms = max(self.cuda.queued_until_ms, self.cuda.host_ms)

    def query(self) -> bool:
        return self.at_ms <= self.cuda.host_ms

    def elapsed_time(self, later: "FakeEvent") -> float:
        return (later.at_ms - self.at_ms) * self.cuda.drift


def run_steps(cuda: FakeCuda, clock: CudaClock, durations_ms: list[float]) -> None:
    for step, duration_ms in enumerate(durations_ms):
        cuda.work(duration_ms)
        cuda.host_ms += 1  # the host only queues: it runs ahead
        clock.end(step, measured=True, loss=torch.tensor(float(step)))


def test_on_cuda_a_step_is_told_once_the_device_has_passed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(monkeypatch)
    clock = CudaClock(torch.device("cuda", 0))
    cuda.work(50)
    assert clock.start() == 1050 * MS, "the queue is empty at the edge"
    run_steps(cuda, clock, [10, 20, 30])
    assert clock.finished() == []
    cuda.host_ms = 1081
    rows = deque(clock.finished())
    assert [(row.step, row.begin_ns, row.end_ns) for row in rows] == [
        (0, 1050 * MS, 1060 * MS),
        (1, 1060 * MS, 1080 * MS),
    ]
    cuda.synchronize()
    assert [(row.step, row.begin_ns, row.end_ns, row.loss) for row in clock.finished()] == [
        (2, 1080 * MS, 1110 * MS, 2.0)
    ]


def test_on_cuda_a_device_clock_that_runs_fast_does_not_put_a_step_past_the_window(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cuda = FakeCuda(monkeypatch)
    cuda.drift = 1.001
    clock = CudaClock(torch.device("cuda", 0))
    clock.start()
    run_steps(cuda, clock, [100] * 20)
    cuda.synchronize()
    rows = clock.finished()
    assert len(rows) == 20
    times = [time for row in rows for time in (row.begin_ns, row.end_ns)]
    assert times == sorted(times)
    assert times[-1] <= 3000 * MS
