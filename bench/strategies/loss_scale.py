"""Loss scaling for fp16: keeps small gradients above zero, and leaves a step out on all ranks if one rank's overflows.

The loss is multiplied before the backward pass, and the fused optimizer divides the gradients again. Where something
is sharded ranks hold different gradients, so they agree on overflow: an all-reduce of four bytes a step. Nothing here
waits for the device, and other precisions do none of it.
"""

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from joulelaw.bench.spec.configuration import Configuration

# Torch and DeepSpeed begin with 16. Where the loss itself is fp16, its gradient of 2^16 would be infinite already.
INITIAL_SCALE_POWER = 15


class LossScale:
    """`backward` after every forward pass, `step` once a step. In fp32, tf32 and bf16 both pass straight on."""

    def __init__(self, configuration: Configuration, device: torch.device) -> None:
        self._scaler = _AgreeingScaler(device, enabled=configuration.precision == "fp16")

    def backward(self, loss: torch.Tensor) -> None:
        """The backward pass of the scaled loss."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Applies the gradients, unless one of any rank's overflowed, and clears them. All ranks must call it."""
        self._scaler.step(optimizer)
        self._scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def skipped_steps(self) -> int:
        """Steps so far that were left out. Waits for the device."""
        return int(self._scaler.overflows)


class _AgreeingScaler(torch.amp.GradScaler):
    """Torch's scaler for gradients that are spread over ranks, as plain tensors and DTensors of several meshes."""

    def __init__(self, device: torch.device, enabled: bool) -> None:
        super().__init__(device.type, init_scale=2.0**INITIAL_SCALE_POWER, enabled=enabled)
        self.overflows = torch.zeros((), device=device)

    def _unscale_grads_(
        self, optimizer: torch.optim.Optimizer, inv_scale: torch.Tensor, found_inf: torch.Tensor, allow_fp16: bool
    ) -> dict[torch.device, torch.Tensor]:
        """Sets `found_inf` to 1, or leaves it at 0. Torch's own takes one kind of tensor only, and asks one mesh."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [_local(parameter.grad) for parameter in parameters if parameter.grad is not None]
        torch._amp_foreach_non_finite_check_and_unscale_(gradients, found_inf, inv_scale)
        agree(found_inf)
        self.overflows += found_inf
        return {found_inf.device: found_inf}


def agree(found_inf: torch.Tensor) -> None:
    """The largest of all ranks' values, on every rank."""
    if dist.is_initialized():
        dist.all_reduce(found_inf, op=dist.ReduceOp.MAX)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
