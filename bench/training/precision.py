"""What each precision means here, and which of them a device can train in.

fp32: full single precision. tf32: fp32 storage, products of 10-bit mantissas on CUDA. bf16 and fp16: weights,
gradients' sums and Adam's state in fp32, the layers computed in 16 bits; how that is reached is each strategy's own
business. fp16 scales the loss as well, as its smallest gradients would be zero.
"""

from collections.abc import Container
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Precision

if TYPE_CHECKING:  # `check_precision` also serves the plan, where torch is not needed
    import torch

TRAINABLE: dict[str, tuple[Precision, ...]] = {
    "cpu": ("fp32", "fp16", "bf16"),
    "cuda": ("fp32", "tf32", "fp16", "bf16"),
}

# TF32 and BF16 came with this one.
AMPERE = (8, 0)


def trainable(device_kind: str, compute_capability: tuple[int, int] | None = None) -> tuple[Precision, ...]:
    """The precisions that a kind of device can train in; a GPU of unknown capability is taken for a recent one."""
    if device_kind == "cuda" and compute_capability is not None and compute_capability < AMPERE:
        return ("fp32", "fp16")
    return TRAINABLE[device_kind]


def trained_in(device_kind: str, peaks: Container[str]) -> tuple[Precision, ...]:
    """The precisions that a device model can train in: those of its kind whose peak it has (its catalogue entry's)."""
    return tuple(each for each in TRAINABLE[device_kind] if each in peaks)


def check_precision(precision: Precision, device_kind: str) -> None:
    """Raises InputError where a kind of device cannot train in this precision."""
    if precision not in TRAINABLE[device_kind]:
        remedy = f"one of {', '.join(TRAINABLE[device_kind])}"
        raise InputError(f"{precision} cannot be trained on a {device_kind} device", where="precision", remedy=remedy)


def set_matmul_precision(precision: Precision) -> None:
    """Sets this process's fp32 matrix products to the precision's own: TF32 where it is asked for, else full.

    Those of cuDNN's recurrent layers too, which are TF32 by default.
    """
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def low_dtype(precision: Precision) -> "torch.dtype | None":
    """What layers are computed in where that is not fp32."""
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def autocast(precision: Precision, device: "torch.device") -> AbstractContextManager[None]:
    """For strategies that keep fp32 weights and cast operation by operation: to 16 bits, or not at all."""
    import torch

    dtype = low_dtype(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)
