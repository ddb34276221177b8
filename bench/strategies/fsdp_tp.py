"""FSDP2 over tensor parallelism, on a mesh (data, tensor): blocks are shared out as in tp, then sharded as in fsdp.

Neighbouring ranks share a block and train on the same sequences. Their shares of the blocks, and whole embeddings and
head, are gathered and reduce-scattered over the `data` dimension, activations all-reduced over `tensor`.
bf16 and fp16 gather, compute and all-reduce activations in 16 bits, and reduce-scatter gradients in fp32 over fp32
shards.
"""

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.block_split import check_degree, same_mesh_groups, split_blocks
from joulelaw.bench.strategies.fsdp import policy
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.strategies.torch_stepper import TorchStepper


def prepare(setup: Setup) -> TorchStepper:
    """Shares out and shards every block, then shards the rest.

    Raises:
        InputError: heads or inner features that the tensor-parallel degree does not divide.
    """
    configuration = setup.configuration
    check_degree(configuration)
    shape = (configuration.data_parallel, configuration.tensor_parallel)
    mesh = init_device_mesh(setup.device.type, shape, mesh_dim_names=("data", "tensor"))
    split_blocks(setup.training, mesh["tensor"])
    model = setup.training.module
    for part in (*setup.training.blocks, model):
        fully_shard(part, mesh=mesh["data"], mp_policy=policy(configuration.precision))
    return TorchStepper(setup, model, adamw(same_mesh_groups(model), configuration), casts_itself=True)
