"""The growing tables of one dataset: threads of their own flush them, so that a slow disk or store stops no study."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from joulelaw.bench.dataset.columns import Columns, Row
from joulelaw.bench.dataset.growing_table import FLUSH_EVERY_S, GrowingTable, flush_together
from joulelaw.bench.dataset.storage import Place, files

LOOK_EVERY_S = 0.1
# More rows than this in memory, and who appends has to wait: about 200 MB of readings.
MOST_ROWS_WAITING = 2_000_000


class TableWriter:
    """Flushes its tables when they are due: each in order, several at a time. Close it.

    What goes wrong in the background is raised by the next call; the rows then wait in memory for another try.
    `check_place` raises where the folder is no longer the one that the study began in. With `background` False, for
    who has a table or two, an append that is due flushes by itself.
    """

    def __init__(
        self,
        folder: Place,
        every_s: float = FLUSH_EVERY_S,
        *,
        check_place: Callable[[], None] = lambda: None,
        background: bool = True,
    ) -> None:
        self.folder, self.check_place = folder, check_place
        self._every_s, self._background = every_s, background
        self._tables: dict[GrowingTable, Future[None] | None] = {}
        self._stems: dict[str, set[str]] = {}  # of the files that are there, by folder: listed once, nobody else writes
        self._error: Exception | None = None
        self._changing = threading.Lock()
        self._closed = threading.Event()
        at_a_time, self._per_lot = (2, 16) if isinstance(folder, Path) else (8, 1)
        self._hands = ThreadPoolExecutor(at_a_time, thread_name_prefix="joulelaw-flush")
        self._watch = threading.Thread(target=self._look, name="joulelaw-tables", daemon=True)
        if background:
            self._watch.start()

    def table(self, name: str, stem: str, schema: pa.Schema, haste: float = 1.0) -> GrowingTable:
        """A new table, `<folder>/<name>/<stem>.<n>.parquet`, flushed `haste` times as often as others."""
        self.check_place()  # it makes its folder
        folder: Place = self.folder / name
        if name not in self._stems:
            self._stems[name] = {path.name.rsplit(".", 2)[0] for path in files(folder, "*.parquet")}
        number = None if stem in self._stems[name] else 0
        self._stems[name].add(stem)
        every_s = self._every_s / haste
        table = GrowingTable(folder, stem, schema, every_s=every_s, background=self._background, number=number)
        with self._changing:
            self._tables[table] = None
        return table

    def append(self, table: GrowingTable, rows: Sequence[Row] | Columns) -> None:
        """As `GrowingTable.append`; waits where too many rows are not stored yet."""
        self.check()
        table.append(rows)

    def check(self) -> None:
        """Raises what went wrong in the background since the last call."""
        if sum(table.rows_waiting for table in list(self._tables)) > MOST_ROWS_WAITING:
            self.flush(list(self._tables))
        error, self._error = self._error, None
        if error is not None:
            raise error

    def flush(self, tables: Iterable[GrowingTable]) -> None:
        """Returns when every row of these tables is stored."""
        for flushing in [self._hands.submit(self._store, lot) for lot in self._lots(list(tables))]:
            flushing.result()

    def drop(self, tables: Iterable[GrowingTable]) -> None:
        """Forgets tables that get no more rows."""
        with self._changing:
            for table in tables:
                self._tables.pop(table, None)

    def close(self) -> None:
        """Stores what is there and ends the threads. What could not be stored is raised."""
        self._closed.set()
        if self._watch.is_alive():
            self._watch.join()
        try:
            self.flush(list(self._tables))
        finally:
            self._hands.shutdown(wait=True)

    def _look(self) -> None:
        while not self._closed.wait(LOOK_EVERY_S):
            with self._changing:
                due = [table for table, flushing in self._tables.items() if table.is_due and _is_over(flushing)]
                for lot in self._lots(due):
                    self._tables |= dict.fromkeys(lot, self._hands.submit(self._flush, lot))

    def _lots(self, tables: Sequence[GrowingTable]) -> Iterable[Sequence[GrowingTable]]:
        """What one hand flushes at a time."""
        return (tables[begin : begin + self._per_lot] for begin in range(0, len(tables), self._per_lot))

    def _store(self, tables: Sequence[GrowingTable]) -> None:
        if waiting := [table for table in tables if table.rows_waiting]:
            self.check_place()
            flush_together(waiting)

    def _flush(self, tables: Sequence[GrowingTable]) -> None:
        try:
            self._store(tables)
        except Exception as error:  # for whoever calls next
            self._error = error


def _is_over(flushing: Future[None] | None) -> bool:
    return flushing is None or flushing.done()
