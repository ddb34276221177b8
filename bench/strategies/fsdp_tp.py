"""FSDP2 over tensor parallelism, on a mesh (data, tensor): blocks are shared out as in tp, then sharded as in fsdp.

Neighbouring ranks share a block and train on the same sequences. Their shares of the blocks, and whole embeddings and
head, are gathered and reduce-scattered over the `data` dimension, activations all-reduced over `tensor`.
bf16 gathers, computes and all-reduces activations in bf16, and reduce-scatters gradients in fp32 over fp32 shards.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from joulelaw.bench.data import Batch
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.block_split import check_degree, same_mesh_groups, split_blocks, whole_parameters
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "FsdpTensorParallelStepper":
    """Shares out and shards every block, then shards the rest.

    Raises:
        InputError: heads or inner features that the tensor-parallel degree does not divide.
    """
    configuration = setup.configuration
    check_degree(configuration)
    shape = (configuration.data_parallel, configuration.tensor_parallel)
    mesh = init_device_mesh(setup.device.type, shape, mesh_dim_names=("data", "tensor"))
    split_blocks(setup.training, mesh["tensor"])
    if configuration.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    else:
        policy = MixedPrecisionPolicy()
    for part in (*setup.training.blocks, setup.training.module):
        fully_shard(part, mesh=mesh["data"], mp_policy=policy)
    return FsdpTensorParallelStepper(setup)


class FsdpTensorParallelStepper:
    """The model communicates by itself; FSDP2 averages over the data dimension, this over micro-steps."""

    def __init__(self, setup: Setup) -> None:
        self._training = setup.training
        self._configuration = setup.configuration
        self._optimizer = adamw(same_mesh_groups(setup.training.module), setup.configuration)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
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
