"""Tensor parallelism with DTensor: all ranks train on the same sequences and share each block's matrices.

Attention's q, k, v and the feed-forward layer's first matrix are split by columns, the matrices behind them by rows;
embeddings, norms and the head are whole on every rank. Per layer and micro-step the ranks all-reduce the activations
(tokens x width) twice forward, and backward once for each column-wise layer: BERT 2 + 4, as q, k and v are separate,
GPT-2 2 + 2. A rank sends 2 q times their bytes, with q = (t-1)/t; gradients of parameters need no communication.
With bf16 by autocast the forward sums are bf16 and the backward ones fp32.

Tensor-parallel ranks draw the same random numbers, or what they hold in common would drift apart; so the dropout
masks inside attention repeat from one rank's heads to the next one's.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh

from joulelaw.bench.data import Batch
from joulelaw.bench.precision import autocast
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.block_split import check_degree, same_mesh_groups, split_blocks, whole_parameters
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "TensorParallelStepper":
    """Shares out every block; each rank takes its part of the whole model that it holds for a moment.

    Raises:
        InputError: heads or inner features that the ranks do not divide.
    """
    check_degree(setup.configuration)
    mesh = init_device_mesh(setup.device.type, (setup.world_size,), mesh_dim_names=("tensor",))
    split_blocks(setup.training, mesh)
    return TensorParallelStepper(setup)


class TensorParallelStepper:
    """The model communicates by itself; every rank computes the same loss."""

    def __init__(self, setup: Setup) -> None:
        self._training = setup.training
        self._configuration = setup.configuration
        self._device = setup.device
        self._optimizer = adamw(same_mesh_groups(setup.training.module), setup.configuration)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        with autocast(self._configuration.precision, self._device):
            loss: torch.Tensor = self._training.module(**batch).loss
        (loss / self._configuration.grad_accumulation).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def optimizer_step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def skipped_steps(self) -> int:
        return 0

    def full_parameters(self) -> dict[str, torch.Tensor]:
        return whole_parameters(self._training, self._configuration.tensor_parallel)
