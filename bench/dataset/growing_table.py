"""A Parquet table that grows while others read it: no reader sees a row twice, loses one, or meets a broken file.

Parquet keeps its index (the footer) at the end of the file, so a file cannot be appended to under a reader's eyes.
Here the newest file is replaced, in one step, by one that begins with all the bytes of the old one, old footer
included, and goes on with a new row group and a footer that lists every group:

    power/T.0.parquet   [ group 0 | footer | group 1 | footer ]                       sealed, never touched again
    power/T.1.parquet   [ group 0 | footer ]                                          before a flush
    power/T.1.parquet   [ group 0 | footer | group 1 | footer ]                       after it, by rename or one put

So a reader that mixes the old file with the new one reads the old rows, whole: one that holds the old footer finds
each group where it was, and one that took the old size (Polars asks for the size before it opens the file) finds
the old footer where that size says. Rows never move between files, so one listing shows each earlier row exactly
once. After a few flushes a file is sealed and the next number begins: rewriting and old footers stay cheap.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

import pyarrow as pa

from joulelaw.bench.dataset.columns import Columns, Row, as_table
from joulelaw.bench.dataset.parquet_groups import GroupedFile
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import put_all, remove_temporaries, storage_errors

FLUSHES_PER_FILE = 16
ROWS_PER_FILE = 100_000
# Readings are a second old when they come, and are to be stored before they are two: theirs are flushed twice as often.
FLUSH_EVERY_S = 1.0


class GrowingTable:
    """Appends rows to `<folder>/<stem>.<n>.parquet`. One writer; any number of readers, in any process.

    Rows wait in memory until `every_s` seconds have passed since the last flush, until there are enough for a file,
    or until `flush` is called. What was flushed is stored (on a disk: fsync) and survives a kill of the writer. Files
    of an earlier writer with the same stem are left as they are: this one goes on with the next number.

    `background`: somebody else flushes when `is_due`, from another thread; `append` then never waits for a disk.
    `number`: the first that no file has, where that is known; else the folder is listed.
    """

    def __init__(
        self,
        folder: Place,
        stem: str,
        schema: pa.Schema,
        *,
        every_s: float = FLUSH_EVERY_S,
        flushes_per_file: int = FLUSHES_PER_FILE,
        rows_per_file: int = ROWS_PER_FILE,
        clock: Callable[[], float] = time.monotonic,
        background: bool = False,
        number: int | None = None,
    ) -> None:
        self._folder, self._stem, self._schema = folder, stem, schema
        self._every_s, self._clock, self._background = every_s, clock, background
        self._flushes_per_file, self._rows_per_file = flushes_per_file, rows_per_file
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if number is None:
                remove_temporaries(folder.parent, f"{folder.name}.{stem}.")
                number = next_number(folder, stem)
        self._number = number
        self._file = GroupedFile(schema)
        self._waiting: list[pa.Table] = []
        self._rows_waiting = self._taken = 0
        self._last_flush = clock()
        self._adding, self._flushing = threading.Lock(), threading.Lock()

    @property
    def path(self) -> Place:
        """The file that the next flush writes."""
        return self._folder / f"{self._stem}.{self._number}.parquet"

    @property
    def rows_waiting(self) -> int:
        """Rows that no flush has stored yet."""
        return self._rows_waiting

    @property
    def is_due(self) -> bool:
        """Whether there are rows that have waited long enough, or are enough for a file."""
        late = self._clock() - self._last_flush >= self._every_s
        return bool(self._waiting) and (late or self._rows_waiting >= self._rows_per_file)

    def append(self, rows: Sequence[Row] | Columns) -> None:
        """Add rows (column name -> value), or columns (name -> values), with every column of the schema.

        RowError, before anything is added, where a column does not fit.
        """
        if rows and len(table := as_table(rows, self._schema, self._stem)):
            with self._adding:
                self._waiting.append(table)
                self._rows_waiting += len(table)
        if self.is_due and not self._background:
            self.flush()

    def flush(self) -> None:
        """Make all rows appended so far visible to readers. They wait on for a next try if the disk refuses."""
        flush_together([self])

    def _grown(self) -> GroupedFile | None:
        """The file with the rows that wait; None where none do."""
        self._last_flush = self._clock()
        with self._adding:
            self._taken = len(self._waiting)
            waiting = self._waiting[: self._taken]
        return self._file.with_group(pa.concat_tables(waiting).combine_chunks()) if waiting else None

    def _note_stored(self, file: GroupedFile) -> None:
        with self._adding:
            del self._waiting[: self._taken]
            self._rows_waiting = sum(map(len, self._waiting))
        sealed = file.groups >= self._flushes_per_file or file.rows >= self._rows_per_file
        self._file = GroupedFile(self._schema) if sealed else file
        self._number += sealed


def flush_together(tables: Iterable[GrowingTable]) -> None:
    """As `flush` of each of these tables of one dataset: what the disk is asked for each time, it is asked for once."""
    with ExitStack() as alone:
        held = sorted(set(tables), key=id)  # in one order, so that two who flush the same never wait for each other
        for table in held:
            alone.enter_context(table._flushing)
        grown = {table: file for table in held if (file := table._grown()) is not None}
        for folder in {table._folder.parent for table in grown}:
            mine = {table.path: file.content for table, file in grown.items() if table._folder.parent == folder}
            put_all(mine, folder)
        for table, file in grown.items():
            table._note_stored(file)


def next_number(folder: Place, stem: str) -> int:
    """The first number that no file `<stem>.<n>.parquet` has."""
    taken = [path.name.removeprefix(f"{stem}.").removesuffix(".parquet") for path in folder.glob(f"{stem}.*.parquet")]
    return max((int(number) for number in taken if number.isdecimal()), default=-1) + 1
