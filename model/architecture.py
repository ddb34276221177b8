"""A Transformer's shape, and its parameters in closed form.

Every formula takes the columns of a table at once (NumPy arrays that broadcast; numbers do too) and returns an
array. Letters of the docstrings: B micro-batch, s sequence length, L layers, h width, f FFN width, a heads,
V vocabulary, P positions, T token types, C classes, t tensor-parallel ranks.
Two families: ``bert`` (an encoder with pooler) and ``gpt2`` (a decoder), each with a ``classification`` or a
``language_model`` head, counted as Hugging Face Transformers computes them.
"""

from dataclasses import dataclass, fields

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
    norm_last: bool
    """A layer ends with a norm; else with its last product, and dropout where there is some."""
    encoder: bool
    """BERT's kind: tokens see all others, the classifier sees the first one, pooled, and the language model's head has
    a transform and a bias. Else GPT-2's: tokens see those before them, and the head is one product of every token."""


FAMILIES = {
    "bert": Family(min_positions=512, token_types=2, separate_qkv=True, norm_last=True, encoder=True),
    "gpt2": Family(min_positions=1024, token_types=0, separate_qkv=False, norm_last=False, encoder=False),
}


FAMILY_NAMES = (*FAMILIES, "lstm", "gru")  # the last two are counted in `recurrent`


@dataclass(frozen=True)
class Sizes:
    """What shapes of every family have: columns, of one family and head."""

    family: str
    head: str
    num_layers: Numbers
    hidden_size: Numbers
    vocab_size: Numbers
    sequence_length: Numbers
    micro_batch_size: Numbers
    num_labels: Numbers

    def __post_init__(self) -> None:
        if self.head not in HEADS:
            raise InputError(f"unknown head {self.head!r}", where="head", remedy=f"one of {', '.join(HEADS)}")

    @property
    def tokens(self) -> Numbers:
        """Tokens of one micro-batch, padding included: B s."""
        return self.micro_batch_size * self.sequence_length


@dataclass(frozen=True)
class Shape(Sizes):
    """A Transformer's shape. Make it with `Shape.of`, which converts and fills in."""

    num_heads: Numbers
    intermediate_size: Numbers
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
                f"unknown model family {family!r}", where="model_family", remedy=f"one of {', '.join(FAMILY_NAMES)}"
            )
        length = as_numbers(sequence_length)
        embedded = np.maximum(FAMILIES[family].min_positions, length) if positions is None else as_numbers(positions)
        return cls(
            family=family,
            head=head,
            num_layers=as_numbers(num_layers),
            hidden_size=as_numbers(hidden_size),
            num_heads=as_numbers(num_heads),
            intermediate_size=as_numbers(intermediate_size),
            vocab_size=as_numbers(vocab_size),
            sequence_length=length,
            micro_batch_size=as_numbers(micro_batch_size),
            num_labels=as_numbers(num_labels),
            positions=embedded,
        )

    @property
    def encoder(self) -> bool:
        """Of a family of encoders."""
        return FAMILIES[self.family].encoder

    @property
    def columns(self) -> dict[str, Numbers]:
        """The numbers, by name."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ("family", "head")}

    def take(self, rows: npt.NDArray[np.intp]) -> "Shape":
        """The shapes of some rows."""
        return Shape(self.family, self.head, **{name: values[rows] for name, values in self.columns.items()})


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
    h, f, t = shape.hidden_size, shape.intermediate_size, as_numbers(tensor_parallel)
    return (4 * h**2 + 3 * h + 2 * h * f + f) / t + 6 * h


def head_parameters(shape: Shape) -> Numbers:
    """The head's own parameters.

    BERT: pooler h^2 + h and classifier hC + C, or for masked LM the transform h^2 + 3h and a bias V (its decoder is
    the embedding). GPT-2: hC, or nothing for causal LM.
    """
    h = shape.hidden_size
    if shape.head == "classification":
        labels = h * shape.num_labels
        return labels + shape.num_labels + h**2 + h if shape.encoder else labels
    return h**2 + 3 * h + shape.vocab_size if shape.encoder else np.zeros_like(h)


def as_numbers(values: npt.ArrayLike) -> Numbers:
    """A number or a column, as floats."""
    return np.asarray(values, dtype=np.float64)
