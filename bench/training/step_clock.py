"""When each step began and ended, without making the device wait inside the window.

On a CPU a step is over when the call returns. On CUDA the host only queues the step: an event marks its end on
the device, and the loss travels to pinned memory behind it; both are read once the device has passed them.
"""

import time
from collections import deque
from typing import NamedTuple, Protocol

import torch


class StepRow(NamedTuple):
    """One step of one rank; times in nanoseconds of CLOCK_MONOTONIC, `step` counts from 0 with the warm-up."""

    step: int
    measured: bool
    begin_ns: int
    end_ns: int
    loss: float


class StepClock(Protocol):
    """Times steps: `start` at an edge of the window, `end` after each step's work was issued."""

    def start(self) -> int:
        """Waits for the device; the time from which the next step counts, in ns."""
        ...

    def end(self, step: int, measured: bool, loss: torch.Tensor) -> None:
        """Marks the end of a step and the begin of the next."""
        ...

    def wait(self, behind: int) -> None:
        """Until no more than so many steps are on their way: on one step's end, not on the whole device."""
        ...

    def finished(self) -> list[StepRow]:
        """The steps known to be over that were not returned before, in order."""
        ...


def step_clock(device: torch.device) -> StepClock:
    """The clock for a kind of device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()


class HostClock:
    """For devices whose calls return when the work is done."""

    def __init__(self) -> None:
        self._rows: list[StepRow] = []
        self._begin_ns = 0

    def start(self) -> int:
        self._begin_ns = time.monotonic_ns()
        return self._begin_ns

    def end(self, step: int, measured: bool, loss: torch.Tensor) -> None:
        value = loss.item()
        end_ns = time.monotonic_ns()
        self._rows.append(StepRow(step, measured, self._begin_ns, end_ns, value))
        self._begin_ns = end_ns

    def wait(self, behind: int) -> None:
        """None is on its way."""

    def finished(self) -> list[StepRow]:
        rows, self._rows = self._rows, []
        return rows


class CudaClock:
    """Events on the current stream, tied to the host's clock at `start`, when the queue is empty.

    Times add up event to event, because one long difference in float32 milliseconds would lose microseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: deque[tuple[int, bool, torch.cuda.Event, torch.Tensor]] = deque()
        self._last = _event()
        self._last_ns = 0

    def start(self) -> int:
        torch.cuda.synchronize(self._device)
        assert not self._pending, "finished() comes before start()"
        self._last = _event()
        self._last.record()
        self._last_ns = time.monotonic_ns()
        return self._last_ns

    def end(self, step: int, measured: bool, loss: torch.Tensor) -> None:
        on_host = _sent_to_host(loss)
        event = _event()
        event.record()
        self._pending.append((step, measured, event, on_host))

    def wait(self, behind: int) -> None:
        if len(self._pending) > behind:
            self._pending[-1 - behind][2].synchronize()

    def finished(self) -> list[StepRow]:
        rows = []
        while self._pending and self._pending[0][2].query():  # type: ignore[no-untyped-call]
            step, measured, event, loss = self._pending.popleft()
            end_ns = self._last_ns + round(1e6 * self._last.elapsed_time(event))
            end_ns = min(end_ns, time.monotonic_ns())  # the two clocks drift apart by parts per million
            rows.append(StepRow(step, measured, self._last_ns, end_ns, loss.item()))
            self._last, self._last_ns = event, end_ns
        return rows


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _sent_to_host(loss: torch.Tensor) -> torch.Tensor:
    """A copy under way to pinned memory: to be read only after an event recorded behind it has passed."""
    on_host = torch.empty((), dtype=loss.dtype, pin_memory=True)
    return on_host.copy_(loss, non_blocking=True)
