"""A study's folder, on a disk or in an object store: what is saved when, and what makes a trial finished.

    <folder>/  sweep.yaml  plan.json  environment.json  devices.toml  lock (or lease/)
               trials/<trial_id>.parquet               one row, written when the trial ends: the commit record
               steps/<trial_id>.<n>.parquet            grows while the trial runs
               power/<trial_id>.<node>.<n>.parquet     grows while the trial runs
               meters/session.<n>.parquet              the meters of one run, and idle power; before its first trial
               events/study.<n>.parquet                grows: runs, nodes and attempts, as they come and go
               logs/<trial_id>.<attempt>/<name>

A trial is done when its file in trials/ says so, and not before; that file appears in one step, after its steps
and readings are stored. So a kill at any moment leaves a dataset in which each trial is done, failed or absent. A
failed one may be tried again: its row is replaced, in one step, by that of a later attempt.
"""

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from joulelaw.bench.dataset.columns import Row, RowError, as_table
from joulelaw.bench.dataset.environments import Environments, as_json
from joulelaw.bench.dataset.exclusive import DatasetError, Exclusive, locked, taken
from joulelaw.bench.dataset.growing_table import FLUSH_EVERY_S, GrowingTable, next_number
from joulelaw.bench.dataset.leftovers import remove_leftovers
from joulelaw.bench.dataset.measurements import (
    data_hash,
    devices_files,
    is_dataset,
    read_events,
    read_measurements,
    read_meters,
    read_power,
    read_steps,
    read_trials,
    read_trials_table,
)
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.table_writer import TableWriter
from joulelaw.bench.dataset.tables import EVENTS, TABLES
from joulelaw.bench.files import StorageError, put, storage_errors, write_text
from joulelaw.bench.trial.tables import Committed, TrialTables, check_name
from joulelaw.cluster.ranks import rank_log

__all__ = [
    "Dataset",
    "DatasetError",
    "TrialTables",
    "data_hash",
    "devices_files",
    "locked",
    "read_events",
    "read_measurements",
    "read_meters",
    "read_power",
    "read_steps",
    "read_trials",
]

# In a folder of imported trials, where they come from.
ORIGIN = "imported.json"
_ROOM_BYTES = 1 << 16


class Dataset:
    """The one writer of a dataset folder. Holds the folder's lock until `close`; use it as a context manager."""

    def __init__(
        self,
        folder: Place,
        right: Exclusive,
        committed: Mapping[str, Committed],
        *,
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        self.folder = folder
        self._right = right
        self._committed = dict(committed)
        self._attempts = {trial_id: each.attempt for trial_id, each in committed.items()}
        self._writer = TableWriter(folder, flush_every_s, check_place=right.check)
        self._events: GrowingTable | None = None
        self._environments = Environments(folder)
        self._logs = None if isinstance(folder, Path) else TemporaryDirectory(prefix="joulelaw-logs-")

    @staticmethod
    def exists(folder: Place) -> bool:
        """Whether a study was begun here: its sweep, plan and environment are all saved (the plan is saved last)."""
        return (folder / "plan.json").is_file()

    @staticmethod
    def check_free(folder: Place) -> None:
        """Raises DatasetError where another run is writing to the folder, StorageError where it takes no file."""
        if not isinstance(folder, Path) or folder.exists():
            taken(folder).close()

    @classmethod
    def create(
        cls,
        folder: Place,
        *,
        sweep: str,
        plan: object,
        environment: Mapping[str, Any],
        devices: str = "",
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> Self:
        """Begin a study: save the sweep (YAML text), plan and environment (JSON-able) and devices (TOML text)."""
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        right = taken(folder)
        try:
            if (folder / ORIGIN).is_file():
                remedy = "choose another folder with --into; fit and validate take several"
                raise DatasetError("imported trials are in it", where=str(folder), remedy=remedy)
            if cls.exists(folder):
                remedy = "choose another folder with --into, or give the same sweep to resume it"
                raise DatasetError("a study is already in it", where=str(folder), remedy=remedy)
            dataset = cls(folder, right, committed_trials(folder), flush_every_s=flush_every_s)
            dataset._make_folders()
            write_text(folder / "sweep.yaml", sweep)
            dataset.note_environment(environment)
            dataset.save_devices(devices)
            write_text(folder / "plan.json", as_json(plan))
        except BaseException:
            right.close()
            raise
        return dataset

    @classmethod
    def open(cls, folder: Place, *, flush_every_s: float = FLUSH_EVERY_S) -> Self:
        """Go on with a study. What attempts cut short left in steps/ and power/ is removed: they will run anew."""
        if not cls.exists(folder):
            raise DatasetError("no study in it (no plan.json)", where=str(folder), remedy="start one: joulelaw run")
        right = taken(folder)
        try:
            committed = committed_trials(folder)  # refuses a newer schema or a broken file before anything is written
            dataset = cls(folder, right, committed, flush_every_s=flush_every_s)
            dataset._make_folders()
            remove_leftovers(folder, committed)
        except BaseException:
            right.close()
            raise
        return dataset

    def close(self) -> None:
        """Store what was added, and let another run have the folder. StorageError where it could not be stored."""
        try:
            self._writer.close()
        finally:
            self._right.close()
            if self._logs is not None:
                self._logs.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, StorageError) and not isinstance(self.folder, Path):
            self.folder.store.patience_s = 0.0  # it was waited for already
        with suppress(StorageError) if error else nullcontext():  # what broke the study is told, not what follows
            self.close()

    def save_devices(self, text: str) -> None:
        """Save catalogue entries (TOML) of devices that the shipped catalogue lacks; nothing where nothing is new."""
        path = self.folder / "devices.toml"
        if text and not (path.is_file() and path.read_text(encoding="utf-8") == text):
            write_text(path, text)

    def save_meters(self, rows: Sequence[Row]) -> None:
        """Save one session's rows of METERS, in a file of their own."""
        self._right.check()
        folder, schema = self.folder / "meters", TABLES["meters"]
        path = folder / f"session.{next_number(folder, 'session')}.parquet"
        put(path, encoded(as_table(rows, schema, "meters"), schema), self.folder)

    def note_environment(self, environment: Mapping[str, Any]) -> None:
        """Keep this run's environment, of a resumed one beside the first, as environment.<n>.json, where it differs."""
        self._environments.begin(environment)

    def add_nodes(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Keep nodes that have joined this run, in its environment."""
        self._right.check()
        self._environments.add(nodes)

    def finished_trial_ids(self) -> set[str]:
        """The trials that are done."""
        return {trial_id for trial_id, each in self._committed.items() if each.done}

    def settled_trial_ids(self) -> set[str]:
        """The trials that are never run again: done, or failed by what would only come again."""
        return {trial_id for trial_id, each in self._committed.items() if each.settled}

    def failed_trial_ids(self) -> set[str]:
        """The trials whose last committed attempt failed."""
        return self._committed.keys() - self.finished_trial_ids()

    def committed(self, trial_id: str) -> Committed | None:
        """How a trial's last committed attempt ended; None where it has no row."""
        return self._committed.get(trial_id)

    def next_attempt(self, trial_id: str) -> int:
        """The number of an attempt that would begin now: it goes on over the runs of a study."""
        return self._attempts.get(trial_id, -1) + 1

    def log_folder(self, trial_id: str, attempt: int) -> Path:
        """Where the ranks of this attempt write their logs, as far as they run on this machine.

        Beside an object store that is a folder of this process; at the trial's end what lies there is saved.
        """
        self._right.check()
        path = Path(self._logs.name if self._logs else str(self.folder)) / "logs" / f"{trial_id}.{attempt}"
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def start_trial(self, trial_id: str, attempt: int = 0) -> TrialTables:
        """The growing tables of one attempt. Rows of an earlier attempt stay, told apart by their attempt number."""
        self._attempts[trial_id] = attempt
        return TrialTables(
            self.folder,
            trial_id,
            attempt,
            committed=self._committed,
            writer=self._writer,
            before_commit=self._save_logs,
        )

    def save_log(self, trial_id: str, attempt: int, name: str, text: str) -> None:
        """Save what a rank of this attempt wrote, as `logs/<trial_id>.<attempt>/<name>`."""
        check_name(trial_id)
        check_name(name.replace(".", "_"))
        if name.startswith("."):
            raise RowError(f"'{name}' cannot name a log: it begins with a dot")
        self.log_folder(trial_id, attempt)
        write_text(self.folder / "logs" / f"{trial_id}.{attempt}" / name, text)

    def note(
        self,
        kind: str,
        *,
        trial_id: str | None = None,
        attempt: int | None = None,
        nodes: Sequence[str] = (),
        device_uuids: Sequence[str] = (),
        cause: str | None = None,
        detail: str = "",
        retried: bool | None = None,
    ) -> None:
        """Add a row of EVENTS, with the time of now."""
        if self._events is None:
            self._events = self._writer.table("events", "study", EVENTS)
        row: dict[str, Any] = {"time": datetime.now(UTC), "time_ns": time.monotonic_ns(), "kind": kind}
        row |= {"trial_id": trial_id, "attempt": attempt, "nodes": list(nodes), "device_uuids": list(device_uuids)}
        self._writer.append(self._events, [row | {"cause": cause, "detail": detail, "retried": retried}])

    def check_disk(self) -> None:
        """Raises StorageError where the disk takes no more, or what was to be stored lately could not be."""
        self._right.check()
        self._writer.check()
        if not isinstance(self.folder, Path):
            return
        path = self.folder / ".room.tmp"
        with storage_errors(self.folder):
            try:
                with path.open("wb") as file:
                    file.write(bytes(_ROOM_BYTES))
                    os.fsync(file.fileno())
            finally:
                path.unlink(missing_ok=True)

    def _save_logs(self, trial_id: str) -> None:
        """Of a trial's ranks that wrote theirs on this machine, beside an object store: their ends."""
        if self._logs is not None:
            for path in sorted((Path(self._logs.name) / "logs").glob(f"{trial_id}.*/*")):
                self.save_log(trial_id, int(path.parent.suffix[1:]), path.name, rank_log.taken(path))

    def _make_folders(self) -> None:
        for name in (*TABLES, "logs"):
            with storage_errors(self.folder / name):
                (self.folder / name).mkdir(exist_ok=True)


def committed_trials(folder: Place) -> dict[str, Committed]:
    """Every trial that has a row, by id; none where there is no dataset yet."""
    if not is_dataset(folder):
        return {}
    rows = read_trials_table(folder)
    return {
        row["trial_id"]: Committed(row["status"], row["attempt"], row["cause"])
        for row in rows.select(["trial_id", "status", "attempt", "cause"]).to_pylist()
    }
