"""Bytes that one rank sends, and collectives it takes part in, per micro-step and per optimizer step.

Ring algorithms over N ranks, q = (N-1)/N: an all-gather or reduce-scatter of M bytes sends q M per rank, an all-reduce
2 q M (Patarasuk and Yuan 2009). k micro-steps a step; g and p bytes per gradient and parameter; Psi parameters. The
forms are of what torch 2.13 and DeepSpeed 0.19 do with their defaults, seen by recording every call on two ranks.
Left out: the padding of shards, barriers, and all-reduces of single numbers (gradient norms, overflow flags), which
count as collectives but send nothing to speak of.
"""

from dataclasses import dataclass

import numpy as np

from joulelaw.model.architecture import FAMILIES, Numbers, Shape, layer_parameters, root_parameters

# Gradients are reduced in fp32 where weights are fp32 (autocast) and where FSDP is told so.
FP32_BYTES = 4
DDP_FIRST_BUCKET_BYTES, DDP_BUCKET_BYTES = 2**20, 25 * 2**20
# DeepSpeed's defaults, in elements: allgather_bucket_size and reduce_bucket_size, stage3_prefetch_bucket_size,
# stage3_max_reuse_distance, stage3_param_persistence_threshold.
ZERO_BUCKET, ZERO3_PREFETCH, ZERO3_REUSE, ZERO3_PERSISTENT = 5e8, 5e7, 1e9, 1e5


@dataclass(frozen=True)
class Group:
    """Columns of trials of one strategy: the shape and how it is spread over the devices."""

    shape: Shape
    data_parallel: Numbers
    tensor_parallel: Numbers
    element_bytes: Numbers
    """p, and e of an activation."""

    @property
    def q(self) -> Numbers:
        return (self.data_parallel - 1) / self.data_parallel

    @property
    def several(self) -> Numbers:
        """1 where there is more than one data-parallel rank, else 0: one process sends nothing."""
        return np.where(self.data_parallel > 1, 1.0, 0.0)

    @property
    def layer(self) -> Numbers:
        """Parameters of one layer on one tensor-parallel rank."""
        return layer_parameters(self.shape, self.tensor_parallel)

    @property
    def root(self) -> Numbers:
        """Parameters outside the layers, which every tensor-parallel rank holds whole."""
        return root_parameters(self.shape)

    @property
    def psi(self) -> Numbers:
        """Parameters of one tensor-parallel rank."""
        return self.shape.num_layers * self.layer + self.root


@dataclass(frozen=True)
class Communication:
    """What one rank sends and takes part in."""

    bytes_per_micro_step: Numbers
    bytes_per_step: Numbers
    collectives_per_micro_step: Numbers
    collectives_per_step: Numbers


def none(group: Group) -> Communication:
    """A single device."""
    zero = np.zeros_like(group.psi)
    return Communication(zero, zero, zero, zero)


def ddp(group: Group) -> Communication:
    """2 q g Psi per step: one all-reduce of the fp32 gradients, in buckets, in the last micro-step only.

    The first bucket closes at 1 MiB, later ones at 25 MiB; since they hold whole parameters the true number may be
    smaller.
    """
    gradients = FP32_BYTES * group.psi
    buckets = 1 + np.ceil(np.maximum(gradients - DDP_FIRST_BUCKET_BYTES, 0) / DDP_BUCKET_BYTES)
    zero = np.zeros_like(group.psi)
    return Communication(zero, 2 * group.q * gradients, zero, group.several * buckets)


def fsdp(group: Group) -> Communication:
    """q ((2p + g) Psi - p Psi_root) per micro-step: FSDP2 on every layer and on the root.

    Weights are gathered forward and backward, but the root (embeddings, head) stays gathered between; gradients are
    reduce-scattered in every micro-step. L+1 gathers forward, L backward, L+1 reduce-scatters.
    """
    p, zero = group.element_bytes, np.zeros_like(group.psi)
    sent = group.q * ((2 * p + FP32_BYTES) * group.psi - p * group.root)
    return Communication(sent, zero, group.several * (3 * group.shape.num_layers + 2), zero)


def zero1(group: Group) -> Communication:
    """q (2g + p) Psi per step: DeepSpeed all-reduces gradients in the last micro-step, then gathers weights.

    ZeRO's own form is q (g + p) Psi (a reduce-scatter): DeepSpeed's default ``use_multi_rank_bucket_allreduce``
    all-reduces whole buckets and keeps a slice. One all-reduce of the gradients' norm a step, two at 16 bits.
    """
    zero, buckets = np.zeros_like(group.psi), np.ceil(group.psi / ZERO_BUCKET)
    sent = group.q * 3 * group.element_bytes * group.psi
    return Communication(zero, sent, zero, group.several * (2 * buckets + _norms(group)))


def zero2(group: Group) -> Communication:
    """q (2kg + p) Psi per step: as stage 1, but gradients are all-reduced in every micro-step."""
    buckets = np.ceil(group.psi / ZERO_BUCKET)
    weights = group.q * group.element_bytes * group.psi
    return Communication(2 * weights, weights, group.several * buckets, group.several * (buckets + _norms(group)))


def zero3(group: Group) -> Communication:
    """q (k (p Psi_sharded + g Psi) + p Psi_persistent) per step, for models of up to 5e8 parameters.

    ZeRO's own form is q k (2p + g) Psi. DeepSpeed keeps gathered weights that are used again within 1e9 elements, so
    a second gather for the backward pass is left to the first layers of larger models; and tensors of at most 1e5
    elements are not sharded away but gathered once a step, one by one.
    """
    p, (few, number) = group.element_bytes, _persistent(group.shape)
    sharded = group.psi - few
    again = np.maximum(0, 1 - ZERO3_REUSE / 2 / group.psi)
    per_micro_step = group.q * p * ((1 + again) * sharded + group.psi)
    collectives = np.ceil((1 + again) * sharded / ZERO3_PREFETCH) + np.ceil(group.psi / ZERO_BUCKET)
    return Communication(per_micro_step, group.q * p * few, group.several * collectives, group.several * (number + 1))


def tensor(group: Group) -> Communication:
    """12 (t-1)/t e B s h L per micro-step for BERT, 8 for GPT-2: all-reduces of B s h activations (Shoeybi 2019).

    Two forward, after the row-wise matrices. Backward one for each column-wise product that shares the input: FFN,
    and BERT's q, k and v apart or GPT-2's one product of the three. Counted on Hugging Face models under DTensor.
    """
    t, zero = group.tensor_parallel, np.zeros_like(group.psi)
    reductions = 6 if FAMILIES[group.shape.family].separate_qkv else 4
    calls = reductions * group.shape.num_layers
    sent = 2 * (t - 1) / t * group.element_bytes * group.shape.tokens * group.shape.hidden_size * calls
    return Communication(sent, zero, np.where(t > 1, calls, 0.0), zero)


def fsdp_tensor(group: Group) -> Communication:
    """FSDP of each tensor-parallel rank's parameters over the data-parallel ranks, and tensor parallelism."""
    data, model = fsdp(group), tensor(group)
    return Communication(
        data.bytes_per_micro_step + model.bytes_per_micro_step,
        data.bytes_per_step,
        data.collectives_per_micro_step + model.collectives_per_micro_step,
        data.collectives_per_step,
    )


def _norms(group: Group) -> Numbers:
    return np.where(group.element_bytes == FP32_BYTES, 1.0, 2.0)


def _persistent(shape: Shape) -> tuple[Numbers, Numbers]:
    """Elements and number of the parameter tensors that ZeRO-3 keeps on every rank."""
    family, h, f = FAMILIES[shape.family], shape.hidden_size, shape.intermediate_size
    one, layers = np.ones_like(h), shape.num_layers
    qkv = [(3 * layers, h**2), (3 * layers, h)] if family.separate_qkv else [(layers, 3 * h**2), (layers, 3 * h)]
    tensors = [*qkv, (layers, h**2), (2 * layers, h * f), (6 * layers, h), (layers, f)]
    tensors += [(one, shape.vocab_size * h), (one, shape.positions * h), (2 * one, h)]
    if family.token_types:
        tensors += [(one, family.token_types * h)]
    if shape.head == "classification":
        tensors += [(one, shape.num_labels * h)]
        if shape.family == "bert":
            tensors += [(one, h**2), (one, h), (one, shape.num_labels)]
    elif shape.family == "bert":
        tensors += [(one, h**2), (3 * one, h), (one, shape.vocab_size)]
    kept = [(np.where(size <= ZERO3_PERSISTENT, count, 0), size) for count, size in tensors]
    elements = sum((count * size for count, size in kept), start=np.zeros_like(h))
    return elements, sum((count for count, _ in kept), start=np.zeros_like(h))
