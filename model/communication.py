"""Bytes that one rank sends, and collectives it takes part in, per micro-step and per optimizer step.

Ring algorithms over N ranks, q = (N-1)/N: an all-gather or reduce-scatter of M bytes sends q M per rank, an all-reduce
2 q M (Patarasuk and Yuan 2009). k micro-steps a step; g and p bytes per gradient and parameter; Psi parameters.
Gradients are reduced in fp32 where weights are fp32 (autocast) and where FSDP is told so.

The forms are of what torch 2.13 and DeepSpeed 0.19.8 do with their defaults. Tests hold that calls and bytes, padding
and single numbers included, equal those that real ranks make. Left out: barriers, and that torch.compile may order
gradients otherwise. With one rank the libraries still call, but nothing is sent: it counts as none.
"""

from dataclasses import replace

import numpy as np

from joulelaw.model.architecture import FAMILIES, Numbers
from joulelaw.model.buckets import closed_when_full
from joulelaw.model.group import FP32_BYTES, Communication, Group, elements, ring_share
from joulelaw.model.tensors import Tensor, total
from joulelaw.model.work import recomputes_last_product

DDP_FIRST_BUCKET_BYTES, DDP_BUCKET_BYTES = 2**20, 25 * 2**20


def none(group: Group) -> Communication:
    """A single device."""
    zero = np.zeros_like(group.psi)
    return Communication(zero, zero, zero, zero)


def ddp(group: Group) -> Communication:
    """2 q g Psi per step: one all-reduce of the fp32 gradients, in buckets, in the last micro-step only.

    The first bucket closes at 1 MiB, later ones at 25 MiB, with the tensor that fills them; tensors come in the order
    in which the first backward pass finished their gradients.
    """
    zero = np.zeros_like(group.psi)

    def buckets(of: Group) -> Numbers:
        first, later = DDP_FIRST_BUCKET_BYTES / FP32_BYTES, DDP_BUCKET_BYTES / FP32_BYTES
        return closed_when_full(of.tensors, of.shape.num_layers, first, later, elements)

    calls = group.several * group.per_distinct(buckets)
    return Communication(zero, 2 * group.q * FP32_BYTES * group.psi, zero, calls) + _agreement(group)


def fsdp(group: Group) -> Communication:
    """q ((2p + g) Psi - p Psi_root) per micro-step: FSDP2 on every layer and on the root.

    Weights are gathered forward and backward, but the root (embeddings, head) stays gathered between; gradients are
    reduce-scattered in every micro-step. L+1 gathers forward, L backward, L+1 reduce-scatters; activation
    checkpointing repeats none of them, as its forward pass finds the layer gathered. Psi with every tensor's rows
    padded to a multiple of N: at most N-1 rows a tensor more.
    """
    p, zero = group.element_bytes, np.zeros_like(group.psi)

    def padded(of: Group) -> Numbers:
        def rows(tensor: Tensor) -> Numbers:
            return tensor.padded_rows(of.data_parallel)

        return np.stack([total(of.tensors.root, rows), of.shape.num_layers * total(of.tensors.layer, rows)])

    root, layers = group.per_distinct(padded, by_ranks=True)
    sent = group.q * ((2 * p + FP32_BYTES) * layers + (p + FP32_BYTES) * root)
    calls = group.several * (3 * group.shape.num_layers + 2)
    return Communication(sent, zero, calls, zero) + _agreement(group)


def tensor(group: Group) -> Communication:
    """12 (t-1)/t e B s h L per micro-step for BERT, 8 for GPT-2: all-reduces of B s h activations (Shoeybi 2019).

    Two forward, after the row-wise matrices. Backward one for each column-wise product that shares the input: FFN,
    and BERT's q, k and v apart or GPT-2's one product of the three. Under autocast those of the backward pass are in
    fp32. Activation checkpointing repeats the forward ones, but not one that ends a layer whose last product is not
    computed again.
    """
    t, zero, layers = group.tensor_parallel, np.zeros_like(group.psi), group.shape.num_layers
    again = np.where(recomputes_last_product(group.shape, group.dropout), 2, 1)
    forward = layers * (2 + np.where(group.checkpointing, again, 0))
    backward = layers * (4 if FAMILIES[group.shape.family].separate_qkv else 2)
    activations = group.shape.tokens * group.shape.hidden_size
    backward_bytes = np.where(group.autocast, FP32_BYTES, group.element_bytes)
    sent = 2 * ring_share(t) * activations * (group.element_bytes * forward + backward_bytes * backward)
    return Communication(sent, zero, np.where(t > 1, forward + backward, 0.0), zero) + _agreement(group)


def fsdp_tensor(group: Group) -> Communication:
    """FSDP of each tensor-parallel rank's parameters over the data-parallel ranks, and tensor parallelism."""
    alone = replace(group, scales_loss=np.zeros_like(group.scales_loss))
    return fsdp(alone) + tensor(alone) + _agreement(group)


def _agreement(group: Group) -> Communication:
    """fp16's loss scaling: one all-reduce of an fp32 number over all ranks, a step."""
    ranks, zero = group.data_parallel * group.tensor_parallel, np.zeros_like(group.psi)
    asked = np.where(group.scales_loss & (ranks > 1), 1.0, 0.0)
    return Communication(zero, asked * 2 * ring_share(ranks) * FP32_BYTES, zero, asked)
