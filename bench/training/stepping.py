"""The step loop of one rank: warm-up, window, and nothing between two steps that can wait for the device."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from joulelaw.bench.data.batches import Epoch
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.strategies import Stepper
from joulelaw.bench.study.asleep import slept_ns
from joulelaw.bench.training.aliasing import pause_s
from joulelaw.bench.training.compilation import nothing_compiles
from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.rank_state import synchronize
from joulelaw.bench.training.step_clock import StepRow, step_clock
from joulelaw.bench.training.warmup import longest_s, warmup_chunk
from joulelaw.bench.training.window import next_chunk

# Steps are sent in batches no more often than this: sending costs as much as a small layer.
SEND_EVERY_S = 1.0
# The host queues so many steps before it waits for one: enough that the device never waits for the host.
AHEAD = 4
# Warm-up steps from which the usual duration is told.
_RECENT = 20


@dataclass(frozen=True)
class Measured:
    """The window of one rank; times in nanoseconds of CLOCK_MONOTONIC."""

    begin_ns: int
    end_ns: int
    measured_steps: int
    warmup_steps: int
    warmup_s: float
    jitter_s: float
    """The pause after each step, against steps in time with a sensor that sees only part of it."""
    loss_first: float
    loss_last: float
    skipped_steps: int
    """Measured steps whose update was left out, because an fp16 gradient overflowed."""
    slept_ns: int
    """How long the machine slept in the window."""


def nothing_heard() -> str:
    """Where nobody speaks to a rank."""
    return ""


class StepLoop:
    """Runs the steps of one trial on one rank. The rank's number of steps is rank 0's choice.

    `hear` gives the next word for rank 0, or none: "warm" once the devices' temperatures have settled, "enough" once
    the energy per step is known.
    """

    def __init__(
        self,
        stepper: Stepper,
        epoch: Epoch,
        group: Group,
        device: torch.device,
        emit: Callable[[dict[str, Any]], None],
        hear: Callable[[], str] = nothing_heard,
    ) -> None:
        self._stepper = stepper
        self._epoch = epoch
        self._group = group
        self._device = device
        self._emit = emit
        self._hear = hear
        self._heard: set[str] = set()
        self._clock = step_clock(device)
        self._next_step = 0
        self._pause_s = 0.0
        self._sent_at = time.monotonic()
        self._unsent: list[StepRow] = []
        self._losses: list[float] = []
        self._step_s: list[float] = []  # of the warm-up
        self._over: tuple[int, int] = (0, 0)  # measured steps known to be over, and when the last of them was

    def run(self, window: Window, sensor_update_s: float | None = None) -> Measured:
        """Warms up, then measures; every step's time and loss is emitted as it becomes known.

        `sensor_update_s` is the update interval of a power sensor that sees only part of the time.
        """
        warm_from_ns = self._clock.start()
        self._warm_up(window)
        warmup_steps = self._next_step
        self._pause_s = self._agreed_pause_s(window, sensor_update_s)
        skipped_before = self._stepper.skipped_steps()
        with nothing_compiles():
            self._group.barrier()
            begin_ns, slept_before_ns = self._clock.start(), slept_ns()
            measured_steps = self._run_window(window, begin_ns)
            self._drain()
        self._group.barrier()
        end_ns, slept_after_ns = time.monotonic_ns(), slept_ns()
        self._send()
        return Measured(
            begin_ns=begin_ns,
            end_ns=end_ns,
            measured_steps=measured_steps,
            warmup_steps=warmup_steps,
            warmup_s=1e-9 * (begin_ns - warm_from_ns),
            jitter_s=self._pause_s,
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

    def _warm_up(self, window: Window) -> None:
        """The steps asked for, and then, where the rule is on, more until steps are steady and the device is warm."""
        began_s = time.monotonic()
        self._run_steps(window.warmup_steps, measured=False)
        self._drain()
        longest = longest_s(window, self._device.type)
        while longest:
            elapsed_s = time.monotonic() - began_s
            chunk = self._group.agree(warmup_chunk(self._step_s, elapsed_s, longest, self._is_told("warm")))
            if not chunk:
                return
            self._run_steps(chunk, measured=False)
            self._drain()

    def _agreed_pause_s(self, window: Window, sensor_update_s: float | None) -> float:
        if sensor_update_s is None:
            return 0.0
        usual_s = statistics.median(self._step_s[-_RECENT:]) if self._step_s else 0.0
        window_s = max(window.min_s, window.min_steps * usual_s)
        return 1e-9 * self._group.agree(round(1e9 * pause_s(usual_s, sensor_update_s, window_s)))

    def _run_window(self, window: Window, begin_ns: int) -> int:
        """Steps in chunks until the window is full; between chunks rank 0 looks at the clock, and nobody waits for the
        device but for a step some way back. Returns the steps."""
        issued = 0
        while True:
            self._collect()
            step_s = self._window_step_s(begin_ns)
            elapsed_s = issued * step_s if step_s else 0.0
            chunk = self._group.agree(next_chunk(window, issued, elapsed_s, step_s, self._is_told("enough")))
            if not chunk:
                return issued
            self._run_steps(chunk, measured=True)
            issued += chunk

    def _window_step_s(self, begin_ns: int) -> float | None:
        """A step's duration: of those in the window that are over, else of the last one before it."""
        count, last_ns = self._over
        if count:
            return 1e-9 * (last_ns - begin_ns) / count
        return self._step_s[-1] if self._step_s else None

    def _run_steps(self, count: int, measured: bool) -> None:
        for _ in range(count):
            loss = self._one_step(self._next_step)
            self._clock.end(self._next_step, measured, loss)
            self._next_step += 1
            if self._pause_s and measured:
                self._clock.wait(0)
                time.sleep(self._pause_s)
            else:
                self._clock.wait(AHEAD)
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

    def _is_told(self, word: str) -> bool:
        """Whether this word has come: rank 0 decides for all, and the others need not listen."""
        while self._group.rank == 0 and (heard := self._hear()):
            self._heard.add(heard)
        return word in self._heard

    def _drain(self) -> None:
        """Waits for the device, so that every step issued is over and its row known."""
        synchronize(self._device)
        self._collect()

    def _collect(self) -> None:
        rows = self._clock.finished()
        self._unsent += rows
        self._losses += [row.loss for row in rows]
        self._step_s += [1e-9 * (row.end_ns - row.begin_ns) for row in rows if not row.measured]
        if measured := [row for row in rows if row.measured]:
            self._over = (self._over[0] + len(measured), measured[-1].end_ns)

    def _send(self) -> None:
        if self._unsent:
            self._emit({"kind": "steps", "rows": [list(row) for row in self._unsent]})
        self._unsent = []
        self._sent_at = time.monotonic()


def words(receive: Callable[[float], Mapping[str, Any]]) -> Callable[[], str]:
    """The kinds of a launcher's messages, one a call, without waiting; "" where there is none."""

    def hear() -> str:
        try:
            return str(receive(0.0)["kind"])
        except TimeoutError:
            return ""

    return hear
