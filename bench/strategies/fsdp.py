"""FSDP2: parameters, gradients and Adam's state sharded over the ranks, gathered one layer at a time.

Every block is a group of its own; what is left (embeddings, pooler, head) is the root group, which FSDP2 keeps
gathered from forward to backward. Gradients are reduce-scattered in every micro-step, FSDP2's default: that keeps
them sharded while they accumulate. A rank sends, with q = (N-1)/N and k micro-steps a step,
q k ((2p + g) Psi - p Psi_root) bytes (shared counts: p and g bytes per parameter and gradient).
bf16 gathers and computes in bf16 (p = 2) and reduces in fp32 (g = 4), over fp32 shards.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from joulelaw.bench.data import Batch
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw


def prepare(setup: Setup) -> "FsdpStepper":
    """Shards every block, then the rest. The whole model stands on the device for a moment before that."""
    mesh = init_device_mesh(setup.device.type, (setup.world_size,), mesh_dim_names=("data",))
    if setup.configuration.precision == "bf16":
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    else:
        policy = MixedPrecisionPolicy()
    for block in setup.training.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(setup.training.module, mesh=mesh, mp_policy=policy)
    return FsdpStepper(setup)


class FsdpStepper:
    """Hooks inside the model gather and scatter; FSDP2 averages over ranks, this over micro-steps."""

    def __init__(self, setup: Setup) -> None:
        self._model = setup.training.module
        assert isinstance(self._model, FSDPModule)
        self._micro_steps = setup.configuration.grad_accumulation
        self._optimizer = adamw(self._model.parameters(), setup.configuration)

    def micro_step(self, batch: Batch, last: bool) -> torch.Tensor:
        loss: torch.Tensor = self._model(**batch).loss
        (loss / self._micro_steps).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def optimizer_step(self) -> None:
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def skipped_steps(self) -> int:
        return 0

    def full_parameters(self) -> dict[str, torch.Tensor]:
        gathered = {}
        for name, parameter in self._model.named_parameters():
            assert isinstance(parameter, DTensor)
            gathered[name] = parameter.full_tensor().detach().float().cpu()
        return gathered
