"""Tensor parallelism with DTensor: all ranks train on the same sequences and share each block's matrices.

Attention's q, k, v and the feed-forward layer's first matrix are split by columns, the matrices behind them by rows;
embeddings, norms and the head are whole on every rank. Per layer and micro-step the ranks all-reduce the activations
(tokens x width) twice forward, and backward once for each column-wise layer: BERT 2 + 4, as q, k and v are separate,
GPT-2 2 + 2; activation checkpointing repeats the forward ones. A rank sends 2 q times their bytes, with q = (t-1)/t;
gradients of parameters need no communication. With bf16 or fp16 by autocast the forward sums are of 16 bits and the
backward ones fp32.

Tensor-parallel ranks draw the same random numbers, or what they hold in common would drift apart; so the dropout
masks inside attention repeat from one rank's heads to the next one's.
"""

from torch.distributed.device_mesh import init_device_mesh

from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.block_split import check_degree, same_mesh_groups, split_blocks
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.strategies.torch_stepper import TorchStepper


def prepare(setup: Setup) -> TorchStepper:
    """Shares out every block; each rank takes its part of the whole model that it holds for a moment.

    Raises:
        InputError: heads or inner features that the ranks do not divide.
    """
    check_degree(setup.configuration)
    mesh = init_device_mesh(setup.device.type, (setup.world_size,), mesh_dim_names=("tensor",))
    split_blocks(setup.training, mesh)
    model = setup.training.module
    return TorchStepper(setup, model, adamw(same_mesh_groups(model), setup.configuration))
