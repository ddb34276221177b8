"""A study's folder on disk: what is saved before, while and after a trial, and what makes a trial finished.

    <folder>/  sweep.yaml  plan.json  environment.json  devices.toml  lock
               trials/<trial_id>.parquet               one row, written once when the trial ends: the commit record
               steps/<trial_id>.<n>.parquet            grows while the trial runs
               power/<trial_id>.<node>.<n>.parquet     grows while the trial runs
               logs/<trial_id>/

A trial is finished when its file in trials/ exists, and not before; that file appears in one rename, after its
steps and readings are on disk. So a kill at any moment leaves a dataset in which each trial is finished or absent.
"""

import fcntl
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from joulelaw import InputError
from joulelaw.bench.columns import Columns, Row, RowError, as_table
from joulelaw.bench.files import remove_temporaries, replacing, storage_errors, write_text
from joulelaw.bench.growing_table import FLUSH_EVERY_S, GrowingTable, write_groups
from joulelaw.bench.measurements import data_hash, devices_files, read_measurements, read_power, read_steps, read_trials
from joulelaw.bench.tables import POWER, STEPS, TABLES, TRIALS

__all__ = [
    "Dataset",
    "DatasetError",
    "TrialTables",
    "data_hash",
    "devices_files",
    "read_measurements",
    "read_power",
    "read_steps",
    "read_trials",
]

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class DatasetError(InputError):
    """The folder cannot be used for this study.

    >>> print(DatasetError("another run is writing to it (process 71)", where="results/a", remedy="wait for it to end"))
    results/a: another run is writing to it (process 71); wait for it to end
    """


class Dataset:
    """The one writer of a dataset folder. Holds the folder's lock until `close`; use it as a context manager."""

    def __init__(self, folder: Path, lock: int, *, flush_every_s: float = FLUSH_EVERY_S) -> None:
        self.folder = folder
        self._lock = lock
        self._flush_every_s = flush_every_s

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
            if cls.exists(folder):
                remedy = "choose another folder with --into, or give the same sweep to resume it"
                raise DatasetError("a study is already in it", where=str(folder), remedy=remedy)
            dataset = cls(folder, lock, flush_every_s=flush_every_s)
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
        """Go on with a study. What unfinished trials left in steps/ and power/ is removed: they will run anew."""
        if not cls.exists(folder):
            raise DatasetError("no study in it (no plan.json)", where=str(folder), remedy="start one: joulelaw run")
        with storage_errors(folder):
            lock = _take_lock(folder)
        try:
            dataset = cls(folder, lock, flush_every_s=flush_every_s)
            dataset._make_folders()
            read_trials(folder)  # refuses a newer schema or a broken file before anything is written
            dataset._remove_leftovers()
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

    def sweep(self) -> str:
        """The sweep as saved, YAML text."""
        return (self.folder / "sweep.yaml").read_text(encoding="utf-8")

    def plan(self) -> Any:
        """The plan as saved."""
        return json.loads((self.folder / "plan.json").read_text(encoding="utf-8"))

    def save_devices(self, text: str) -> None:
        """Save catalogue entries (TOML) of devices that the shipped catalogue lacks; an empty text saves nothing."""
        if text:
            write_text(self.folder / "devices.toml", text)

    def note_environment(self, environment: Mapping[str, Any]) -> None:
        """Keep the environment of a resumed run beside the first, as environment.<n>.json, where it is a new one."""
        kept = [self.folder / "environment.json", *sorted(self.folder.glob("environment.*.json"))]
        text = _json(environment)
        if all(path.read_text(encoding="utf-8") != text for path in kept):
            write_text(self.folder / f"environment.{len(kept)}.json", text)

    def finished_trial_ids(self) -> set[str]:
        """The trials that have their commit record, failed ones included."""
        return {path.stem for path in (self.folder / "trials").glob("*.parquet")}

    def log_folder(self, trial_id: str) -> Path:
        """Where the ranks of this trial write their logs."""
        path = self.folder / "logs" / trial_id
        with storage_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def start_trial(self, trial_id: str, attempt: int = 0) -> "TrialTables":
        """The growing tables of one attempt. Rows of an earlier attempt stay, told apart by their attempt number."""
        _check_name(trial_id)
        if trial_id in self.finished_trial_ids():
            raise RowError(f"trials: '{trial_id}' is finished already; a trial finishes once")
        return TrialTables(self.folder, trial_id, attempt, self._flush_every_s)

    def _make_folders(self) -> None:
        for name in (*TABLES, "logs"):
            with storage_errors(self.folder / name):
                (self.folder / name).mkdir(exist_ok=True)

    def _remove_leftovers(self) -> None:
        finished = self.finished_trial_ids()
        with storage_errors(self.folder):
            remove_temporaries(self.folder)
            for path in (*(self.folder / "steps").glob("*.parquet"), *(self.folder / "power").glob("*.parquet")):
                if path.name.partition(".")[0] not in finished:
                    path.unlink()


class TrialTables:
    """What one attempt at a trial writes: its steps and readings as they come, and at the end its one row."""

    def __init__(self, folder: Path, trial_id: str, attempt: int, flush_every_s: float = FLUSH_EVERY_S) -> None:
        self._folder, self._every_s = folder, flush_every_s
        self._key = {"trial_id": trial_id, "attempt": attempt}
        self._steps = GrowingTable(folder / "steps", trial_id, STEPS, every_s=flush_every_s)
        self._power: dict[str, GrowingTable] = {}

    def add_steps(self, rows: Sequence[Row]) -> None:
        """Add rows of STEPS without trial_id and attempt: rank, step, measured, begin_ns, end_ns, loss."""
        self._steps.append([{**self._key, **row} for row in rows])

    def add_power(self, node: str, rows: Sequence[Row] | Columns) -> None:
        """Add readings of one node, rows or columns of POWER without trial_id, attempt and node."""
        if node not in self._power:
            _check_name(node)
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

        Raises RowError, naming the column, where one is missing, unknown or of the wrong type, and where the trial
        is finished already. Nothing is committed then.
        """
        table = as_table([{**row, **self._key}], TRIALS, "trials")
        path = self._folder / "trials" / f"{self._key['trial_id']}.parquet"
        if path.exists():
            raise RowError(f"trials: '{self._key['trial_id']}' is finished already; a trial finishes once")
        self.flush()
        with replacing(path, self._folder) as temporary:
            write_groups(temporary, [table], TRIALS)


def _check_name(name: str) -> None:
    """Names become parts of file names, in which a dot separates."""
    if not _PLAIN_NAME.fullmatch(name):
        raise RowError(f"'{name}' cannot name a file: use letters, digits, '-' and '_'")


def _take_lock(folder: Path) -> int:
    """An exclusive lock that ends with this process, however it ends."""
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 32).decode(errors="replace").strip()
        os.close(lock)
        what = f"another run is writing to it (process {holder})" if holder else "another run is writing to it"
        raise DatasetError(what, where=str(folder), remedy="wait for it to end, or choose --into") from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


def _json(values: object) -> str:
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
