"""What the rows of a fit cover, axis by axis, and which rows of another table lie outside of that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.columns import Rows, codes

TEXT_AXES = ("gpu_model", "strategy", "precision", "model_family")
NUMBER_AXES = (
    "gpu_count",
    "node_count",
    "num_layers",
    "hidden_size",
    "intermediate_size",
    "vocab_size",
    "sequence_length",
    "micro_batch_size",
    "grad_accumulation",
    "flop_per_micro_step",
    "link_bytes_per_s",
    "power_limit_share",
)
# What changes the work of a trial and is not always said; with what a trial that does not say is taken to have.
DETAIL_AXES = {"attention": "sdpa", "activation_checkpointing": "False", "torch_compile": "False"}
NAMED_AXES = (*TEXT_AXES, *DETAIL_AXES)
FLAGS = {"true": "True", "false": "False", "1": "True", "0": "False", "1.0": "True", "0.0": "False"}

Ranges = Mapping[str, Sequence[str] | Sequence[float]]


def ranges_of(table: pd.DataFrame) -> dict[str, list[str] | list[float]]:
    """What a table with the counted axes (`Rows.sized`) covers: the values of named axes, the ends of number axes.

    An axis of which the table has no value (links, where every trial ran on one device) is left out.
    """
    ranges: dict[str, list[str] | list[float]] = {name: sorted(set(_names(table, name)[0])) for name in TEXT_AXES}
    for name in NUMBER_AXES:
        if name in table and table[name].notna().any():
            ranges[name] = [float(table[name].min()), float(table[name].max())]
    return ranges | {name: sorted(set(_names(table, name)[0])) for name in DETAIL_AXES}


def joined(first: Ranges, second: Ranges) -> dict[str, list[str] | list[float]]:
    """What two fits cover together."""
    ranges: dict[str, list[str] | list[float]] = {}
    for name in (*first, *(name for name in second if name not in first)):
        values = [*first.get(name, []), *second.get(name, [])]
        if name in NAMED_AXES:
            ranges[name] = sorted({str(value) for value in values})
        else:
            numbers = [float(value) for value in values]
            ranges[name] = [min(numbers), max(numbers)]
    return ranges


@dataclass(frozen=True)
class Outside:
    """The rows of a table that lie outside the ranges on one axis, and what is said of each."""

    rows: Rows
    words: npt.NDArray[np.object_]


def outside(table: pd.DataFrame, ranges: Ranges) -> dict[str, Outside]:
    """By axis, in the order of the ranges; axes on which no row lies outside are left out."""
    found = {
        axis: _unknown(table, axis, covered) if axis in NAMED_AXES else _beyond(table, axis, covered)
        for axis, covered in ranges.items()
    }
    return {axis: each for axis, each in found.items() if each.rows.size}


def in_words(found: Mapping[str, Outside], index: pd.Index) -> "pd.Series[str]":
    """For each row, the axes on which it lies outside; empty where it lies inside.

    For example "gpu_model; num_layers 24 > 12".
    """
    texts = np.full(len(index), "", dtype=object)
    for each in found.values():
        before = texts[each.rows]
        texts[each.rows] = np.where(before == "", "", before + "; ") + each.words
    return pd.Series(texts if found else "", index=index, dtype=str)


def _names(table: pd.DataFrame, axis: str) -> tuple[list[str], Rows]:
    """The distinct names on an axis and which of them each row has; true and false are written in one way."""
    if axis not in DETAIL_AXES:
        return codes(table, axis)
    names, code = codes(table, axis, DETAIL_AXES[axis])
    return [FLAGS.get(name, name) for name in names], code


def _unknown(table: pd.DataFrame, axis: str, covered: Sequence[str] | Sequence[float]) -> Outside:
    names, code = _names(table, axis)
    unknown = np.array([name not in covered for name in names])
    rows = np.flatnonzero(unknown[code]) if unknown.any() else np.empty(0, dtype=np.intp)
    return Outside(rows, np.full(len(rows), axis, dtype=object))


def _beyond(table: pd.DataFrame, axis: str, covered: Sequence[str] | Sequence[float]) -> Outside:
    values = table[axis].to_numpy(dtype=float)
    low, high = (float(end) for end in covered)
    rows = np.flatnonzero((values < low) | (values > high))
    which, written = pd.factorize(values[rows])  # few values are told in many rows
    words = [f"{axis} {value:g} {f'< {low:g}' if value < low else f'> {high:g}'}" for value in written]
    return Outside(rows, np.array(words, dtype=object)[which])
