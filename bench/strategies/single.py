"""One device, no communication: the baseline that the other strategies are measured against."""

import torch

from joulelaw import InputError
from joulelaw.bench.data import Batch
from joulelaw.bench.precision import autocast
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "SingleStepper":
    """The model as it is; bf16 by autocast over fp32 weights.

    Raises:
        InputError: more than one rank.
    """
    if setup.world_size != 1:
        raise InputError(f"strategy single on {setup.world_size} devices", where="gpu_count", remedy="1")
    return SingleStepper(setup)


class SingleStepper:
    """Forward and backward in the calling process."""

    def __init__(self, setup: Setup) -> None:
        self._model = setup.training.module
        self._configuration = setup.configuration
        self._device = setup.device
        self._optimizer = adamw(self._model.parameters(), setup.configuration)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        with autocast(self._configuration.precision, self._device):
            loss: torch.Tensor = self._model(**batch).loss
        (loss / self._configuration.grad_accumulation).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def optimizer_step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def skipped_steps(self) -> int:
        return 0

    def full_parameters(self) -> dict[str, torch.Tensor]:
        return {name: p.detach().float().cpu().clone() for name, p in self._model.named_parameters()}
