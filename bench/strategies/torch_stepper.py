"""The steps of every strategy that torch alone can train: they differ in how they wrap the model, not in these."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch

from joulelaw.bench.data.batches import Batch
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.block_split import whole_parameters
from joulelaw.bench.strategies.loss_scale import LossScale
from joulelaw.bench.training.precision import autocast


class TorchStepper:
    """The wrapped model communicates by itself and averages over ranks; this averages over micro-steps."""

    def __init__(
        self,
        setup: Setup,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        casts_itself: bool = False,
        before_last: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """`casts_itself`: the model needs no autocast. Micro-steps run inside `before_last`, but for a step's last."""
        self._training = setup.training
        self._configuration = setup.configuration
        self._device = setup.device
        self._model = model
        self._optimizer = optimizer
        self._cast_to = "fp32" if casts_itself else setup.configuration.precision
        self._before_last = before_last
        self._loss_scale = LossScale(setup.configuration, setup.device)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        with nullcontext() if last else self._before_last():
            with autocast(self._cast_to, self._device):
                loss: torch.Tensor = self._model(**batch).loss
            self._loss_scale.backward(loss / self._configuration.grad_accumulation)
        return loss.detach()

    def optimizer_step(self) -> None:
        self._loss_scale.step(self._optimizer)

    def skipped_steps(self) -> int:
        return self._loss_scale.skipped_steps()

    def full_parameters(self) -> dict[str, torch.Tensor]:
        return whole_parameters(self._training, self._configuration.tensor_parallel)
