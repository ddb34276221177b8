"""Everything that is wrong with a table, told in one message: row, column, value and why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError

MOST_SHOWN = 20


class Problems:
    """Collects what is wrong with a table; `refuse` raises it all at once.

    Rows are told as people count them, from 1, and are those of the table as it was read: `positions` are the places
    there (from 0) of the rows that are left of it.
    """

    def __init__(self, table: pd.DataFrame, positions: npt.NDArray[np.intp] | None = None) -> None:
        self.table = table
        self._positions = np.arange(len(table)) if positions is None else positions
        self._of_table: list[str] = []
        self._of_rows: list[tuple[int, str]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._count)

    def add(self, text: str) -> None:
        """Something wrong with the table as a whole, such as a missing column."""
        self._of_table.append(text)
        self._count += 1

    def find(self, name: str, wrong: npt.ArrayLike, why: str | Callable[[int], str]) -> npt.NDArray[np.bool_]:
        """Notes the rows of a column that are wrong, with their values; returns the mask of the others.

        `why` follows the column's name; it may depend on the row, counted from 0.
        """
        mask = np.asarray(wrong, dtype=bool)
        rows = np.flatnonzero(mask)
        self._count += rows.size
        for row in rows[: MOST_SHOWN + 1]:
            told = why if isinstance(why, str) else why(int(row))
            shown = f"{name} {told} (it is {shown_value(self.table[name].iloc[row])})"
            self._of_rows.append((int(row), shown))
        return ~mask

    def refuse(self) -> None:
        """Raises InputError where anything was found: one problem as it is, several as a list."""
        if not self._count:
            return
        rows = sorted(self._of_rows, key=lambda each: each[0])  # stable: within a row in the order of the checks
        if self._count == 1 and rows:
            row, text = rows[0]
            remedy = "correct the value, or leave the row out"
            raise InputError(text, where=f"table {self._place(row)}", remedy=remedy)
        if self._count == 1:
            raise InputError(self._of_table[0], where="table")
        lines = [*self._of_table, *(f"{self._place(row)}: {text}" for row, text in rows)][:MOST_SHOWN]
        more = [f"and {self._count - len(lines)} more"] if self._count > len(lines) else []
        told = "\n  ".join([f"{self._count} problems; correct them, or leave the rows out", *lines, *more])
        raise InputError(told, where="table")

    def number(self, row: int) -> int:
        """A row of the table here, counted from 0, as people count the rows of the table that was read."""
        return int(self._positions[row]) + 1

    def _place(self, row: int) -> str:
        trial = f", trial {self.table['trial_id'].iloc[row]}" if "trial_id" in self.table.columns else ""
        return f"row {self.number(row)}{trial}"


def shown_value(value: Any) -> str:
    """As a message shows it: NumPy's numbers as Python's, long ones cut."""
    text = repr(value.item() if hasattr(value, "item") and np.ndim(value) == 0 else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
