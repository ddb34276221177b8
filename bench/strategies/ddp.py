"""PyTorch DDP: whole replicas, gradients all-reduced in buckets while the backward pass still runs.

Only a step's last micro-step communicates; before it gradients add up on each rank. A rank sends 2 q g Psi bytes a
step, with q = (N-1)/N. bf16 by autocast over fp32 weights, so that gradients are fp32 (g = 4).
"""

from contextlib import nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from joulelaw.bench.data import Batch
from joulelaw.bench.precision import autocast
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "DdpStepper":
    """A replica on every rank."""
    return DdpStepper(setup)


class DdpStepper:
    """DDP averages over ranks, this over micro-steps."""

    def __init__(self, setup: Setup) -> None:
        self._configuration = setup.configuration
        self._device = setup.device
        self._model = DistributedDataParallel(
            setup.training.module,
            device_ids=[setup.device] if setup.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            broadcast_buffers=False,  # a Transformer's buffers are constants; by default rank 0 sends them every time
        )
        self._optimizer = adamw(self._model.parameters(), setup.configuration)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        with nullcontext() if last else self._model.no_sync():
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
        return {name: p.detach().float().cpu().clone() for name, p in self._model.module.named_parameters()}
