"""Bytes of weights, gradients, optimizer state and communication buffers on one device, strategy by strategy.

Letters as in `architecture`; Psi parameters of one tensor-parallel rank, N data-parallel ranks, p bytes of a parameter
as it is computed with. Forms of torch 2.13 and DeepSpeed 0.19 with their defaults, checked against the resident set of
two CPU ranks at every operation of a step. What only a CPU's ranks hold is named so: gloo reduces in copies of its own,
and a kernel gives no memory for the part of a buffer that is never written, where CUDA's allocator counts it whole.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import Numbers
from joulelaw.model.group import FP32_BYTES, Group
from joulelaw.model.zero import ZERO3_PREFETCH, ZERO_BUCKET

# DeepSpeed's default stage3_max_live_parameters, in elements, and the fp64 copies that its norms of gradients take.
ZERO3_LIVE_PARAMETERS, FP64_BYTES = 1e9, 8


@dataclass(frozen=True)
class Holding:
    """What a device holds and for how long; columns, like a group's. Flags of `of` are per trial."""

    group: Group
    several: npt.NDArray[np.bool_]
    """More than one micro-step in a step: gradients of earlier ones are there while activations are."""
    on_cpu: npt.NDArray[np.bool_]

    @property
    def cast(self) -> Numbers:
        """Autocast's 16-bit copies of the weights of products; with checkpointing a layer's live while it is run."""
        return 2 * self.group.cast(np.where(self.group.checkpointing, 1, self.group.shape.num_layers))

    @property
    def words(self) -> Numbers:
        """The dense gradient of the word embeddings, which the look-up's backward makes last of all."""
        held = np.where(self.group.autocast, FP32_BYTES, self.group.element_bytes)
        return held * self.group.shape.vocab_size * self.group.shape.hidden_size


@dataclass(frozen=True)
class States:
    """Bytes of the model's states on one device, apart from activations."""

    always: Numbers
    """All through training: weights, optimizer state and buffers that stay."""
    start: Numbers
    """Besides, while all activations are there: when the backward pass begins."""
    end: Numbers
    """Besides, when it ends and no activation is left, or in the optimizer step."""


def replicated(held: Holding, bucketed: bool = False) -> States:
    """16 bytes a parameter: fp32 weight 4, gradient 4, Adam 8; autocast's 16-bit copies until the backward pass.

    Gradients of one micro-step are complete when the activations are gone. Those of earlier micro-steps meet the
    activations too; to them the new gradient of the word embeddings is added from a tensor of its own. DDP's buckets
    (`bucketed`), of which the last micro-step's gradients become views one by one, stay beside all of that.
    """
    psi = held.group.psi
    earlier = np.where(held.several, FP32_BYTES * psi, 0)
    again = np.where(held.several, held.words, 0)
    if bucketed:
        return States(always=16 * psi, start=held.cast + earlier, end=np.maximum(earlier, held.words + again))
    return States(always=12 * psi, start=held.cast + earlier, end=FP32_BYTES * psi + again)


def fsdp(held: Holding) -> States:
    """16 Psi / N, and whole for a while: the root group, and the layer at work with the one gathered ahead of it.

    start  root and layer gathered, the next layer twice: as gathered, and copied out of that buffer; one layer's
           gradients. Or, before any activation, the root twice.
    end    the layers' gradients, sharded, and those of the last group to be reduced, the root or the first layer: whole
           in p, then copied to fp32. On a CPU, gloo reduces in a copy of that (its reduce-scatter is an all-reduce),
           and the shard comes on top.
    """
    group, p, N = held.group, held.group.element_bytes, held.group.data_parallel
    root, layer, sharded = group.root, group.layer, FP32_BYTES * group.psi / N
    earlier = np.where(held.several, sharded, 0)
    kept = sharded - np.where(held.several, 0, FP32_BYTES * root / N)
    reducing = np.where(held.on_cpu, FP32_BYTES * (2 + 1 / N), p + FP32_BYTES)
    last = np.maximum(np.maximum(2 * p, reducing) * root, p * root + (p + reducing) * layer)
    start, end = earlier + p * (root + 4 * layer), np.maximum(kept + last, earlier + 2 * p * root)
    alone = group.several == 0
    return States(always=12 * group.psi / N, start=np.where(alone, earlier, start), end=np.where(alone, sharded, end))


def zero(stage: int, held: Holding) -> States:
    """ZeRO (Rajbhandari 2020, section 3): master weights and Adam 12/N; gradients p, then p/N; weights p, then p/N.

    In fp32 DeepSpeed keeps its master copy too. Stages 1 and 2 copy gradients into a bucket, and flatten that once more
    to reduce it; between micro-steps stage 1 keeps them all, stage 2 the tensors that its share is of: word embeddings
    that span several shares are kept whole. They are there in the step, and the norm of the largest takes a copy in
    fp64. Stage 3 keeps its share of gradients and its bucket for good. It gathers weights in stretches, each copied out
    of a buffer that lasts until all of it was used, and keeps them up to a limit; it flattens its bucket, and on a CPU
    gloo reduces in a copy of that.
    """
    group, p, N = held.group, held.group.element_bytes, held.group.data_parallel
    psi, share = group.psi, group.element_bytes * group.psi / group.data_parallel
    filled = p * np.minimum(psi, ZERO_BUCKET)
    bucket = np.where(held.on_cpu, filled, p * ZERO_BUCKET)
    if stage == 3:
        live = p * np.minimum(psi, ZERO3_LIVE_PARAMETERS)
        gathering = live + p * np.minimum(psi, ZERO3_PREFETCH)
        reducing = held.words + np.where(held.on_cpu, 2, 1) * filled
        always = 12 * psi / N + 2 * share + bucket
        return States(always=always, start=gathering, end=reducing)
    largest = np.minimum(group.shape.vocab_size * group.shape.hidden_size, psi / N)
    kept = share * (1 + np.floor(group.shape.vocab_size * group.shape.hidden_size * N / psi))
    earlier = np.where(held.several, p * psi if stage == 1 else kept, 0)
    before = earlier if stage == 2 else 0  # stage 1's are moved into the bucket one by one
    reduced = share * np.maximum(0, 1 - ZERO_BUCKET / psi)
    start = earlier + np.where(held.on_cpu, 0, bucket)
    end = np.maximum(before + reduced + bucket + filled, kept + FP64_BYTES * largest)
    return States(always=p * psi + 12 * psi / N, start=start, end=end)
