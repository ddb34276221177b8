"""What one attempt at a trial writes: its steps and readings as they come, and at the end its one row."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulelaw.bench.columns import Columns, Row, RowError, as_table
from joulelaw.bench.files import replacing
from joulelaw.bench.growing_table import FLUSH_EVERY_S, GrowingTable, write_groups
from joulelaw.bench.tables import POWER, STEPS, TRIALS

# Failures that say something of the configuration, not of the machine: results, which no later run tries again.
RESULTS = frozenset({"out_of_memory", "nan_loss"})
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
    """`committed` has all trials of the dataset, by id, and gets this one; `check_place` raises where the folder is
    no longer the one that the study began in."""

    def __init__(
        self,
        folder: Path,
        trial_id: str,
        attempt: int,
        flush_every_s: float = FLUSH_EVERY_S,
        *,
        committed: dict[str, Committed] | None = None,
        check_place: Callable[[], None] = lambda: None,
    ) -> None:
        check_name(trial_id)
        check_place()  # a growing table makes its folder
        self._folder, self._every_s = folder, flush_every_s
        self._committed, self._check_place = {} if committed is None else committed, check_place
        self._key: dict[str, Any] = {"trial_id": trial_id, "attempt": attempt}
        self._check_not_settled()
        self._steps = GrowingTable(folder / "steps", trial_id, STEPS, every_s=flush_every_s)
        self._power: dict[str, GrowingTable] = {}

    def add_steps(self, rows: Sequence[Row]) -> None:
        """Add rows of STEPS without trial_id and attempt: rank, step, measured, begin_ns, end_ns, loss."""
        self._steps.append([{**self._key, **row} for row in rows])

    def add_power(self, node: str, rows: Sequence[Row] | Columns) -> None:
        """Add readings of one node, rows or columns of POWER without trial_id, attempt and node."""
        if node not in self._power:
            check_name(node)
            self._check_place()
            stem = f"{self._key['trial_id']}.{node}"
            self._power[node] = GrowingTable(self._folder / "power", stem, POWER, every_s=self._every_s)
        key = {**self._key, "node": node}
        whole = {**key, **rows} if isinstance(rows, Mapping) else [{**key, **row} for row in rows]
        self._power[node].append(whole)

    def flush(self) -> None:
        """Put every row added so far on disk."""
        for table in (self._steps, *self._power.values()):
            table.flush()

    def finish(self, row: Row) -> None:
        """Commit the trial: its steps and readings first, then its row of TRIALS (without trial_id and attempt).

        The row takes the place of an earlier, failed attempt's in one step. Raises RowError, naming the column, where
        one is missing, unknown or of the wrong type, and where the trial is done already. Nothing is committed then.
        """
        table = as_table([{**row, **self._key}], TRIALS, "trials")
        self._check_not_settled()
        self._check_place()
        self.flush()
        trial_id, attempt = self._key["trial_id"], self._key["attempt"]
        with replacing(self._folder / "trials" / f"{trial_id}.parquet", self._folder) as temporary:
            write_groups(temporary, [table], TRIALS)
        self._committed[trial_id] = Committed(str(row["status"]), attempt, row["cause"])

    def _check_not_settled(self) -> None:
        before = self._committed.get(self._key["trial_id"])
        if before and before.settled:
            what = "is done already; a trial is done once" if before.done else f"has its result: {before.cause}"
            raise RowError(f"trials: '{self._key['trial_id']}' {what}")


def check_name(name: str) -> None:
    """Names become parts of file names, in which a dot separates."""
    if not _PLAIN_NAME.fullmatch(name):
        raise RowError(f"'{name}' cannot name a file: use letters, digits, '-' and '_'")
