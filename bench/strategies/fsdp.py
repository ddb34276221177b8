"""FSDP2: parameters, gradients and Adam's state sharded over the ranks, gathered one layer at a time.

Every block is a group of its own; what is left (embeddings, pooler, head) is the root group, which FSDP2 keeps
gathered from forward to backward. Gradients are reduce-scattered in every micro-step, FSDP2's default: that keeps
them sharded while they accumulate. A rank sends, with q = (N-1)/N and k micro-steps a step,
q k ((2p + g) Psi - p Psi_root) bytes (shared counts: p and g bytes per parameter and gradient).
bf16 and fp16 gather and compute in 16 bits (p = 2) and reduce in fp32 (g = 4), over fp32 shards.
"""

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from joulelaw.bench.spec.configuration import Precision
from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.strategies.torch_stepper import TorchStepper
from joulelaw.bench.training.precision import low_dtype


def prepare(setup: Setup) -> TorchStepper:
    """Shards every block, then the rest. The whole model stands on the device for a moment before that."""
    mesh = init_device_mesh(setup.device.type, (setup.world_size,), mesh_dim_names=("data",))
    model = setup.training.module
    for part in (*setup.training.blocks, model):
        fully_shard(part, mesh=mesh, mp_policy=policy(setup.configuration.precision))
    return TorchStepper(setup, model, adamw(model.parameters(), setup.configuration), casts_itself=True)


def policy(precision: Precision) -> MixedPrecisionPolicy:
    """16-bit parameters and fp32 sums of gradients, or fp32 throughout."""
    dtype = low_dtype(precision)
    return MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32 if dtype else None)
