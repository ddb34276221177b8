"""A study's folder on disk: what is saved before, while and after a trial, and what makes a trial finished.

    <folder>/  sweep.yaml  plan.json  environment.json  devices.toml  lock
               trials/<trial_id>.parquet               one row, written when the trial ends: the commit record
               steps/<trial_id>.<n>.parquet            grows while the trial runs
               power/<trial_id>.<node>.<n>.parquet     grows while the trial runs
               meters/session.<n>.parquet              the meters of one run, and idle power; before its first trial
               events/study.<n>.parquet                grows: runs, nodes and attempts, as they come and go
               logs/<trial_id>/<name>

A trial is done when its file in trials/ says so, and not before; that file appears in one rename, after its steps
and readings are on disk. So a kill at any moment leaves a dataset in which each trial is done, failed or absent. A
failed one may be tried again: its row is replaced, in one rename, by that of a later attempt.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from joulelaw import InputError
from joulelaw.bench.columns import Row, RowError, as_table
from joulelaw.bench.files import StorageError, replacing, storage_errors, write_text
from joulelaw.bench.growing_table import FLUSH_EVERY_S, GrowingTable, next_number, write_groups
from joulelaw.bench.leftovers import remove_leftovers
from joulelaw.bench.measurements import (
    data_hash,
    devices_files,
    read_events,
    read_measurements,
    read_meters,
    read_power,
    read_steps,
    read_trials,
    read_trials_table,
)
from joulelaw.bench.tables import EVENTS, TABLES
from joulelaw.bench.trial_tables import Committed, TrialTables, check_name

__all__ = [
    "Dataset",
    "DatasetError",
    "TrialTables",
    "data_hash",
    "devices_files",
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
# `joulelaw status` holds the lock no longer, to see whether somebody has it.
_LOOK_S = 0.05


class DatasetError(InputError):
    """The folder cannot be used for this study.

    >>> print(DatasetError("another run is writing to it (process 71)", where="results/a", remedy="wait for it to end"))
    results/a: another run is writing to it (process 71); wait for it to end
    """


class Dataset:
    """The one writer of a dataset folder. Holds the folder's lock until `close`; use it as a context manager."""

    def __init__(
        self, folder: Path, lock: int, committed: Mapping[str, Committed], *, flush_every_s: float = FLUSH_EVERY_S
    ) -> None:
        self.folder = folder
        self._committed = dict(committed)
        self._attempts = {trial_id: each.attempt for trial_id, each in committed.items()}
        self._lock = lock
        self._flush_every_s = flush_every_s
        self._events: GrowingTable | None = None

    @staticmethod
    def exists(folder: Path) -> bool:
        """Whether a study was begun here: its sweep, plan and environment are all saved (the plan is saved last)."""
        return (folder / "plan.json").is_file()

    @staticmethod
    def check_free(folder: Path) -> None:
        """Raises DatasetError where another run is writing to the folder, or the folder cannot be written to."""
        if folder.exists():
            with storage_errors(folder):
                os.close(_take_lock(folder))

    @classmethod
    def create(
        cls,
        folder: Path,
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
            lock = _take_lock(folder)
        try:
            if (folder / ORIGIN).is_file():
                remedy = "choose another folder with --into; fit and validate take several"
                raise DatasetError("imported trials are in it", where=str(folder), remedy=remedy)
            if cls.exists(folder):
                remedy = "choose another folder with --into, or give the same sweep to resume it"
                raise DatasetError("a study is already in it", where=str(folder), remedy=remedy)
            dataset = cls(folder, lock, committed_trials(folder), flush_every_s=flush_every_s)
            dataset._make_folders()
            write_text(folder / "sweep.yaml", sweep)
            write_text(folder / "environment.json", _json(environment))
            dataset.save_devices(devices)
            write_text(folder / "plan.json", _json(plan))
        except BaseException:
            os.close(lock)
            raise
        return dataset

    @classmethod
    def open(cls, folder: Path, *, flush_every_s: float = FLUSH_EVERY_S) -> Self:
        """Go on with a study. What attempts cut short left in steps/ and power/ is removed: they will run anew."""
        if not cls.exists(folder):
            raise DatasetError("no study in it (no plan.json)", where=str(folder), remedy="start one: joulelaw run")
        with storage_errors(folder):
            lock = _take_lock(folder)
        try:
            committed = committed_trials(folder)  # refuses a newer schema or a broken file before anything is written
            dataset = cls(folder, lock, committed, flush_every_s=flush_every_s)
            dataset._make_folders()
            remove_leftovers(folder, committed)
        except BaseException:
            os.close(lock)
            raise
        return dataset

    def close(self) -> None:
        """Let another run have the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def save_devices(self, text: str) -> None:
        """Save catalogue entries (TOML) of devices that the shipped catalogue lacks; nothing where nothing is new."""
        path = self.folder / "devices.toml"
        if text and not (path.is_file() and path.read_text(encoding="utf-8") == text):
            write_text(path, text)

    def save_meters(self, rows: Sequence[Row]) -> None:
        """Save one session's rows of METERS, in a file of their own."""
        self._check_place()
        folder, schema = self.folder / "meters", TABLES["meters"]
        with replacing(folder / f"session.{next_number(folder, 'session')}.parquet", self.folder) as temporary:
            write_groups(temporary, [as_table(rows, schema, "meters")], schema)

    def note_environment(self, environment: Mapping[str, Any]) -> None:
        """Keep the environment of a resumed run beside the first, as environment.<n>.json, where it is a new one."""
        kept = [self.folder / "environment.json", *sorted(self.folder.glob("environment.*.json"))]
        text = _json(environment)
        if all(path.read_text(encoding="utf-8") != text for path in kept):
            write_text(self.folder / f"environment.{len(kept)}.json", text)

    def finished_trial_ids(self) -> set[str]:
        """The trials that are done."""
        return {trial_id for trial_id, each in self._committed.items() if each.done}

    def settled_trial_ids(self) -> set[str]:
        """The trials that are never run again: done, or failed by what would only come again."""
        return {trial_id for trial_id, each in self._committed.items() if each.settled}

    def failed_trial_ids(self) -> set[str]:
        """The trials whose last committed attempt failed."""
        return self._committed.keys() - self.finished_trial_ids()

    def next_attempt(self, trial_id: str) -> int:
        """The number of an attempt that would begin now: it goes on over the runs of a study."""
        return self._attempts.get(trial_id, -1) + 1

    def log_folder(self, trial_id: str) -> Path:
        """Where the ranks of this trial write their logs."""
        self._check_place()
        path = self.folder / "logs" / trial_id
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
            self._flush_every_s,
            committed=self._committed,
            check_place=self._check_place,
        )

    def save_log(self, trial_id: str, name: str, text: str) -> str:
        """Save what a rank of this trial wrote; the log's place in the dataset, `logs/<trial_id>/<name>`."""
        check_name(trial_id)
        check_name(name.replace(".", "_"))
        if name.startswith("."):
            raise RowError(f"'{name}' cannot name a log: it begins with a dot")
        write_text(self.log_folder(trial_id) / name, text)
        return f"logs/{trial_id}/{name}"

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
            self._check_place()
            self._events = GrowingTable(self.folder / "events", "study", EVENTS, every_s=self._flush_every_s)
        row: dict[str, Any] = {"time": datetime.now(UTC), "time_ns": time.monotonic_ns(), "kind": kind}
        row |= {"trial_id": trial_id, "attempt": attempt, "nodes": list(nodes), "device_uuids": list(device_uuids)}
        self._events.append([row | {"cause": cause, "detail": detail, "retried": retried}])
        self._events.flush()

    def check_disk(self) -> None:
        """Raises StorageError where the disk takes no more."""
        path = self.folder / ".room.tmp"
        with storage_errors(self.folder):
            try:
                with path.open("wb") as file:
                    file.write(bytes(_ROOM_BYTES))
                    os.fsync(file.fileno())
            finally:
                path.unlink(missing_ok=True)

    def _check_place(self) -> None:
        """The lock is held in the folder that the study began in: what is there now under its name may be another."""
        with storage_errors(self.folder):
            try:
                same = os.path.samestat((self.folder / "lock").stat(), os.fstat(self._lock))
            except (FileNotFoundError, NotADirectoryError):
                same = False
        if not same:
            remedy = "put it back, or run the same command again in a new folder"
            raise StorageError("the folder was removed while the study ran", where=str(self.folder), remedy=remedy)

    def _make_folders(self) -> None:
        for name in (*TABLES, "logs"):
            with storage_errors(self.folder / name):
                (self.folder / name).mkdir(exist_ok=True)


def committed_trials(folder: Path) -> dict[str, Committed]:
    """Every trial that has a row, by id; none where there is no dataset yet."""
    if not (folder / "trials").is_dir():
        return {}
    rows = read_trials_table(folder)
    return {
        row["trial_id"]: Committed(row["status"], row["attempt"], row["cause"])
        for row in rows.select(["trial_id", "status", "attempt", "cause"]).to_pylist()
    }


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder that is no study's, such as an imported one, which is made where it is not there."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(folder)
    try:
        yield
    finally:
        os.close(lock)


def _take_lock(folder: Path) -> int:
    """An exclusive lock that ends with this process, however it ends."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return _signed(lock)
        time.sleep(_LOOK_S)  # perhaps somebody only looks whether it is taken
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        what = f"another run is writing to it (process {holder})" if holder else "another run is writing to it"
        raise DatasetError(what, where=str(folder), remedy="wait for it to end, or choose --into") from error
    return _signed(lock)


def _signed(lock: int) -> int:
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _json(values: object) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
