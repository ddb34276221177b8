"""A Parquet table that grows while others read it: no reader sees a row twice, loses one, or meets a broken file.

Parquet keeps its index (the footer) at the end of the file, so a file cannot be appended to under a reader's eyes.
Here the newest file is replaced, in one rename, by one that begins with all the bytes of the old one, old footer
included, and goes on with a new row group and a footer that lists every group:

    power/T.0.parquet   [ group 0 | footer | group 1 | footer ]                       sealed, never touched again
    power/T.1.parquet   [ group 0 | footer ]                                          before a flush
    power/T.1.parquet   [ group 0 | footer | group 1 | footer ]                       after it, by rename

So a reader that mixes the old file with the new one reads the old rows, whole: one that holds the old footer finds
each group where it was, and one that took the old size (Polars asks for the size before it opens the file) finds
the old footer where that size says. Rows never move between files, so one listing shows each earlier row exactly
once. After a few flushes a file is sealed and the next number begins: rewriting and old footers stay cheap.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw.bench.files import remove_temporaries, replacing, storage_errors

FLUSHES_PER_FILE = 10
ROWS_PER_FILE = 100_000
FLUSH_EVERY_S = 2.0

Row = Mapping[str, Any]


class RowError(ValueError):
    """A row that does not fit its table: a program's mistake, with the column named.

    >>> print(RowError("steps: column 'end_ns' is missing"))
    steps: column 'end_ns' is missing
    """


class GrowingTable:
    """Appends rows to `<folder>/<stem>.<n>.parquet`. One writer; any number of readers, in any process.

    Rows wait in memory until `every_s` seconds have passed since the last flush, or `flush` is called. What was
    flushed is on disk (fsync) and survives a kill of the writer. Files of an earlier writer with the same stem are
    left as they are: this one goes on with the next number.
    """

    def __init__(
        self,
        folder: Path,
        stem: str,
        schema: pa.Schema,
        *,
        every_s: float = FLUSH_EVERY_S,
        flushes_per_file: int = FLUSHES_PER_FILE,
        rows_per_file: int = ROWS_PER_FILE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._stem, self._schema = folder, stem, schema
        self._every_s, self._clock = every_s, clock
        self._flushes_per_file, self._rows_per_file = flushes_per_file, rows_per_file
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_temporaries(folder.parent, f"{folder.name}.{stem}.")
        self._number = next_number(folder, stem)
        self._groups: list[pa.Table] = []
        self._footers: list[bytes] = []
        self._waiting: list[pa.Table] = []
        self._last_flush = clock()

    @property
    def path(self) -> Path:
        """The file that the next flush writes."""
        return self._folder / f"{self._stem}.{self._number}.parquet"

    def append(self, rows: Sequence[Row]) -> None:
        """Add rows (column name -> value, every column of the schema), and flush when it is time."""
        if rows:
            self._waiting.append(as_table(rows, self._schema, self._stem))
        if self._clock() - self._last_flush >= self._every_s:
            self.flush()

    def flush(self) -> None:
        """Make all rows appended so far visible to readers. They wait on for a next try if the disk refuses."""
        self._last_flush = self._clock()
        if not self._waiting:
            return
        groups = [*self._groups, pa.concat_tables(self._waiting).combine_chunks()]
        with replacing(self.path, self._folder.parent) as temporary:
            write_groups(temporary, groups, self._schema, self._footers)
        self._groups, self._footers, self._waiting = groups, [*self._footers, footer(self.path)], []
        if len(groups) >= self._flushes_per_file or sum(len(group) for group in groups) >= self._rows_per_file:
            self._groups, self._footers, self._number = [], [], self._number + 1


def next_number(folder: Path, stem: str) -> int:
    """The first number that no file `<stem>.<n>.parquet` has."""
    taken = [path.name.removeprefix(f"{stem}.").removesuffix(".parquet") for path in folder.glob(f"{stem}.*.parquet")]
    return max((int(number) for number in taken if number.isdecimal()), default=-1) + 1


def write_groups(path: Path, groups: Sequence[pa.Table], schema: pa.Schema, footers: Sequence[bytes] = ()) -> None:
    """Write a Parquet file of these row groups, with each old footer again after the group it came after.

    Groups are found by their offsets, so what lies between two of them is nobody's business. Equal groups and
    footers give equal bytes, whatever follows them. Without statistics, which would double the size of a footer.
    """
    # Arrow's own file: of a Python file the writer counts the position itself, and would miss the old footers.
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_statistics=False) as writer,
    ):
        for number, group in enumerate(groups):
            writer.write_table(group, row_group_size=len(group))
            file.write(b"".join(footers[number : number + 1]))


def footer(path: Path) -> bytes:
    """The end of a Parquet file: the footer itself, its length in 4 bytes, and PAR1."""
    with path.open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little") + 8
        file.seek(-length, os.SEEK_END)
        return file.read()


def as_table(rows: Sequence[Row], schema: pa.Schema, name: str) -> pa.Table:
    """Rows as an Arrow table of exactly this schema; RowError names the column that is missing, unknown or wrong."""
    expected = set(schema.names)
    for row in rows:
        if missing := [column for column in schema.names if column not in row]:
            raise RowError(f"{name}: column '{missing[0]}' is missing")
        if unknown := sorted(set(row) - expected):
            raise RowError(f"{name}: column '{unknown[0]}' is not in the schema")
    return pa.table([_column(rows, field, name) for field in schema], schema=schema)


def _column(rows: Sequence[Row], field: pa.Field, name: str) -> pa.Array:
    values = [row[field.name] for row in rows]
    for value in values:
        if _changes_silently(value, field.type):
            raise RowError(f"{name}: column '{field.name}' must be {field.type}, not {value!r}")
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RowError(f"{name}: column '{field.name}' must be {field.type}: {error}") from error


def _changes_silently(value: object, kind: pa.DataType) -> bool:
    """Whether Arrow would take the value and store another: 1.5 as 1, True as 1.0, 'ab' as ['a', 'b']."""
    if pa.types.is_integer(kind):
        return isinstance(value, float)
    if pa.types.is_floating(kind):
        return isinstance(value, bool)
    return pa.types.is_list(kind) and isinstance(value, str)
