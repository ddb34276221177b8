"""What one micro-batch asks of a device: FLOPs and memory traffic, in closed form. Columns and letters as in
`architecture`; e bytes per element.

**Model FLOPs** are what the mathematics needs: forward, and twice that backward. **Hardware FLOPs** are what runs:
fused attention and activation checkpointing compute things again.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from joulelaw.model.architecture import FAMILIES, Numbers, Shape, as_numbers, embedding_parameters


@dataclass(frozen=True)
class Execution:
    """How a micro-step is run; columns, or plain values that broadcast."""

    fused_attention: npt.ArrayLike = False
    """One kernel that keeps no scores, and computes them again in the backward pass."""
    checkpointing: npt.ArrayLike = False
    """Each layer keeps its input only, and runs its forward pass again before its backward pass."""
    dropout: npt.ArrayLike = False


def flop_forward(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs of one micro-batch's forward pass on one of t tensor-parallel ranks, a multiply-add being two.

    L(8Bsh^2 + 4Bs^2h + 4Bshf)/t for the layers (Kaplan 2020, table 1, with the attention's s^2 term kept) plus the
    head, which every rank computes whole. Equal to torch's ``FlopCounterMode`` with eager attention and with SDPA's
    math kernel. Causal attention counts whole, as those compute it. Leaves out what is not a matrix product: norms,
    softmax, activations, biases and the loss, and embedding look-ups.
    """
    return 2 * (shape.num_layers * _layer_multiply_adds(shape, tensor_parallel) + _multiply_adds(_head(shape)))


def flop_training(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """Model FLOPs of one micro-batch forward and backward: three times the forward pass.

    Each product C = AB has two backward, dA = dC B^T and dB = A^T dC.
    """
    return 3 * flop_forward(shape, tensor_parallel)


def flop_of_a_row(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs of training that one token's row costs in the products with weights of one micro-step: 6 k n each.

    A product of few rows takes no less time than one of a tile's: what the rows that are missing would have cost.
    Attention's products are left out; of a classifier's head, which has a row a sequence, too.
    """
    head = _multiply_adds(_head(shape)) if shape.head == "language_model" else 0
    whole = shape.num_layers * _multiply_adds(_layer(shape, tensor_parallel)) + head
    return 6 * whole / shape.tokens


def flop_recomputed(shape: Shape, execution: Execution, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs that activation checkpointing adds: the layers' forward pass once more (Chen 2016), 0 where it is off.

    But not a layer's last product where nothing after it keeps its result: torch stops when it has all that it needs.
    """
    again = _layer_multiply_adds(shape, tensor_parallel) - np.where(
        recomputes_last_product(shape, execution.dropout), 0, _multiply_adds([_last_product(shape, tensor_parallel)])
    )
    return np.where(execution.checkpointing, 2 * shape.num_layers * again, 0.0)


def flop_hardware(shape: Shape, execution: Execution, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs that run in one micro-batch's training: the model's, and what is computed again.

    With checkpointing 4 x layers + 3 x head. Fused attention makes its scores again backward (Dao 2022, algorithm
    4): 10Bs^2h a layer instead of 8, which is also what torch's ``FlopCounterMode`` states for such kernels.
    """
    scores = 2 * shape.micro_batch_size * shape.sequence_length**2 * shape.hidden_size / as_numbers(tensor_parallel)
    again = np.where(execution.fused_attention, shape.num_layers * scores, 0.0)
    return flop_training(shape, tensor_parallel) + again + flop_recomputed(shape, execution, tensor_parallel)


def recomputes_last_product(shape: Shape, dropout: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether checkpointing computes a layer's last product again: what follows it (BERT's norm, dropout) needs it."""
    return np.asarray(dropout, dtype=np.bool_) | FAMILIES[shape.family].norm_last


def matmul_bytes(
    shape: Shape, element_bytes: npt.ArrayLike, execution: Execution, tensor_parallel: npt.ArrayLike = 1
) -> Numbers:
    """Memory traffic of one micro-batch's matrix products, forward and backward.

    e(mk + kn + mn) for the product of an m x k and a k x n matrix: each operand read and the result written once,
    which holds while the caches hold a block of each (the roofline's compulsory traffic, Williams 2009). Three such
    products per layer product in training, four with checkpointing. Unfused attention writes and reads its scores,
    e a s^2 a sequence; fused attention (Dao 2022) reads q, k, v and writes o (4 e B s h), then reads these and dO and
    writes dQ, dK, dV (8). Leaves out what small caches read again, and biases.
    """
    e = as_numbers(element_bytes)
    fused = 4 * shape.tokens * shape.hidden_size / as_numbers(tensor_parallel)
    attention = np.where(execution.fused_attention, fused, _elements(_attention(shape, tensor_parallel)))
    layer = _elements(_layer(shape, tensor_parallel)) + attention
    left_out = np.where(
        recomputes_last_product(shape, execution.dropout), 0, _elements([_last_product(shape, tensor_parallel)])
    )
    again = np.where(execution.checkpointing, layer - left_out, 0.0)
    return e * (shape.num_layers * (3 * layer + again) + 3 * _elements(_head(shape)))


def embedding_bytes(shape: Shape, element_bytes: npt.ArrayLike) -> Numbers:
    """Memory traffic of the embedding tables in one micro-batch.

    Their gradients are dense: each table's is written whole, in fp32, whatever the tokens, 4(V+P+T)h. One row a token
    is read forward and added backward, 4 e B s h (words and positions). Leaves out what caches save on rows seen often.
    """
    rows = 4 * shape.tokens * shape.hidden_size
    return 4 * embedding_parameters(shape) + as_numbers(element_bytes) * rows


class _Product(NamedTuple):
    """`number` products of an m x k and a k x n matrix."""

    number: Numbers
    m: Numbers
    k: Numbers
    n: Numbers


def _layer_multiply_adds(shape: Shape, tensor_parallel: npt.ArrayLike) -> Numbers:
    return _multiply_adds(_layer(shape, tensor_parallel)) + _multiply_adds(_attention(shape, tensor_parallel))


def _multiply_adds(products: Iterable[_Product]) -> Numbers:
    return sum((each.number * each.m * each.k * each.n for each in products), start=as_numbers(0))


def _elements(products: Iterable[_Product]) -> Numbers:
    """Elements of the operands and the results."""
    terms = (each.number * (each.m * each.k + each.k * each.n + each.m * each.n) for each in products)
    return sum(terms, start=as_numbers(0))


def _layer(shape: Shape, tensor_parallel: npt.ArrayLike) -> Iterator[_Product]:
    """The products with weights of one layer: query, key, value, attention output, FFN up and down."""
    h, f, t, one = shape.hidden_size, shape.intermediate_size, as_numbers(tensor_parallel), as_numbers(1)
    if FAMILIES[shape.family].separate_qkv:
        yield _Product(3 * one, shape.tokens, h, h / t)
    else:
        yield _Product(one, shape.tokens, h, 3 * h / t)
    yield _Product(one, shape.tokens, h / t, h)
    yield _Product(one, shape.tokens, h, f / t)
    yield _last_product(shape, t)


def _last_product(shape: Shape, tensor_parallel: npt.ArrayLike) -> _Product:
    """FFN down."""
    inner = shape.intermediate_size / as_numbers(tensor_parallel)
    return _Product(as_numbers(1), shape.tokens, inner, shape.hidden_size)


def _attention(shape: Shape, tensor_parallel: npt.ArrayLike) -> Iterator[_Product]:
    """The products without weights of one layer: scores, and scores times values, one of each a sequence and head."""
    s, width = shape.sequence_length, shape.hidden_size / shape.num_heads
    count = shape.micro_batch_size * shape.num_heads / as_numbers(tensor_parallel)
    yield _Product(count, s, width, s)
    yield _Product(count, s, s, width)


def _head(shape: Shape) -> Iterator[_Product]:
    """The head's products. BERT classifies the first token, pooled; GPT-2 all tokens, of which the last is used."""
    h, one = shape.hidden_size, as_numbers(1)
    if shape.head == "classification":
        if shape.encoder:
            yield _Product(one, shape.micro_batch_size, h, h)
            yield _Product(one, shape.micro_batch_size, h, shape.num_labels)
        else:
            yield _Product(one, shape.tokens, h, shape.num_labels)
        return
    if shape.encoder:
        yield _Product(one, shape.tokens, h, h)
    yield _Product(one, shape.tokens, h, shape.vocab_size)
