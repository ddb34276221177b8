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
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw.bench.columns import Columns, Row, as_table
from joulelaw.bench.files import remove_temporaries, replacing, storage_errors

FLUSHES_PER_FILE = 10
ROWS_PER_FILE = 100_000
FLUSH_EVERY_S = 2.0


class GrowingTable:
    """Appends rows to `<folder>/<stem>.<n>.parquet`. One writer; any number of readers, in any process.

    Rows wait in memory until `every_s` seconds have passed since the last flush, until there are enough for a file,
    or until `flush` is called. What was flushed is on disk (fsync) and survives a kill of the writer. Files of an
    earlier writer with the same stem are left as they are: this one goes on with the next number.
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
        self._rows_waiting = 0
        self._last_flush = clock()

    @property
    def path(self) -> Path:
        """The file that the next flush writes."""
        return self._folder / f"{self._stem}.{self._number}.parquet"

    def append(self, rows: Sequence[Row] | Columns) -> None:
        """Add rows (column name -> value), or columns (name -> values), with every column of the schema.

        Flushes when it is time. RowError, before anything is added, where a column does not fit.
        """
        if rows and len(table := as_table(rows, self._schema, self._stem)):
            self._waiting.append(table)
            self._rows_waiting += len(table)
        if self._rows_waiting >= self._rows_per_file or self._clock() - self._last_flush >= self._every_s:
            self.flush()

    def flush(self) -> None:
        """Make all rows appended so far visible to readers. They wait on for a next try if the disk refuses."""
        self._last_flush = self._clock()
        if not self._waiting:
            return
        groups = [*self._groups, pa.concat_tables(self._waiting).combine_chunks()]
        with replacing(self.path, self._folder.parent) as temporary:
            write_groups(temporary, groups, self._schema, self._footers)
        self._groups, self._footers = groups, [*self._footers, footer(self.path)]
        self._waiting, self._rows_waiting = [], 0
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
    Only texts repeat: a dictionary of numbers is built in vain, twice the file and six times its reading. Times lie
    close together: their differences are short.
    """
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    times = {field.name: "DELTA_BINARY_PACKED" for field in schema if pa.types.is_int64(field.type)}
    # Arrow's own file: of a Python file the writer counts the position itself, and would miss the old footers.
    with (
        pa.OSFile(str(path), "wb") as file,
        pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=texts,
            column_encoding=times or None,
            write_statistics=False,
        ) as writer,
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
