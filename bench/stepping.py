"""The step loop of one rank: warm-up, window, and nothing between two steps that can wait."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from joulelaw.bench.compilation import nothing_compiles
from joulelaw.bench.configuration import Window
from joulelaw.bench.data import Epoch
from joulelaw.bench.process_group import Group
from joulelaw.bench.rank_state import synchronize
from joulelaw.bench.step_clock import StepRow, slept_ns, step_clock
from joulelaw.bench.strategies import Stepper
from joulelaw.bench.window import next_chunk

# Steps are sent in batches no more often than this: sending costs as much as a small layer.
SEND_EVERY_S = 1.0


@dataclass(frozen=True)
class Measured:
    """The window of one rank; times in nanoseconds of CLOCK_MONOTONIC."""

    begin_ns: int
    end_ns: int
    measured_steps: int
    loss_first: float
    loss_last: float
    skipped_steps: int
    """Measured steps whose update was left out, because an fp16 gradient overflowed."""
    slept_ns: int
    """How long the machine slept in the window."""


class StepLoop:
    """Runs the steps of one trial on one rank. The rank's number of steps is rank 0's choice."""

    def __init__(
        self, stepper: Stepper, epoch: Epoch, group: Group, device: torch.device, emit: Callable[[dict[str, Any]], None]
    ) -> None:
        self._stepper = stepper
        self._epoch = epoch
        self._group = group
        self._device = device
        self._emit = emit
        self._clock = step_clock(device)
        self._next_step = 0
        self._sent_at = time.monotonic()
        self._unsent: list[StepRow] = []
        self._losses: list[float] = []
        self._last_step_s: float | None = None

    def run(self, window: Window) -> Measured:
        """Warms up, then measures; every step's time and loss is emitted as it becomes known."""
        self._clock.start()
        self._run_steps(window.warmup_steps, measured=False)
        self._drain()
        skipped_before = self._stepper.skipped_steps()
        with nothing_compiles():
            self._group.barrier()
            begin_ns, slept_before_ns = self._clock.start(), slept_ns()
            measured_steps = self._run_window(window, begin_ns)
        self._group.barrier()
        end_ns, slept_after_ns = time.monotonic_ns(), slept_ns()
        self._send()
        return Measured(
            begin_ns=begin_ns,
            end_ns=end_ns,
            measured_steps=measured_steps,
            loss_first=self._losses[0],
            loss_last=self._losses[-1],
            skipped_steps=self._stepper.skipped_steps() - skipped_before,
            slept_ns=slept_after_ns - slept_before_ns,
        )

    def one_more_step(self) -> None:
        """A step after the window, of which nothing is told, for who looks at the rank meanwhile."""
        self._one_step(self._next_step)
        self._next_step += 1
        synchronize(self._device)

    def _run_window(self, window: Window, begin_ns: int) -> int:
        """Steps in chunks until the window is full; between chunks rank 0 looks at the clock. Returns the steps."""
        done = 0
        while True:
            elapsed_s = 1e-9 * (time.monotonic_ns() - begin_ns)
            step_s = elapsed_s / done if done else self._last_step_s
            chunk = self._group.agree(next_chunk(window, done, elapsed_s, step_s))
            if not chunk:
                return done
            self._run_steps(chunk, measured=True)
            self._drain()
            done += chunk

    def _run_steps(self, count: int, measured: bool) -> None:
        for _ in range(count):
            loss = self._one_step(self._next_step)
            self._clock.end(self._next_step, measured, loss)
            self._next_step += 1
            if time.monotonic() - self._sent_at > SEND_EVERY_S:
                self._collect()
                self._send()

    def _one_step(self, step: int) -> torch.Tensor:
        """The step's loss: the mean over its micro-steps."""
        batches = self._epoch.step(step)
        total = self._stepper.micro_step(batches[0], last=len(batches) == 1)
        for index, batch in enumerate(batches[1:], start=2):
            total = total + self._stepper.micro_step(batch, last=index == len(batches))
        self._stepper.optimizer_step()
        return total / len(batches) if len(batches) > 1 else total

    def _drain(self) -> None:
        """Waits for the device, so that every step issued is over and its row known."""
        synchronize(self._device)
        self._collect()

    def _collect(self) -> None:
        rows = self._clock.finished()
        self._unsent += rows
        self._losses += [row.loss for row in rows]
        if rows:
            self._last_step_s = 1e-9 * (rows[-1].end_ns - rows[-1].begin_ns)

    def _send(self) -> None:
        if self._unsent:
            self._emit({"kind": "steps", "rows": [list(row) for row in self._unsent]})
        self._unsent = []
        self._sent_at = time.monotonic()
