"""Everything that is wrong with a table, told in one message: row, column, value and why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError

MOST_SHOWN = 20
Rows = npt.NDArray[np.intp]


class Problems:
    """Collects what is wrong with a table; `refuse` raises it all at once.

    Rows are told as people count them, from 1, and are those of the table as it was read: `positions` are the places
    there (from 0) of the rows that are left of it.
    """

    def __init__(self, table: pd.DataFrame, positions: Rows | None = None) -> None:
        self.table = table
        self._positions = np.arange(len(table)) if positions is None else positions
        self._of_table: list[str] = []
        self._of_rows: list[tuple[int, str, int]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._count)

    def add(self, text: str) -> None:
        """Something wrong with the table as a whole, such as a missing column."""
        self._of_table.append(text)
        self._count += 1

    def find(self, name: str, wrong: npt.ArrayLike, why: str | Callable[[int], str]) -> npt.NDArray[np.bool_]:
        """Notes the rows of a column that are wrong, with their values; returns the mask of the others.

        `why` follows the column's name; it may depend on the row, counted from 0. Where it does not, rows of the same
        value are told together, under the first of them.
        """
        mask = np.asarray(wrong, dtype=bool)
        rows = np.flatnonzero(mask)
        if not rows.size:  # the column may not be there
            return ~mask
        self._count += rows.size
        column = self.table[name]
        first, alike = (rows, np.ones_like(rows)) if callable(why) else _grouped(column, rows)
        for row, count in list(zip(first.tolist(), alike.tolist(), strict=True))[: MOST_SHOWN + 1]:
            told = why(row) if callable(why) else why
            self._of_rows.append((row, f"{name} {told} (it is {shown_value(column.iloc[row])})", count))
        return ~mask

    def refuse(self) -> None:
        """Raises InputError where anything was found: one problem as it is, several as a list."""
        if not self._count:
            return
        rows = sorted(self._of_rows, key=lambda each: each[0])  # stable: within a row in the order of the checks
        if self._count == 1 and rows:
            row, text, _ = rows[0]
            remedy = "correct the value, or leave the row out"
            raise InputError(text, where=f"table {self._place(row)}", remedy=remedy)
        if self._count == 1:
            raise InputError(self._of_table[0], where="table")
        lines = [(text, 1) for text in self._of_table]
        lines += [(f"{self._place(row)}: {text}{_and_more(count)}", count) for row, text, count in rows]
        left = self._count - sum(count for _, count in lines[:MOST_SHOWN])
        told = "\n  ".join(
            [
                f"{self._count} problems; correct them, or leave the rows out",
                *(text for text, _ in lines[:MOST_SHOWN]),
                *([f"and {left} more"] if left else []),
            ]
        )
        raise InputError(told, where="table")

    def number(self, row: int) -> int:
        """A row of the table here, counted from 0, as people count the rows of the table that was read."""
        return int(self._positions[row]) + 1

    def _place(self, row: int) -> str:
        trial = f", trial {self.table['trial_id'].iloc[row]}" if "trial_id" in self.table.columns else ""
        return f"row {self.number(row)}{trial}"


def _grouped(column: pd.Series, rows: Rows) -> tuple[Rows, Rows]:
    """The first row of each value among these, in their order, and how many rows have it."""
    codes, _ = pd.factorize(column.iloc[rows].astype(str))
    _, first, count = np.unique(codes, return_index=True, return_counts=True)
    return rows[first], count


def _and_more(count: int) -> str:
    return "" if count == 1 else f", and so in {count - 1} row{'s' * (count > 2)} more"


def shown_value(value: Any) -> str:
    """As a message shows it: NumPy's numbers as Python's, long ones cut."""
    text = repr(value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
