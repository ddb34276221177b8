"""Counts of recurrent networks, LSTM and GRU, on one device: the second case beside `architecture`'s Transformers.

As torch.nn.LSTM and torch.nn.GRU compute them between word embeddings of width i and a linear head, which classifies
a sequence's last output or, as a causal language model, guesses each token's next (its words are not tied).
Letters: B micro-batch, s sequence length, L layers, h width, i input width, g gates, V vocabulary, C classes, e bytes
per element. Columns, as everywhere.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from joulelaw import InputError
from joulelaw.model.architecture import Numbers, Sizes


@dataclass(frozen=True)
class Family:
    """What tells an LSTM's counts from a GRU's. The gates are exact; what was measured is of torch 2.13 on a CPU."""

    gates: int
    stored: int
    """Tensors of width h that a layer keeps of a token: gates, cell, products, output. Measured."""
    stored_fp32: int
    """Of these, those that stay fp32 under autocast. Measured."""
    inputs: int
    """Tensors of the input's width that live at the end of the backward pass: embeddings, a copy in order of time (for
    both), and the LSTM's gradient of it. Measured."""
    temporaries: int
    """Tensors of width h that the last layer's backward pass holds beside what is stored. Measured."""
    temporaries_fp32: bool
    kernels_on_cpu: int
    """Launches of a time step and layer, forward and backward; the LSTM's are inside one call of oneDNN."""


FAMILIES = {
    "lstm": Family(4, 7, 0, 3, 11, False, kernels_on_cpu=4),
    "gru": Family(3, 8, 2, 2, 4, True, kernels_on_cpu=30),
}
# cuDNN, forward and backward, a time step and layer: the product with the weights and what follows it element by
# element (Appleyard 2016, arXiv 1604.01946). From the paper: not measured here.
KERNELS_ON_CUDA = 4
# Beside the time steps. A layer: its inputs' product and the two backward, the gradients of weights and biases.
KERNELS_OF_LAYER, KERNELS_OUTSIDE = 6, 20
FP32_BYTES = 4


@dataclass(frozen=True)
class Shape(Sizes):
    """A recurrent network's shape."""

    input_size: Numbers

    @classmethod
    def of(cls, family: str, head: str, columns: Mapping[str, npt.NDArray[np.float64]]) -> "Shape":
        """Of a table's columns, by name; `input_size` is `hidden_size` where it is empty.

        Raises:
            InputError: an unknown head; heads or a width of the gates that the family does not have.
        """
        h = columns["hidden_size"]
        width = np.where(np.isnan(columns["input_size"]), h, columns["input_size"])
        names = ("num_layers", "hidden_size", "vocab_size", "sequence_length", "micro_batch_size", "num_labels")
        shape = cls(family, head, input_size=width, **{name: columns[name] for name in names})
        _refuse(columns["num_heads"], np.ones_like(h), "num_heads", f"{family} has no heads")
        _refuse(columns["intermediate_size"], shape.gates * h, "intermediate_size", "the gates' width")
        return shape

    @property
    def gates(self) -> int:
        return FAMILIES[self.family].gates

    @property
    def outputs(self) -> Numbers:
        """Width of the head: classes or words."""
        return self.vocab_size if self.head == "language_model" else self.num_labels

    @property
    def guesses(self) -> Numbers:
        """Rows that the head is given: sequences, or every token that has a next one."""
        return self.tokens - self.micro_batch_size if self.head == "language_model" else self.micro_batch_size

    def layers(self) -> Iterator[tuple[Numbers, Numbers]]:
        """How many layers have an input of which width: the first i, the others h."""
        yield np.ones_like(self.num_layers), self.input_size
        yield self.num_layers - 1, self.hidden_size


def parameters(shape: Shape) -> Numbers:
    """V i words; a layer g h (its input's width + h + 2), torch having two biases; the head h C + C, or h V + V."""
    h, outputs = shape.hidden_size, shape.outputs
    return shape.vocab_size * shape.input_size + layer_parameters(shape) + (h + 1) * outputs


def layer_parameters(shape: Shape, biases: int = 2) -> Numbers:
    """Of all layers, with so many biases each."""
    gates_width, h = shape.gates * shape.hidden_size, shape.hidden_size
    return sum((n * gates_width * (width + h + biases) for n, width in shape.layers()), start=np.zeros_like(h))


def flop_forward(shape: Shape) -> Numbers:
    """FLOPs of one micro-batch's forward pass, a multiply-add being two: 2 B s g h (width + h) a layer, and the head.

    Equal to torch's ``FlopCounterMode`` with oneDNN off (its fused LSTM is counted as nothing). Leaves out what is not
    a matrix product: biases, gates' activations, products element by element, look-ups and the loss.
    """
    return 2 * shape.tokens * layer_parameters(shape, biases=0) + 2 * shape.guesses * shape.hidden_size * shape.outputs


def flop_training(shape: Shape) -> Numbers:
    """Model FLOPs of one micro-batch: three times the forward pass.

    torch's counter has 2 B g h^2 a layer fewer: no gradient is made of the initial state, which is zero and constant.
    """
    return 3 * flop_forward(shape)


def matmul_bytes(shape: Shape, element_bytes: Numbers) -> Numbers:
    """Memory traffic of the matrix products, each operand read and each result written once, as `work.matmul_bytes`.

    Inputs' products are one for all time steps, three in training. The recurrent product is one each time step,
    forward and backward, which reads the weights again each time; their gradient is one product over all steps.
    Leaves out that caches of the weights' size save them from being read again.
    """
    h, B, gh, tokens = shape.hidden_size, shape.micro_batch_size, shape.gates * shape.hidden_size, shape.tokens
    inputs = sum(3 * n * _elements(tokens, width, gh) for n, width in shape.layers())
    steps = 2 * shape.sequence_length * _elements(B, h, gh) + _elements(tokens, h, gh)
    head = 3 * _elements(shape.guesses, h, shape.outputs)
    return np.asarray(element_bytes * (inputs + shape.num_layers * steps + head))


def embedding_bytes(shape: Shape, element_bytes: Numbers) -> Numbers:
    """The dense gradient of the words, 4 V i, and a row a token read forward and added backward, 2 e B s i."""
    return 4 * shape.vocab_size * shape.input_size + 2 * element_bytes * shape.tokens * shape.input_size


def kernels_per_micro_step(shape: Shape, on_cpu: npt.NDArray[np.bool_], grad_accumulation: Numbers) -> Numbers:
    """Launches, about: so many each time step and layer, one after the other, whatever the sizes."""
    each = np.where(on_cpu, FAMILIES[shape.family].kernels_on_cpu, KERNELS_ON_CUDA)
    accumulated = tensors(shape) * (1 - 1 / grad_accumulation)
    layers = shape.num_layers * (shape.sequence_length * each + KERNELS_OF_LAYER)
    return np.asarray(layers + KERNELS_OUTSIDE + accumulated)


def tensors(shape: Shape) -> Numbers:
    """Parameter tensors: four a layer, the words, the head's two."""
    return 4 * shape.num_layers + 3


def _elements(m: Numbers, k: Numbers, n: Numbers) -> Numbers:
    return m * k + k * n + m * n


def _refuse(values: Numbers, wanted: Numbers, name: str, why: str) -> None:
    wrong = np.flatnonzero(values != wanted)
    if wrong.size:
        what = f"{values[wrong[0]]:g} where {wanted[wrong[0]]:g} must be: {why}"
        raise InputError(what, where=name, remedy=f"{name} {wanted[wrong[0]]:g}")
