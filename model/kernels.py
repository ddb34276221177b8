"""Kernels that a micro-step and an optimizer step launch, about: what the host has to do whatever the sizes.

Counts of operations that torch 2.13 dispatches for Hugging Face models (Transformers 5.23), views and allocations
left out, forward and backward: so many a layer, and so many outside the layers. On one device, without dropout, they
are exact for classification with SDPA, and for BERT with eager attention too; GPT-2's eager mask takes 11 more a
micro-step (and one a layer more with checkpointing), a language model's head up to 3 more for BERT and 7 fewer for
GPT-2. What a strategy adds was counted on two ranks and is a round number.
Leaves out the host's own time per operation, which DTensor and DeepSpeed multiply, and that one operation may be
several kernels of a library.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import Numbers, Shape

OUTSIDE_LAYERS = 31
# A layer, beyond the fused kernel and its backward; and in a forward pass alone, which checkpointing repeats.
UNFUSED_ATTENTION, UNFUSED_ATTENTION_FORWARD = 16, 7


@dataclass(frozen=True)
class Launches:
    """Of one model family."""

    layer: int
    repeated: int
    """Of these, a forward pass that activation checkpointing runs again."""
    casts: int
    """Casts of autocast, a layer."""
    casts_repeated: int
    casts_outside: int
    tensors: int
    """Parameter tensors of a layer: one addition each where gradients accumulate."""
    tensors_outside: int


FAMILY_LAUNCHES = {
    "bert": Launches(
        layer=38, repeated=12, casts=34, casts_repeated=16, casts_outside=12, tensors=16, tensors_outside=9
    ),
    "gpt2": Launches(
        layer=46, repeated=15, casts=22, casts_repeated=10, casts_outside=6, tensors=12, tensors_outside=5
    ),
}


@dataclass(frozen=True)
class Added:
    """What a strategy adds on more than one device, a layer."""

    per_micro_step: int = 0
    per_step: int = 0


# Copies into and out of what is communicated, and DeepSpeed's gradient norms; DDP's and TP's are estimates.
STRATEGY_LAUNCHES = {
    "single": Added(),
    "ddp": Added(per_step=16),
    "fsdp": Added(per_micro_step=32),
    "zero1": Added(per_step=40),
    "zero2": Added(per_micro_step=24, per_step=16),
    "zero3": Added(per_micro_step=38, per_step=16),
    "tp": Added(per_micro_step=12),
    "fsdp_tp": Added(per_micro_step=44),
}

# Fused AdamW takes at most 36 tensors, or 320 chunks of 65,536 elements, a launch (torch's multi_tensor_apply).
ADAM_TENSORS, ADAM_ELEMENTS = 36, 320 * 65536


def per_micro_step(
    shape: Shape,
    strategy: str,
    autocast: npt.NDArray[np.bool_],
    fused_attention: npt.NDArray[np.bool_],
    checkpointing: npt.NDArray[np.bool_],
    grad_accumulation: Numbers,
    gpu_count: Numbers,
) -> Numbers:
    """Launches of one micro-step on one device; of accumulating gradients, its share: all micro-steps but the first."""
    launches, added = FAMILY_LAUNCHES[shape.family], STRATEGY_LAUNCHES[strategy]
    layer = launches.layer + np.where(autocast, launches.casts, 0) + np.where(fused_attention, 0, UNFUSED_ATTENTION)
    again = launches.repeated + np.where(autocast, launches.casts_repeated, 0)
    again = again + np.where(fused_attention, 0, UNFUSED_ATTENTION_FORWARD)
    layer = layer + np.where(checkpointing, again, 0) + np.where(gpu_count > 1, added.per_micro_step, 0)
    outside = OUTSIDE_LAYERS + np.where(autocast, launches.casts_outside, 0)
    tensors = launches.tensors * shape.num_layers + launches.tensors_outside
    return np.asarray(shape.num_layers * layer + outside + tensors * (1 - 1 / grad_accumulation))


def per_step(shape: Shape, strategy: str, local_parameters: Numbers, gpu_count: Numbers) -> Numbers:
    """Launches of one optimizer step on one device: fused AdamW over its own parameters, and its step counts."""
    launches, added = FAMILY_LAUNCHES[shape.family], STRATEGY_LAUNCHES[strategy]
    tensors = launches.tensors * shape.num_layers + launches.tensors_outside
    adam = np.ceil(np.maximum(tensors / ADAM_TENSORS, local_parameters / ADAM_ELEMENTS))
    return np.asarray(adam + 1 + np.where(gpu_count > 1, added.per_step * shape.num_layers, 0))
