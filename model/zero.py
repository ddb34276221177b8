"""What DeepSpeed's ZeRO sends, stages 1 to 3: forms of DeepSpeed 0.19.8 with its defaults, as in `communication`."""

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import Numbers
from joulelaw.model.buckets import closed_before_full, closed_when_full
from joulelaw.model.group import Communication, Group, elements
from joulelaw.model.tensors import Tensor

# DeepSpeed's defaults, in elements: reduce_bucket_size, stage3_prefetch_bucket_size, stage3_max_reuse_distance,
# stage3_param_persistence_threshold.
ZERO_BUCKET, ZERO3_PREFETCH, ZERO3_REUSE, ZERO3_PERSISTENT = 5e8, 5e7, 1e9, 1e5
# ZeRO-1 and 2 align each rank's part of the weights, in elements.
ALIGNMENT = 2
# The gradients' norm, of which ZeRO-3 sends two forms, and 16-bit precisions' flag of an overflow, in bytes.
NORM_BYTES, ZERO3_NORM_BYTES, FLAG_BYTES = 4, 8, 1


def zero1(group: Group) -> Communication:
    """q (2g + p) Psi per step: DeepSpeed all-reduces gradients in the last micro-step, then gathers weights.

    ZeRO's own form is q (g + p) Psi (a reduce-scatter): DeepSpeed's default ``use_multi_rank_bucket_allreduce``
    all-reduces whole buckets and keeps a slice. Then the ranks agree on the gradients' norm.
    """
    zero, gradients = np.zeros_like(group.psi), _gradients(group)
    return Communication(zero, gradients.bytes_per_step, zero, gradients.collectives_per_step) + _step(group)


def zero2(group: Group) -> Communication:
    """q (2kg + p) Psi per step: as stage 1, but gradients are all-reduced in every micro-step."""
    zero, gradients = np.zeros_like(group.psi), _gradients(group)
    return Communication(gradients.bytes_per_step, zero, gradients.collectives_per_step, zero) + _step(group)


def zero3(group: Group) -> Communication:
    """q (k (p Psi_sharded + g Psi) + p Psi_persistent) per step, for models of up to 5e8 parameters.

    ZeRO's own form is q k (2p + g) Psi. DeepSpeed keeps gathered weights that are used again within 1e9 elements, so
    a second gather for the backward pass is left to the first layers of larger models (an estimate); and tensors of
    at most 1e5 elements are not sharded away but gathered once a step, one by one. The others are gathered ahead of
    their use, as soon as the forward pass begins, in stretches of 5e7 elements. Psi with every tensor padded to N.
    """
    p = group.element_bytes
    everything, few, number = group.per_distinct(_padded3, by_ranks=True)
    buckets = group.per_distinct(_buckets3)
    again = np.maximum(0, 1 - ZERO3_REUSE / 2 / group.psi)
    per_micro_step = group.q * p * ((1 + again) * (everything - few) + everything)

    collectives = group.several * (buckets + np.ceil(again * (everything - few) / ZERO3_PREFETCH))
    per_step = group.q * (p * few + 2 * (ZERO3_NORM_BYTES + FLAG_BYTES * group.scales_loss))
    return Communication(per_micro_step, per_step, collectives, group.several * (number + 1 + group.scales_loss))


def _padded3(group: Group) -> Numbers:
    """ZeRO-3's padded elements: of all tensors, and of those that are not sharded away; and the number of these."""
    tensors, layers = group.tensors, group.shape.num_layers

    def padded(tensor: Tensor) -> Numbers:
        return np.ceil(tensor.elements / group.data_parallel) * group.data_parallel

    everything = tensors.sum(layers, padded)
    few = tensors.sum(layers, lambda tensor: np.where(_is_persistent(tensor), padded(tensor), 0.0))
    number = tensors.sum(layers, lambda tensor: np.where(_is_persistent(tensor), 1.0, 0.0))
    return np.stack([everything, few, number])


def _buckets3(group: Group) -> Numbers:
    """ZeRO-3's gathers ahead of the forward pass, and reductions."""
    tensors, layers = group.tensors, group.shape.num_layers
    gathers = closed_when_full(tensors.backwards(), layers, ZERO3_PREFETCH, ZERO3_PREFETCH, _sharded_elements)
    return gathers + closed_before_full(tensors, layers, ZERO_BUCKET, elements)


def _gradients(group: Group) -> Communication:
    """One all-reduce of all gradients, in buckets that close before they would hold more than 5e8 elements.

    Left out: a tensor of more than 5e8 elements, which DeepSpeed may cut in two.
    """
    zero = np.zeros_like(group.psi)

    def buckets(of: Group) -> Numbers:
        return closed_before_full(of.tensors, of.shape.num_layers, ZERO_BUCKET, elements)

    calls = group.several * group.per_distinct(buckets)
    return Communication(zero, 2 * group.q * group.element_bytes * group.psi, zero, calls)


def _step(group: Group) -> Communication:
    """ZeRO-1 and 2: one gather of all weights, their number padded; the norm, and at 16 bits a flag."""
    zero = np.zeros_like(group.psi)
    aligned = ALIGNMENT * group.data_parallel
    weights = group.element_bytes * np.ceil(group.psi / aligned) * aligned
    flags = np.where(group.element_bytes == 2, 1, 0)
    sent = group.q * (weights + 2 * (NORM_BYTES + FLAG_BYTES * flags))
    return Communication(zero, sent, zero, group.several * (2 + flags))


def _is_persistent(tensor: Tensor) -> npt.NDArray[np.bool_]:
    return np.asarray(tensor.elements <= ZERO3_PERSISTENT)


def _sharded_elements(tensor: Tensor) -> Numbers:
    return np.where(_is_persistent(tensor), 0.0, tensor.elements)
