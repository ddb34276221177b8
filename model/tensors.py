"""The parameter tensors of a model, one by one, in the order in which a backward pass finishes their gradients.

What is cut into buckets, padded or kept whole tensor by tensor needs more than a number of parameters. Columns, as
everywhere; letters as in `architecture`. Checked against the hooks of Hugging Face models, name by name.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import FAMILIES, Numbers, Shape


class Tensor(NamedTuple):
    """Parameter tensors of one size: `rows` along the first dimension, `columns` along the others together."""

    rows: Numbers
    columns: Numbers

    @property
    def elements(self) -> Numbers:
        return self.rows * self.columns

    def padded_rows(self, ranks: Numbers) -> Numbers:
        """Elements once every rank has as many rows as any other."""
        return np.ceil(self.rows / ranks) * ranks * self.columns


class Tensors(NamedTuple):
    """All of a model's tensors. Those of the head finish first, the embeddings last."""

    first: list[Tensor]
    layer: list[Tensor]
    """Of one layer, of which there are `num_layers`."""
    last: list[Tensor]

    @property
    def root(self) -> list[Tensor]:
        """All outside the layers."""
        return [*self.first, *self.last]

    def backwards(self) -> "Tensors":
        """In the order of the forward pass."""
        return Tensors(self.last[::-1], self.layer[::-1], self.first[::-1])

    def sum(self, num_layers: Numbers, count: Callable[[Tensor], Numbers]) -> Numbers:
        """What `count` gives for every tensor of the model, added up."""
        return total(self.root, count) + num_layers * total(self.layer, count)


def total(tensors: Iterable[Tensor], count: Callable[[Tensor], Numbers]) -> Numbers:
    """What `count` gives for each of these tensors, added up."""
    return sum(map(count, tensors), start=np.zeros(()))


def tensors_of(shape: Shape, tensor_parallel: npt.ArrayLike = 1, cast: npt.ArrayLike = False) -> Tensors:
    """A model's tensors on one of t tensor-parallel ranks.

    Where autocast has cast a weight (`cast`), BERT's linear layers finish its gradient before their bias's.
    """
    t, weight_first = np.asarray(tensor_parallel, dtype=np.float64), np.asarray(cast, dtype=np.bool_)
    if shape.encoder:
        return Tensors(
            list(_bert_head(shape, weight_first)), list(_bert_layer(shape, t, weight_first)), _bert_words(shape)
        )
    return Tensors(list(_gpt2_head(shape)), list(_gpt2_layer(shape, t)), _gpt2_words(shape))


def _bert_layer(shape: Shape, t: Numbers, weight_first: npt.NDArray[np.bool_]) -> Iterator[Tensor]:
    h, f = shape.hidden_size, shape.intermediate_size
    yield from _norm(h)
    yield from _linear(h, f / t, weight_first)
    yield from _linear(f / t, h, weight_first)
    yield from _norm(h)
    yield from _linear(h, h / t, weight_first)
    for _ in ("value", "key", "query"):
        yield from _linear(h / t, h, weight_first)


def _gpt2_layer(shape: Shape, t: Numbers) -> Iterator[Tensor]:
    """GPT-2 holds its matrices inputs x outputs, and their bias's gradient is always the first."""
    h, f = shape.hidden_size, shape.intermediate_size
    yield from (_vector(h), Tensor(f / t, h), _vector(f / t), Tensor(h, f / t))
    yield from _norm(h)
    yield from (_vector(h), Tensor(h / t, h), _vector(3 * h / t), Tensor(h, 3 * h / t))
    yield from _norm(h)


def _bert_head(shape: Shape, weight_first: npt.NDArray[np.bool_]) -> Iterator[Tensor]:
    h = shape.hidden_size
    if shape.head == "classification":
        yield from _linear(shape.num_labels, h, weight_first)
        yield from _linear(h, h, weight_first)
    else:
        yield _vector(shape.vocab_size)
        yield from _norm(h)
        yield from _linear(h, h, weight_first)


def _gpt2_head(shape: Shape) -> Iterator[Tensor]:
    """The last norm comes with the head. A language model's decoder is the embedding."""
    if shape.head == "classification":
        yield Tensor(shape.num_labels, shape.hidden_size)
    yield from _norm(shape.hidden_size)


def _bert_words(shape: Shape) -> list[Tensor]:
    h, types = shape.hidden_size, np.full_like(shape.hidden_size, FAMILIES[shape.family].token_types)
    return [*_norm(h), Tensor(shape.positions, h), Tensor(types, h), Tensor(shape.vocab_size, h)]


def _gpt2_words(shape: Shape) -> list[Tensor]:
    return [Tensor(shape.positions, shape.hidden_size), Tensor(shape.vocab_size, shape.hidden_size)]


def _linear(outputs: Numbers, inputs: Numbers, weight_first: npt.NDArray[np.bool_]) -> Iterator[Tensor]:
    for weight in (weight_first, ~weight_first):
        yield Tensor(outputs, np.where(weight, inputs, 1.0))


def _norm(width: Numbers) -> Iterator[Tensor]:
    yield from (_vector(width), _vector(width))


def _vector(length: Numbers) -> Tensor:
    return Tensor(length, np.ones_like(length))
