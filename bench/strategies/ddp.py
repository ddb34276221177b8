"""PyTorch DDP: whole replicas, gradients all-reduced in buckets while the backward pass still runs.

Only a step's last micro-step communicates; before it gradients add up on each rank. A rank sends 2 q g Psi bytes a
step, with q = (N-1)/N. bf16 and fp16 by autocast over fp32 weights, so that gradients are fp32 (g = 4).
"""

from torch.nn.parallel import DistributedDataParallel

from joulelaw.bench.strategies import Setup
from joulelaw.bench.strategies.optimizer import adamw
from joulelaw.bench.strategies.torch_stepper import TorchStepper


def prepare(setup: Setup) -> TorchStepper:
    """A replica on every rank."""
    model = DistributedDataParallel(
        setup.training.module,
        device_ids=[setup.device] if setup.device.type == "cuda" else None,
        gradient_as_bucket_view=True,
        broadcast_buffers=False,  # a Transformer's buffers are constants; by default rank 0 sends them every time
    )
    optimizer = adamw(model.parameters(), setup.configuration)
    return TorchStepper(setup, model, optimizer, before_last=model.no_sync)
