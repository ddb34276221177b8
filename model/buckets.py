"""How many buckets parameter tensors fill, as the libraries that communicate them cut them: never inside a tensor.

Exact up to `EXACT_LAYERS` layers; what lies beyond is taken to fill its buckets.
"""

from collections.abc import Callable, Iterator

import numpy as np

from joulelaw.model.architecture import Numbers
from joulelaw.model.tensors import Tensor, Tensors

EXACT_LAYERS = 256
Size = Callable[[Tensor], Numbers]


def closed_when_full(tensors: Tensors, num_layers: Numbers, first: float, later: float, size: Size) -> Numbers:
    """A bucket closes with the tensor that brings it to its limit, of which the first bucket may have another.

    The rule of DDP's gradients (torch's ``compute_bucket_assignment_by_size``) and of ZeRO-3's prefetches.
    """
    filled, buckets = np.zeros_like(num_layers), np.zeros_like(num_layers)
    limit = np.full_like(num_layers, first)
    for added in _sizes(tensors, num_layers, size):
        filled = filled + added
        full = filled >= limit
        buckets = buckets + full
        filled, limit = np.where(full, 0.0, filled), np.where(full, later, limit)
    return np.asarray(buckets + (filled > 0) + _beyond(tensors, num_layers, later, size))


def closed_before_full(tensors: Tensors, num_layers: Numbers, limit: float, size: Size) -> Numbers:
    """A bucket closes before the tensor that would take it past its limit; a larger one has a bucket to itself.

    The rule of DeepSpeed's gradients.
    """
    filled, buckets = np.zeros_like(num_layers), np.zeros_like(num_layers)
    for added in _sizes(tensors, num_layers, size):
        over = (filled + added > limit) & (filled > 0) & (added > 0)
        buckets = buckets + over
        filled = np.where(over, 0.0, filled) + added
    return np.asarray(buckets + (filled > 0) + _beyond(tensors, num_layers, limit, size))


def _sizes(tensors: Tensors, num_layers: Numbers, size: Size) -> Iterator[Numbers]:
    """The size of each tensor in turn; 0 in the rows whose models do not have it."""
    yield from (size(tensor) for tensor in tensors.first)
    layer = [size(tensor) for tensor in tensors.layer]
    for index in range(min(int(num_layers.max()), EXACT_LAYERS)):
        yield from (np.where(index < num_layers, each, 0.0) for each in layer)
    yield from (size(tensor) for tensor in tensors.last)


def _beyond(tensors: Tensors, num_layers: Numbers, limit: float, size: Size) -> Numbers:
    layer = sum(map(size, tensors.layer), start=np.zeros(()))
    return np.asarray(np.floor(np.maximum(num_layers - EXACT_LAYERS, 0) * layer / limit))
