"""Rows, or whole columns, become an Arrow table of a schema; the column that does not fit is named.

A million rows a second go through here as columns, so that values are looked at one type at a time, not one by one.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

Row = Mapping[str, Any]
# Column -> a list, a NumPy array (NaN: no number), an Arrow array, or one value that stands in every row.
Columns = Mapping[str, Any]

_KINDS_OF_NUMPY = {"i": "i", "u": "i", "f": "f", "b": "b", "U": "s"}


class RowError(ValueError):
    """A row that does not fit its table: a program's mistake, with the column named.

    >>> print(RowError("steps: column 'end_ns' is missing"))
    steps: column 'end_ns' is missing
    """


def as_table(rows: Sequence[Row] | Columns, schema: pa.Schema, name: str) -> pa.Table:
    """An Arrow table of exactly this schema; RowError names the column that is missing, unknown or wrong."""
    if not isinstance(rows, Mapping) and (table := _plain(rows, schema)) is not None:
        return table
    columns = rows if isinstance(rows, Mapping) else _columns_of(rows, schema, name)
    _check_names(columns, schema, name)
    lengths = {column: len(values) for column, values in columns.items() if not _is_one_value(values)}
    count = next(iter(lengths.values()), 1)
    for column, length in lengths.items():
        if length != count:
            raise RowError(f"{name}: column '{column}' has {length} rows, '{next(iter(lengths))}' has {count}")
    return pa.table([_column(columns[field.name], field, count, name) for field in schema], schema=schema)


def _plain(rows: Sequence[Row], schema: pa.Schema) -> pa.Table | None:
    """Rows that fit as they are, all columns at once, in a tenth of the time; None for those that are to be looked at
    column by column."""
    names = set(schema.names)
    changed = [(field.name, types) for field in schema if (types := _changed_types(field.type))]
    for row in rows:
        if row.keys() != names or any(isinstance(row[name], types) for name, types in changed):
            return None
    try:
        return pa.Table.from_arrays(pa.array(rows, pa.struct(schema)).flatten(), schema=schema)
    except (pa.ArrowException, TypeError, OverflowError):
        return None


def _columns_of(rows: Sequence[Row], schema: pa.Schema, name: str) -> dict[str, list[Any]]:
    for row in [*rows[:1], *(row for row in rows if row.keys() != rows[0].keys())]:
        _check_names(row, schema, name)
    return {column: [row[column] for row in rows] for column in schema.names}


def _check_names(given: Mapping[str, Any], schema: pa.Schema, name: str) -> None:
    if given.keys() == set(schema.names):
        return
    if missing := [column for column in schema.names if column not in given]:
        raise RowError(f"{name}: column '{missing[0]}' is missing")
    raise RowError(f"{name}: column '{min(given.keys() - set(schema.names))}' is not in the schema")


def _is_one_value(values: object) -> bool:
    return values is None or isinstance(values, str | bytes | int | float)


def _column(values: Any, field: pa.Field, count: int, name: str) -> pa.Array:
    try:
        if _is_one_value(values):
            _refuse(_changing([values], field.type), field, name)
            return pa.repeat(pa.scalar(values, field.type), count)
        if isinstance(values, pa.Array | pa.ChunkedArray):
            if values.type == field.type:
                return values
            _refuse([] if _keeps(_kind(values.type), field.type) else [values.type], field, name)
            return values.cast(field.type)
        if isinstance(values, np.ndarray) and values.dtype != object:
            kind = _KINDS_OF_NUMPY.get(values.dtype.kind, "")
            _refuse([] if _keeps(kind, field.type) else [values.dtype], field, name)
            return pa.array(values, field.type, from_pandas=True)
        values = list(values)
        _refuse(_changing(values, field.type), field, name)
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RowError(f"{name}: column '{field.name}' must be {field.type}: {error}") from error


def _refuse(wrong: Sequence[object], field: pa.Field, name: str) -> None:
    if wrong:
        raise RowError(f"{name}: column '{field.name}' must be {field.type}, not {wrong[0]!r}")


def _changing(values: Sequence[object], kind: pa.DataType) -> list[object]:
    """The values that Arrow would take and store as others: 1.5 as 1, True as 1.0, 'ab' as ['a', 'b']."""
    changed = _changed_types(kind)
    if not any(issubclass(each, changed) for each in set(map(type, values))):
        return []
    return [value for value in values if isinstance(value, changed)]


@cache
def _changed_types(kind: pa.DataType) -> tuple[type, ...]:
    if pa.types.is_integer(kind):
        return (float,)
    if pa.types.is_floating(kind):
        return (bool, np.bool_)
    return (str,) if pa.types.is_list(kind) else ()


def _kind(kind: pa.DataType) -> str:
    """Of what an Arrow array holds: i(nteger), f(loat), b(ool), s(tring), n(othing) or something else."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    tests = {
        "i": pa.types.is_integer,
        "f": pa.types.is_floating,
        "b": pa.types.is_boolean,
        "s": pa.types.is_string,
        "n": pa.types.is_null,
    }
    return next((letter for letter, test in tests.items() if test(kind)), "")


def _keeps(letter: str, wanted: pa.DataType) -> bool:
    """Whether values of a kind are stored as they are in a column of the type wanted."""
    return letter in {"i": "in", "f": "fin", "b": "bn", "s": "sn"}.get(_kind(wanted), "n")
