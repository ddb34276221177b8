"""What a Transformer's shape says of one micro-batch: parameters, FLOPs and memory traffic, in closed form.

Every formula takes the columns of a table at once (NumPy arrays that broadcast; numbers do too) and returns an
array. Letters of the docstrings: B micro-batch, s sequence length, L layers, h width, f FFN width, a heads,
V vocabulary, P positions, T token types, C classes, t tensor-parallel ranks, e bytes per element.
Two families: ``bert`` (an encoder with pooler) and ``gpt2`` (a decoder), each with a ``classification`` or a
``language_model`` head, counted as Hugging Face Transformers computes them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from joulelaw import InputError

Numbers = npt.NDArray[np.float64]
HEADS = ("classification", "language_model")


@dataclass(frozen=True)
class Family:
    """What tells one model family's counts from another's."""

    min_positions: int
    """Positions that are embedded whatever the sequence length; longer sequences get as many as they need."""
    token_types: int
    separate_qkv: bool
    """Query, key and value are three products of one input, not one product three times as wide."""


FAMILIES = {
    "bert": Family(min_positions=512, token_types=2, separate_qkv=True),
    "gpt2": Family(min_positions=1024, token_types=0, separate_qkv=False),
}


@dataclass(frozen=True)
class Shape:
    """Columns of shapes of one family and head. Make it with `Shape.of`, which converts and fills in."""

    family: str
    head: str
    num_layers: Numbers
    hidden_size: Numbers
    num_heads: Numbers
    intermediate_size: Numbers
    vocab_size: Numbers
    sequence_length: Numbers
    micro_batch_size: Numbers
    num_labels: Numbers
    positions: Numbers

    @classmethod
    def of(
        cls,
        family: str,
        *,
        num_layers: npt.ArrayLike,
        hidden_size: npt.ArrayLike,
        num_heads: npt.ArrayLike,
        intermediate_size: npt.ArrayLike,
        vocab_size: npt.ArrayLike,
        sequence_length: npt.ArrayLike,
        micro_batch_size: npt.ArrayLike,
        num_labels: npt.ArrayLike = 2,
        positions: npt.ArrayLike | None = None,
        head: str = "classification",
    ) -> "Shape":
        """Numbers or columns; `positions` is max(512 for BERT or 1024 for GPT-2, sequence length) by default.

        Raises:
            InputError: an unknown family or head.
        """
        if family not in FAMILIES:
            raise InputError(
                f"unknown model family {family!r}", where="model_family", remedy=f"one of {', '.join(FAMILIES)}"
            )
        if head not in HEADS:
            raise InputError(f"unknown head {head!r}", where="head", remedy=f"one of {', '.join(HEADS)}")
        length = _numbers(sequence_length)
        embedded = np.maximum(FAMILIES[family].min_positions, length) if positions is None else _numbers(positions)
        return cls(
            family=family,
            head=head,
            num_layers=_numbers(num_layers),
            hidden_size=_numbers(hidden_size),
            num_heads=_numbers(num_heads),
            intermediate_size=_numbers(intermediate_size),
            vocab_size=_numbers(vocab_size),
            sequence_length=length,
            micro_batch_size=_numbers(micro_batch_size),
            num_labels=_numbers(num_labels),
            positions=embedded,
        )

    @property
    def tokens(self) -> Numbers:
        """Tokens of one micro-batch, padding included: B s."""
        return self.micro_batch_size * self.sequence_length


def parameters(shape: Shape) -> Numbers:
    """All trainable parameters, head included; tied weights once.

    Embeddings (V+P+T)h, L layers, the one layer norm outside them 2h (BERT's after the embeddings, GPT-2's last),
    and the head. Equal to Hugging Face's ``sum(p.numel())``; BERT-base without its classifier is 109,482,240.
    """
    return shape.num_layers * layer_parameters(shape) + root_parameters(shape)


def root_parameters(shape: Shape) -> Numbers:
    """Parameters outside the layers: embeddings, one norm and head. They are FSDP's root group."""
    return embedding_parameters(shape) + 2 * shape.hidden_size + head_parameters(shape)


def embedding_parameters(shape: Shape) -> Numbers:
    """The look-up tables: words, positions and token types, (V+P+T)h."""
    return (shape.vocab_size + shape.positions + FAMILIES[shape.family].token_types) * shape.hidden_size


def layer_parameters(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """One layer's parameters on one of t tensor-parallel ranks.

    Attention 4(h^2+h), FFN 2hf + f + h, two layer norms 4h. Split by Megatron's rule (Shoeybi 2019, section 3):
    matrices and column-wise biases divide by t; row-wise biases (2h) and norms (4h) are on every rank.
    """
    h, f, t = shape.hidden_size, shape.intermediate_size, _numbers(tensor_parallel)
    return (4 * h**2 + 3 * h + 2 * h * f + f) / t + 6 * h


def head_parameters(shape: Shape) -> Numbers:
    """The head's own parameters.

    BERT: pooler h^2 + h and classifier hC + C, or for masked LM the transform h^2 + 3h and a bias V (its decoder is
    the embedding). GPT-2: hC, or nothing for causal LM.
    """
    h = shape.hidden_size
    if shape.head == "classification":
        labels = h * shape.num_labels
        return labels + shape.num_labels + h**2 + h if shape.family == "bert" else labels
    return h**2 + 3 * h + shape.vocab_size if shape.family == "bert" else np.zeros_like(h)


def flop_forward(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs of one micro-batch's forward pass on one of t tensor-parallel ranks, a multiply-add being two.

    L(8Bsh^2 + 4Bs^2h + 4Bshf)/t for the layers (Kaplan 2020, table 1, with the attention's s^2 term kept) plus the
    head, which every rank computes whole. Equal to torch's ``FlopCounterMode`` with eager attention and with SDPA's
    math kernel. Causal attention counts whole, as those compute it. Leaves out what is not a matrix product: norms,
    softmax, activations, biases and the loss, and embedding look-ups.
    """
    layer = _multiply_adds(_layer(shape, tensor_parallel)) + _multiply_adds(_attention(shape, tensor_parallel))
    return 2 * (shape.num_layers * layer + _multiply_adds(_head(shape)))


def flop_backward(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs of one micro-batch's backward pass: each product C = AB has two, dA = dC B^T and dB = A^T dC.

    Model FLOPs: what fused attention computes again (2Bs^2h a layer) and activation checkpointing are left out.
    """
    return 2 * flop_forward(shape, tensor_parallel)


def flop_training(shape: Shape, tensor_parallel: npt.ArrayLike = 1) -> Numbers:
    """FLOPs of one micro-batch forward and backward: three times the forward pass."""
    return 3 * flop_forward(shape, tensor_parallel)


def matmul_bytes(
    shape: Shape, element_bytes: npt.ArrayLike, fused_attention: npt.ArrayLike, tensor_parallel: npt.ArrayLike = 1
) -> Numbers:
    """Memory traffic of one micro-batch's matrix products, forward and backward.

    e(mk + kn + mn) for the product of an m x k and a k x n matrix: each operand read and the result written once,
    which holds while the caches hold a block of each (the roofline's compulsory traffic, Williams 2009). Three such
    products per layer product in training. Unfused attention writes and reads its scores, e a s^2 a sequence; fused
    attention (Dao 2022) reads q, k, v and writes o (4 e B s h), then reads these and dO and writes dQ, dK, dV (8).
    Leaves out what small caches read again, and biases.
    """
    e = _numbers(element_bytes)
    fused = 4 * shape.tokens * shape.hidden_size / _numbers(tensor_parallel)
    attention = np.where(fused_attention, fused, _elements(_attention(shape, tensor_parallel)))
    layer = _elements(_layer(shape, tensor_parallel)) + attention
    return 3 * e * (shape.num_layers * layer + _elements(_head(shape)))


def embedding_bytes(shape: Shape, element_bytes: npt.ArrayLike) -> Numbers:
    """Memory traffic of the embedding tables in one micro-batch.

    Their gradients are dense: each table's is written whole, in fp32, whatever the tokens, 4(V+P+T)h. One row a token
    is read forward and added backward, 4 e B s h (words and positions). Leaves out what caches save on rows seen often.
    """
    rows = 4 * shape.tokens * shape.hidden_size
    return 4 * embedding_parameters(shape) + _numbers(element_bytes) * rows


class _Product(NamedTuple):
    """`number` products of an m x k and a k x n matrix."""

    number: Numbers
    m: Numbers
    k: Numbers
    n: Numbers


def _multiply_adds(products: Iterable[_Product]) -> Numbers:
    return sum((each.number * each.m * each.k * each.n for each in products), start=_numbers(0))


def _elements(products: Iterable[_Product]) -> Numbers:
    """Elements of the operands and the results."""
    terms = (each.number * (each.m * each.k + each.k * each.n + each.m * each.n) for each in products)
    return sum(terms, start=_numbers(0))


def _layer(shape: Shape, tensor_parallel: npt.ArrayLike) -> Iterator[_Product]:
    """The products with weights of one layer: query, key, value, attention output, FFN up and down."""
    h, f, t, one = shape.hidden_size, shape.intermediate_size, _numbers(tensor_parallel), _numbers(1)
    if FAMILIES[shape.family].separate_qkv:
        yield _Product(3 * one, shape.tokens, h, h / t)
    else:
        yield _Product(one, shape.tokens, h, 3 * h / t)
    yield _Product(one, shape.tokens, h / t, h)
    yield _Product(one, shape.tokens, h, f / t)
    yield _Product(one, shape.tokens, f / t, h)


def _attention(shape: Shape, tensor_parallel: npt.ArrayLike) -> Iterator[_Product]:
    """The products without weights of one layer: scores, and scores times values, one of each a sequence and head."""
    s, width = shape.sequence_length, shape.hidden_size / shape.num_heads
    count = shape.micro_batch_size * shape.num_heads / _numbers(tensor_parallel)
    yield _Product(count, s, width, s)
    yield _Product(count, s, s, width)


def _head(shape: Shape) -> Iterator[_Product]:
    """The head's products. BERT classifies the first token, pooled; GPT-2 all tokens, of which the last is used."""
    h, one = shape.hidden_size, _numbers(1)
    if shape.head == "classification":
        if shape.family == "bert":
            yield _Product(one, shape.micro_batch_size, h, h)
            yield _Product(one, shape.micro_batch_size, h, shape.num_labels)
        else:
            yield _Product(one, shape.tokens, h, shape.num_labels)
        return
    if shape.family == "bert":
        yield _Product(one, shape.tokens, h, h)
    yield _Product(one, shape.tokens, h, shape.vocab_size)


def _numbers(values: npt.ArrayLike) -> Numbers:
    return np.asarray(values, dtype=np.float64)
