"""What each precision means here, and which of them a device can train in.

fp32: full single precision. tf32: fp32 storage, products of 10-bit mantissas on CUDA. bf16: weights, gradients'
sums and Adam's state in fp32, the layers computed in bf16; how that is reached is each strategy's own business.
"""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from joulelaw import InputError
from joulelaw.bench.configuration import Precision

if TYPE_CHECKING:  # `check_precision` also serves the plan, where torch is not needed
    import torch

# fp16 needs loss scaling, which no strategy does: its gradients would underflow unseen.
TRAINABLE: dict[str, tuple[Precision, ...]] = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "tf32", "bf16")}


def check_precision(precision: Precision, device_kind: str) -> None:
    """Raises InputError where a kind of device cannot train in this precision."""
    if precision not in TRAINABLE[device_kind]:
        remedy = f"one of {', '.join(TRAINABLE[device_kind])}"
        raise InputError(f"{precision} cannot be trained on a {device_kind} device", where="precision", remedy=remedy)


def set_matmul_precision(precision: Precision) -> None:
    """Sets this process's fp32 matrix products to the precision's own: TF32 where it is asked for, else full."""
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def autocast(precision: Precision, device: "torch.device") -> AbstractContextManager[None]:
    """For strategies that keep fp32 weights and cast operation by operation: bf16 or nothing."""
    import torch

    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
