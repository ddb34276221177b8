"""How many buckets parameter tensors fill, as the libraries that communicate them cut them: never inside a tensor.

Exact up to `EXACT_LAYERS` layers; what lies beyond is taken to fill its buckets. Layers are alike: those that fit whole
into an open bucket are passed in one stride, and once a layer ends as it began, so do all that follow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import Numbers
from joulelaw.model.tensors import Tensor, Tensors

EXACT_LAYERS = 256
Size = Callable[[Tensor], Numbers]


@dataclass
class _Open:
    """The open bucket of each row, and the limit it has; how many were closed before it."""

    filled: Numbers
    limit: Numbers
    closed: Numbers

    def take(self, rows: npt.NDArray[np.intp]) -> "_Open":
        return _Open(self.filled[rows], self.limit[rows], self.closed[rows])

    def put(self, rows: npt.NDArray[np.intp], new: "_Open") -> None:
        self.filled[rows], self.limit[rows], self.closed[rows] = new.filled, new.limit, new.closed


class _WhenFull:
    """Closes with the tensor that brings it to its limit; the next one's is `later`."""

    def __init__(self, later: float) -> None:
        self.later = later

    def add(self, bucket: _Open, size: Numbers) -> None:
        filled = bucket.filled + size
        full = filled >= bucket.limit
        bucket.closed = bucket.closed + full
        bucket.filled, bucket.limit = np.where(full, 0.0, filled), np.where(full, self.later, bucket.limit)

    def whole(self, bucket: _Open, layer: Numbers) -> Numbers:
        """Layers that fit in without closing it."""
        return np.ceil((bucket.limit - bucket.filled) / layer) - 1


class _BeforeFull:
    """Closes before the tensor that would take it past its limit; a larger one has a bucket to itself."""

    def add(self, bucket: _Open, size: Numbers) -> None:
        filled = bucket.filled + size
        over = (filled > bucket.limit) & (bucket.filled > 0) & (size > 0)
        bucket.closed = bucket.closed + over
        bucket.filled = np.where(over, size, filled)

    def whole(self, bucket: _Open, layer: Numbers) -> Numbers:
        """Layers that fit in without closing it."""
        return np.floor((bucket.limit - bucket.filled) / layer)


def closed_when_full(tensors: Tensors, num_layers: Numbers, first: float, later: float, size: Size) -> Numbers:
    """A bucket closes with the tensor that brings it to its limit, of which the first bucket may have another.

    The rule of DDP's gradients (torch's ``compute_bucket_assignment_by_size``) and of ZeRO-3's prefetches.
    """
    return _buckets(tensors, num_layers, size, _WhenFull(later), first) + _beyond(tensors, num_layers, later, size)


def closed_before_full(tensors: Tensors, num_layers: Numbers, limit: float, size: Size) -> Numbers:
    """A bucket closes before the tensor that would take it past its limit; a larger one has a bucket to itself.

    The rule of DeepSpeed's gradients.
    """
    return _buckets(tensors, num_layers, size, _BeforeFull(), limit) + _beyond(tensors, num_layers, limit, size)


def _buckets(tensors: Tensors, num_layers: Numbers, size: Size, rule: _WhenFull | _BeforeFull, limit: float) -> Numbers:
    bucket = _Open(np.zeros_like(num_layers), np.full_like(num_layers, limit), np.zeros_like(num_layers))
    for tensor in tensors.first:
        rule.add(bucket, size(tensor))
    _add_layers(bucket, [size(tensor) for tensor in tensors.layer], np.minimum(num_layers, EXACT_LAYERS), rule)
    for tensor in tensors.last:
        rule.add(bucket, size(tensor))
    return np.asarray(bucket.closed + (bucket.filled > 0))


def _add_layers(bucket: _Open, sizes: list[Numbers], num_layers: Numbers, rule: _WhenFull | _BeforeFull) -> None:
    """Adds all layers of each row to its buckets."""
    rows, left = np.arange(len(num_layers)), num_layers
    sizes = [np.broadcast_to(each, num_layers.shape) for each in sizes]
    while rows.size:
        now, layer = bucket.take(rows), [each[rows] for each in sizes]
        whole = np.add.reduce(layer)
        stride = np.where(whole > 0, np.clip(rule.whole(now, np.maximum(whole, 1.0)), 0, left), left)
        now.filled, left = now.filled + stride * whole, left - stride
        bucket.put(rows, now)
        rows, left, layer = _some(left > 0, rows, left, layer)
        now = bucket.take(rows)
        before, limit, closed = now.filled, now.limit, now.closed
        for each in layer:
            rule.add(now, each)
        alike = (now.filled == before) & (now.limit == limit)
        now.closed = np.where(alike, closed + (now.closed - closed) * left, now.closed)
        bucket.put(rows, now)
        left = np.where(alike, 0.0, left - 1)
        rows, left, _ = _some(left > 0, rows, left, [])


def _some(
    which: npt.NDArray[np.bool_], rows: npt.NDArray[np.intp], left: Numbers, layer: list[Numbers]
) -> tuple[npt.NDArray[np.intp], Numbers, list[Numbers]]:
    return rows[which], left[which], [each[which] for each in layer]


def _beyond(tensors: Tensors, num_layers: Numbers, limit: float, size: Size) -> Numbers:
    layer = sum(map(size, tensors.layer), start=np.zeros(()))
    return np.asarray(np.floor(np.maximum(num_layers - EXACT_LAYERS, 0) * layer / limit))
