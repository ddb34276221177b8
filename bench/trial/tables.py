"""What one attempt at a trial writes: its steps and readings as they come, and at the end its one row."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from joulelaw.bench.dataset.columns import Columns, Row, RowError, as_table
from joulelaw.bench.dataset.growing_table import FLUSH_EVERY_S, GrowingTable
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.table_writer import TableWriter
from joulelaw.bench.dataset.tables import POWER, STEPS, TRIALS
from joulelaw.bench.files import put
from joulelaw.cluster.scheduling.retries import RESULTS

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Committed:
    """What the dataset has of a trial: how its last committed attempt ended."""

    status: str
    attempt: int
    cause: str | None = None

    @property
    def done(self) -> bool:
        return self.status == "done"

    @property
    def settled(self) -> bool:
        """For good: done, or failed by what would only come again. Any other may be tried again and gets a new row."""
        return self.done or self.cause in RESULTS


class TrialTables:
    """`committed` has all trials of the dataset, by id, and gets this one; `writer` stores what grows, and is the one
    of `folder`; `before_commit` is called with the trial's id when its steps and readings are stored."""

    def __init__(
        self,
        folder: Place,
        trial_id: str,
        attempt: int,
        flush_every_s: float = FLUSH_EVERY_S,
        *,
        committed: dict[str, Committed] | None = None,
        writer: TableWriter | None = None,
        before_commit: Callable[[str], None] = lambda _: None,
    ) -> None:
        check_name(trial_id)
        self._writer = writer or TableWriter(folder, flush_every_s, background=False)
        self._committed, self._before_commit = {} if committed is None else committed, before_commit
        self._key: dict[str, Any] = {"trial_id": trial_id, "attempt": attempt}
        self._check_not_settled()
        self._steps = self._writer.table("steps", trial_id, STEPS)
        self._power: dict[str, GrowingTable] = {}

    def add_steps(self, rows: Sequence[Row] | Columns) -> None:
        """Add rows or columns of STEPS without trial_id and attempt: rank, step, measured, begin_ns, end_ns, loss."""
        self._writer.append(self._steps, self._with(self._key, rows))

    def add_power(self, node: str, rows: Sequence[Row] | Columns | pa.Table | pa.RecordBatch) -> None:
        """Add readings of one node: rows, columns or an Arrow table of POWER without trial_id, attempt and node."""
        if node not in self._power:
            check_name(node)
            self._power[node] = self._writer.table("power", f"{self._key['trial_id']}.{node}", POWER, haste=2.0)
        key = {**self._key, "node": node}
        if isinstance(rows, pa.Table | pa.RecordBatch):
            rows = dict(zip(rows.schema.names, rows.columns, strict=True))
        self._writer.append(self._power[node], self._with(key, rows))

    def _with(self, key: Columns, rows: Sequence[Row] | Columns) -> Sequence[Row] | Columns:
        return {**key, **rows} if isinstance(rows, Mapping) else [{**key, **row} for row in rows]

    def flush(self) -> None:
        """Store every row added so far."""
        self._writer.flush(self._tables)

    def close(self) -> None:
        """Store every row added so far; no more are added."""
        self.flush()
        self._writer.drop(self._tables)

    def finish(self, row: Row) -> None:
        """Commit the trial: its steps and readings first, then its row of TRIALS (without trial_id and attempt).

        The row takes the place of an earlier, failed attempt's in one step. Raises RowError, naming the column, where
        one is missing, unknown or of the wrong type, and where the trial is settled already. Nothing is committed then.
        """
        table = as_table([{**row, **self._key}], TRIALS, "trials")
        self._check_not_settled()
        self._writer.check_place()
        self.close()
        trial_id, attempt = self._key["trial_id"], self._key["attempt"]
        self._before_commit(trial_id)
        folder = self._writer.folder
        put(folder / "trials" / f"{trial_id}.parquet", encoded(table, TRIALS), folder)
        self._committed[trial_id] = Committed(str(row["status"]), attempt, row["cause"])

    @property
    def _tables(self) -> list[GrowingTable]:
        return [self._steps, *self._power.values()]

    def _check_not_settled(self) -> None:
        before = self._committed.get(self._key["trial_id"])
        if before and before.settled:
            what = "is done already; a trial is done once" if before.done else f"has its result: {before.cause}"
            raise RowError(f"trials: '{self._key['trial_id']}' {what}")


def check_name(name: str) -> None:
    """Names become parts of file names, in which a dot separates."""
    if not _PLAIN_NAME.fullmatch(name):
        raise RowError(f"'{name}' cannot name a file: use letters, digits, '-' and '_'")
