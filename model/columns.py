"""Columns of a table as arrays: numbers with defaults, and rows grouped by the texts they share."""

from collections.abc import Sequence
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.problems import Problems

Rows = npt.NDArray[np.intp]
LARGEST_DIGIT, LARGEST_KEY = 2**31, 2**62


def numbers(table: pd.DataFrame, name: str, default: npt.ArrayLike = np.nan) -> npt.NDArray[np.float64]:
    """A column as numbers, with the default (one, or one a row) where it is missing or empty.

    Raises:
        InputError: a value that is not empty and no number, with its row.
    """
    filler = np.broadcast_to(np.asarray(default, dtype=np.float64), (len(table),))
    if name not in table.columns:
        return filler
    values, unreadable = read_numbers(table[name])
    empty = np.isnan(values)
    if not empty.any():
        return values
    refuse(table, name, unreadable, "is not a number")
    return np.where(empty, filler, values)


def read_numbers(column: pd.Series) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """A column as numbers, NaN where there is none, and where there is something that is no number.

    True and false are no numbers, nor are lists or dates; numbers written as text are.
    """
    kind = column.dtype
    if isinstance(kind, pd.CategoricalDtype):
        column = column.astype(kind.categories.dtype)
    given = column.notna().to_numpy(dtype=bool)
    if column.dtype.kind in "bmM":
        return np.full(len(column), np.nan), given
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column.to_numpy(dtype=np.float64, na_value=np.nan), np.zeros(len(column), dtype=bool)
    if column.dtype == object:
        column = pd.Series([each if isinstance(each, str) else _number(each) for each in column], index=column.index)
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    return values, np.isnan(values) & given


def _number(value: Any) -> float | None:
    """Of what a column of objects holds: numbers of Python, NumPy and decimal libraries; true and false are none."""
    if isinstance(value, bool | np.bool_):
        return None
    return float(value) if isinstance(value, Real | Decimal) else None


def refuse(table: pd.DataFrame, name: str, wrong: npt.ArrayLike, why: str) -> None:
    """Raises InputError with the rows of a column that are wrong, as people count rows, their values and trials."""
    problems = Problems(table)
    problems.find(name, wrong, why)
    problems.refuse()


def codes(table: pd.DataFrame, name: str, default: str = "") -> tuple[list[str], Rows]:
    """The distinct texts of a column, with the default where it is missing or empty, and which of them each row has."""
    if name not in table.columns:
        return [default], np.zeros(len(table), dtype=np.intp)
    found, distinct = pd.factorize(table[name], use_na_sentinel=False)
    return [default if pd.isna(each) else str(each) for each in distinct], found


def has(table: pd.DataFrame, name: str, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which rows have one of the wanted texts."""
    texts, code = codes(table, name)
    return np.array([text in wanted for text in texts], dtype=np.bool_)[code]


def coded(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The table with these columns as categories where they are texts: each is told apart once, not at every look."""
    texts = [name for name in names if name in table.columns and pd.api.types.is_string_dtype(table[name])]
    return table.assign(**{name: table[name].astype("category") for name in texts})


def groups(columns: Sequence[tuple[list[str], Rows]]) -> list[tuple[tuple[str, ...], Rows]]:
    """The combinations of texts that rows have, given the `codes` of some columns, and the positions of their rows."""
    combined = np.zeros(len(columns[0][1]), dtype=np.intp)
    for texts, code in columns:
        combined = combined * len(texts) + code
    sizes = [len(texts) for texts, _ in columns]
    counted = np.bincount(combined)
    small = combined.astype(np.uint16) if len(counted) < 2**16 else combined  # 16 bits sort in linear time
    order = np.argsort(small, kind="stable")
    used = np.flatnonzero(counted)
    found = []
    for each, rows in zip(used, np.split(order, np.cumsum(counted[used])[:-1]), strict=True):
        which = np.unravel_index(each, sizes)
        found.append((tuple(texts[int(at)] for (texts, _), at in zip(columns, which, strict=True)), rows))
    return found


def part_of(column: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
    """The column's values in these rows; of a column that is one value throughout, without a copy."""
    return np.broadcast_to(column[:1], rows.shape) if column.strides == (0,) else column[rows]


def distinct(columns: Sequence[npt.NDArray[Any]]) -> tuple[Rows, Rows]:
    """A position of each distinct combination of values, and which of those combinations each row has.

    Columns become the digits of one whole number a row, and are numbered anew where that would grow too large.
    """
    key, span = np.zeros(len(columns[0]), dtype=np.int64), 1
    for column in columns:
        digits, size = _digits(column)
        if span * size > LARGEST_KEY:
            key, values = pd.factorize(key)
            span = len(values)
        if size > 1:
            key, span = key * size + digits, span * size
    which, values = pd.factorize(key)
    first = np.empty(len(values), dtype=np.intp)
    first[which] = np.arange(len(which))
    return first, which


def _digits(column: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], int]:
    """A column as numbers from 0, and how many there may be: its whole numbers less the lowest, or their ranks."""
    low, high = column.min(), column.max()
    if low == high:
        return column, 1
    if low >= 0 and high < LARGEST_DIGIT:
        whole = column.astype(np.int64)
        if (whole == column).all():
            return whole - int(low), int(high) - int(low) + 1
    ranks, values = pd.factorize(column)
    return ranks, len(values)


def flags(table: pd.DataFrame, name: str, default: bool = False) -> npt.NDArray[np.bool_]:
    """A column of true and false, with the default where it is missing or empty; 1, 0 and the words are understood.

    Raises:
        InputError: anything else, with its row.
    """
    if name not in table.columns:
        return np.broadcast_to(np.asarray(default), (len(table),))
    texts, code = codes(table, name, str(default))
    known = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    wrong = np.array([text.lower() not in known for text in texts])
    refuse(table, name, wrong[code], "is neither true nor false")
    return np.array([known[text.lower()] for text in texts], dtype=np.bool_)[code]
