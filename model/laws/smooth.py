"""Positive quantities with their slopes in the logarithms of coefficients: sums and smooth maxima of terms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """Values (one a row) and their slopes (rows x coefficients), which are None where nobody asked for them."""

    value: Array
    slope: Array | None

    def __add__(self, other: "Part") -> "Part":
        if self.slope is None or other.slope is None:
            return Part(self.value + other.value, None)
        return Part(self.value + other.value, self.slope + other.slope)

    def times(self, factor: float) -> "Part":
        return Part(factor * self.value, None if self.slope is None else factor * self.slope)


@dataclass(frozen=True)
class Term:
    """One term: the block it is summed in, its counted feature, and the power of each coefficient in it."""

    block: str
    feature: str
    powers: Mapping[str, int]


@dataclass(frozen=True)
class Block:
    """The terms of one block: features (rows x terms) and powers (terms x coefficients)."""

    features: Array
    powers: Array


@dataclass(frozen=True)
class Terms:
    """Terms laid out for evaluation, by block."""

    blocks: Mapping[str, Block]
    names: tuple[str, ...]

    @classmethod
    def of(cls, terms: Sequence[Term], features: Mapping[str, Array], names: Sequence[str]) -> "Terms":
        """The terms whose coefficients are all in `names`; a coefficient that is not there makes its terms 0."""
        blocks = {}
        for block in dict.fromkeys(term.block for term in terms):
            used = [term for term in terms if term.block == block and set(term.powers) <= set(names)]
            powers = np.array([[float(term.powers.get(name, 0)) for name in names] for term in used])
            columns = np.column_stack([features[term.feature] for term in used])
            blocks[block] = Block(columns, powers)
        return cls(blocks, tuple(names))

    def take(self, rows: npt.NDArray[np.intp]) -> "Terms":
        return Terms(
            {name: Block(b.features.take(rows, axis=0), b.powers) for name, b in self.blocks.items()}, self.names
        )

    def part(self, block: str, logs: Array, slopes: bool = True) -> Part:
        """The sum of a block's terms, given the logarithms of the coefficients."""
        terms = self.blocks[block]
        factors = np.exp(terms.powers @ logs)
        value = terms.features @ factors
        return Part(value, terms.features @ (factors[:, None] * terms.powers) if slopes else None)


def smooth_maximum(parts: Sequence[Part], overlap: float, at: int) -> Part:
    """(a^p + b^p + ...)^(1/p) with p = 1 + overlap: the sum at overlap 0, the largest part where it is large.

    `at` is the column of the overlap's own logarithm among the slopes. A part may be 0; so is the result if all are.
    """
    p = 1.0 + overlap
    largest = np.maximum.reduce([part.value for part in parts])
    safe = np.where(largest > 0, largest, 1.0)
    shares = [part.value / safe for part in parts]
    powered = [share**p for share in shares]
    norm = np.maximum(np.add.reduce(powered), 1e-300)
    value = largest * norm ** (1 / p)
    slopes = [part.slope for part in parts if part.slope is not None]
    if len(slopes) < len(parts):
        return Part(value, None)
    scale = norm ** (1 / p - 1)
    result = np.add.reduce([(share ** (p - 1) * scale)[:, None] * s for share, s in zip(shares, slopes, strict=True)])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(s > 0, w * np.log(s), 0.0) for s, w in zip(shares, powered, strict=True)]
    entropy = np.add.reduce(terms) / norm
    result[:, at] += overlap * value * (entropy / p - np.log(norm) / p**2)
    return Part(value, result)
