"""A group of devices that train together, as columns of trials, and what one rank of it communicates."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import Numbers, Shape, head_parameters, layer_parameters, root_parameters
from joulelaw.model.columns import distinct
from joulelaw.model.tensors import Tensor, Tensors, tensors_of

FP32_BYTES = 4
# What of a shape no parameter tensor depends on; its positions are apart.
BATCH = ("num_heads", "sequence_length", "micro_batch_size")


@dataclass(frozen=True)
class Group:
    """Columns of trials of one strategy: the shape and how it is spread over the devices."""

    shape: Shape
    data_parallel: Numbers
    tensor_parallel: Numbers
    element_bytes: Numbers
    """p, and e of an activation."""
    autocast: npt.NDArray[np.bool_]
    """Weights are fp32, cast operation by operation."""
    scales_loss: npt.NDArray[np.bool_]
    """fp16: ranks agree on whether a gradient overflowed."""
    checkpointing: npt.NDArray[np.bool_]
    dropout: npt.NDArray[np.bool_]

    @property
    def q(self) -> Numbers:
        return ring_share(self.data_parallel)

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

    def cast(self, layers: Numbers) -> Numbers:
        """Parameters of products in so many layers and in the head, which autocast casts to 16 bits; 0 without it.

        All but the norms (4h a layer; 2h in BERT's masked LM head), and a language model's decoder: its weight is that
        of the word embeddings, whose look-up is not cast.
        """
        h, head = self.shape.hidden_size, head_parameters(self.shape)
        if self.shape.head == "language_model":
            head = head + self.shape.vocab_size * h - (2 * h if self.shape.encoder else 0)
        return np.where(self.autocast, layers * (self.layer - 4 * h) + head, 0)

    @property
    def tensors(self) -> Tensors:
        """The parameter tensors of one tensor-parallel rank."""
        return tensors_of(self.shape, self.tensor_parallel, self.autocast)

    def per_distinct(self, count: "Callable[[Group], Numbers]", by_ranks: bool = False) -> Numbers:
        """What `count` gives for each row, asked once for each distinct set of tensors: for counts that take long.

        It may look at the tensors only, and with `by_ranks` at the data-parallel ranks. It may give several columns,
        one a line.
        """
        columns = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "shape"}
        shape = self.shape.columns
        sizes = [shape[name] for name in shape if name not in BATCH]
        ranks = [self.data_parallel] if by_ranks else []
        first, which = distinct([*sizes, *ranks, self.tensor_parallel, self.autocast])
        counted = count(Group(self.shape.take(first), **{name: each[first] for name, each in columns.items()}))
        return np.asarray(counted)[..., which]


@dataclass(frozen=True)
class Communication:
    """What one rank sends and takes part in."""

    bytes_per_micro_step: Numbers
    bytes_per_step: Numbers
    collectives_per_micro_step: Numbers
    collectives_per_step: Numbers

    def __add__(self, other: "Communication") -> "Communication":
        return Communication(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def ring_share(ranks: Numbers) -> Numbers:
    """What a rank of a ring sends of a whole: (N-1)/N."""
    return (ranks - 1) / ranks


def elements(tensor: Tensor) -> Numbers:
    return tensor.elements
