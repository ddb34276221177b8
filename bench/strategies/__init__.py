"""How the work is spread over ranks: one file a strategy, the interface, and the table that names them.

A strategy is a module with one function, ``prepare(setup) -> Stepper``. It wraps any workload's model and knows
nothing of BERT. All of them optimize with AdamW, average the gradients over ranks and micro-steps, and so train
the same numbers as one device on the same global batch.

To add one, run it and count it. Here: a file, a line in `STRATEGIES`, and its name in `configuration.Strategy`. In
model/: its entry in `parallelism.STRATEGIES` and in `kernels.STRATEGY_LAUNCHES`, and, where its host time is like
theirs, in a group of `laws/roofline_terms.py`. Its colour in reports: `report.palette.STRATEGIES`.
docs/adding.md is a whole example.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import TrainingModel

if TYPE_CHECKING:  # the table is also read where torch is not installed
    import torch

    from joulelaw.bench.data.batches import Batch


@dataclass(frozen=True)
class Entry:
    """A strategy's place in the table."""

    module: str
    needs_group: bool
    """It communicates, so its ranks form a process group, even if there is only one."""


STRATEGIES = {
    "single": Entry("joulelaw.bench.strategies.single", needs_group=False),
    "ddp": Entry("joulelaw.bench.strategies.ddp", needs_group=True),
    "fsdp": Entry("joulelaw.bench.strategies.fsdp", needs_group=True),
    "tp": Entry("joulelaw.bench.strategies.tp", needs_group=True),
    "fsdp_tp": Entry("joulelaw.bench.strategies.fsdp_tp", needs_group=True),
    "zero1": Entry("joulelaw.bench.strategies.zero", needs_group=True),
    "zero2": Entry("joulelaw.bench.strategies.zero", needs_group=True),
    "zero3": Entry("joulelaw.bench.strategies.zero", needs_group=True),
}


@dataclass(frozen=True)
class Setup:
    """What a strategy gets: the model to train, how, where, and on how many ranks."""

    training: TrainingModel
    configuration: Configuration
    device: "torch.device"
    world_size: int


class Stepper(Protocol):
    """A prepared model: the trial calls `micro_step` k times, then `optimizer_step`, for every step."""

    def micro_step(self, batch: "Batch", last: bool) -> "torch.Tensor":
        """Forward and backward over one micro-batch; `last` is true for the step's last micro-step.

        Returns this rank's mean loss, detached, unscaled, still on the device.
        """
        ...

    def optimizer_step(self) -> None:
        """Applies the averaged gradients and clears them."""
        ...

    def skipped_steps(self) -> int:
        """Optimizer steps so far that changed nothing, because an fp16 gradient overflowed. May wait for the device."""
        ...

    def full_parameters(self) -> "dict[str, torch.Tensor]":
        """Every parameter, whole, fp32, on the CPU, by its name in the unwrapped model. Every rank must call it."""
        ...


class Strategy(Protocol):
    """The interface of a strategy's module."""

    def prepare(self, setup: Setup) -> Stepper:
        """Shards and wraps the model, which is then this stepper's to keep."""
        ...


def load_strategy(name: str) -> Strategy:
    """The strategy of this name; imports torch, and DeepSpeed for the zero stages.

    Raises:
        InputError: no such strategy.
    """
    if name not in STRATEGIES:
        raise InputError(f"unknown strategy {name!r}", remedy=f"one of {', '.join(STRATEGIES)}")
    return cast(Strategy, import_module(STRATEGIES[name].module))
