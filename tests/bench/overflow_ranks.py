"""Ranks of a trial whose gradients overflow when a test says so."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.spec.configuration import TrialSpec
from joulelaw.bench.strategies import Setup, Stepper, load_strategy, loss_scale
from joulelaw.bench.training.rank import form_group, make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.bench.training.stepping import StepLoop
from joulelaw.cluster.ranks.rank import RankContext


class Overflow:
    """Where a strategy's gradients can be made infinite: set before it prepares its model."""

    def __init__(self, strategy: Any) -> None:
        self.loss_factor = 1.0
        self._optimizer: torch.optim.Optimizer
        strategy.adamw = self._keeping(strategy.adamw)
        strategy.prepare = self._hooking(strategy.prepare)

    def of_one_gradient(self) -> None:
        """The first element that this rank holds, and it alone, after all communication."""
        parameters = [each for group in self._optimizer.param_groups for each in group["params"]]
        gradients = [getattr(each.grad, "_local_tensor", each.grad) for each in parameters]
        next(each for each in gradients if each.numel()).view(-1)[0] = torch.inf

    def _keeping(self, adamw: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*args: Any) -> Any:
            self._optimizer = adamw(*args)
            return self._optimizer

        return kept

    def _hooking(self, prepare: Callable[[Setup], Stepper]) -> Callable[[Setup], Stepper]:
        def enlarge(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            output.loss = output.loss * self.loss_factor

        def hooked(setup: Setup) -> Stepper:
            setup.training.module.register_forward_hook(enlarge)
            return prepare(setup)

        return hooked


class OverflowingStepper:
    """A stepper that overflows in some of its steps, and notes the parameters before them and after each."""

    def __init__(self, stepper: Stepper, overflow: Overflow, kind: str, steps: list[int]) -> None:
        self._stepper = stepper
        self._overflow = overflow
        self._kind = kind
        self._steps = steps
        self.digests = [digest(stepper)]

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        self._overflow.loss_factor = 1e30 if self._kind == "loss" and self._now else 1.0
        return self._stepper.micro_step(batch, last)

    def optimizer_step(self) -> None:
        if self._kind == "gradient" and self._now:
            self._overflow.of_one_gradient()
        self._stepper.optimizer_step()
        self.digests.append(digest(self._stepper))

    def skipped_steps(self) -> int:
        return self._stepper.skipped_steps()

    def full_parameters(self) -> dict[str, torch.Tensor]:
        return self._stepper.full_parameters()

    @property
    def _now(self) -> bool:
        return len(self.digests) - 1 in self._steps


def digest(stepper: Stepper) -> str:
    """Equal for equal parameters, bit for bit."""
    parameters = stepper.full_parameters()
    return hashlib.sha256(b"".join(parameters[name].numpy().tobytes() for name in sorted(parameters))).hexdigest()


def train_through_overflow(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial's steps, some of which overflow on the last rank only; emits digests and skipped steps."""
    spec = TrialSpec.from_dict(payload["trial"])
    if not payload["agree"]:
        loss_scale.agree = lambda found_inf: None
    device = claim_device(context)
    group = form_group(spec, context, device)
    overflow = Overflow(load_strategy(spec.configuration.strategy))
    stepper, _ = prepare(spec, group, device, Path())
    steps = payload["steps"] if context.rank == context.world_size - 1 else []
    overflowing = OverflowingStepper(stepper, overflow, payload["kind"], steps)
    epoch = make_epoch(spec, group, device, Path())
    measured = StepLoop(overflowing, epoch, group, device, context.emit).run(spec.window)
    skipped = {"skipped": stepper.skipped_steps(), "measured_skipped": measured.skipped_steps}
    context.emit({"kind": "overflowed", "digests": overflowing.digests, **skipped})
    group.close()
