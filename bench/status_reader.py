"""Looks at a study's dataset from outside, again and again: reads only, and no file twice that has not changed.

A first look opens each trial's row, some 0.6 ms a trial; later ones open what is new. Of steps and readings only the
end of the newest file of each running trial is read.
"""

import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration
from joulelaw.bench.file_names import trial_files
from joulelaw.bench.status_seen import Planned, Reading, Row, Seen, running_of, seconds_between
from joulelaw.bench.table_files import read_file
from joulelaw.bench.tables import EVENTS, METERS, TRIALS

_OF_TRIAL = ("trial_id", "attempt", "status", "verdict", "energy_j", "meter", "meter_kind", "trial_s")
# Of the few that are not done and valid.
_OF_TROUBLE = ("reasons", "cause", "failure", "log")


class StatusReader:
    """One dataset folder. InputError where there is no study in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[Path, tuple[object, Any]] = {}
        self._name, self._planned = _plan_of(folder)

    def look(self) -> Seen:
        """What the dataset holds now."""
        at_work = driver_at_work(self._folder)  # first: what it wrote before it left is then seen
        events = [event for path in self._files("events", "study.*") for event in self._once(path, _events)]
        rows = {row["trial_id"]: row for path in self._files("trials", "*") for row in self._once(path, _trials)}
        seen = Seen(self._name, self._planned, rows, events, at_work, {}, [], datetime.now(UTC))
        phases, readings = {}, []
        for trial_id in running_of(seen):
            phases[trial_id] = self._phase(trial_id, running_of(seen)[trial_id]["attempt"])
            readings += self._readings(trial_id, seen)
        return Seen(self._name, self._planned, rows, events, at_work, phases, readings, seen.now)

    def _files(self, table: str, stem: str) -> list[Path]:
        """In the order in which they were begun, where they are numbered."""
        return sorted((self._folder / table).glob(f"{stem}.parquet"), key=_number)

    def _once(self, path: Path, read: Callable[[Path], Any]) -> Any:
        """What `read` makes of a file; of one that is replaced or goes meanwhile, what it was, or nothing."""
        try:
            found = path.stat()
        except FileNotFoundError:
            return []
        version = (found.st_ino, found.st_size, found.st_mtime_ns)
        if self._kept.get(path, (None,))[0] != version:
            self._kept[path] = (version, read(path))
        return self._kept[path][1]

    def _phase(self, trial_id: str, attempt: int) -> str:
        files = trial_files(self._folder, "steps", trial_id)
        rows = self._once(files[-1].path, _last_steps) if files else []
        mine = [row for row in rows if row["attempt"] == attempt]
        if not mine:
            return "setting up"
        last = max(mine, key=lambda row: row["step"])
        return f"step {last['step'] + 1}" if last["measured"] else f"warming up, step {last['step'] + 1}"

    def _readings(self, trial_id: str, seen: Seen) -> list[Reading]:
        newest = {file.node: file.path for file in trial_files(self._folder, "power", trial_id)}
        found: dict[tuple[str, str], Row] = {}
        for path in newest.values():
            for row in self._once(path, _last_readings):
                found[row["node"], row["device_uuid"]] = row  # in order of time
        return [
            Reading(trial_id, node, uuid, row["power_w"], self._age_s(row, seen))
            for (node, uuid), row in sorted(found.items())
        ]

    def _age_s(self, row: Row, seen: Seen) -> float:
        """Readings are stamped by their node's clock, events by the driver's and by the date."""
        event = seen.events[-1]
        taken = event["time"] + timedelta(microseconds=(row["time_ns"] - self._offset_ns(row) - event["time_ns"]) / 1e3)
        return seconds_between(taken, seen.now)

    def _offset_ns(self, row: Row) -> int:
        sessions = [each for path in self._files("meters", "session.*") for each in self._once(path, _meters)]
        known = [each for each in sessions if each["node"] == row["node"] and each["clock_offset_ns"] is not None]
        return int(known[-1]["clock_offset_ns"]) if known else 0


def driver_at_work(folder: Path) -> str:
    """Who holds the folder's lock, in words; "" if nobody does."""
    with suppress(OSError):  # none was ever taken
        lock = os.open(folder / "lock", os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return f"process {os.read(lock, 32).decode(errors='replace').strip()}"
        finally:
            os.close(lock)
    return ""


def _plan_of(folder: Path) -> tuple[str, dict[str, Planned]]:
    path = folder / "plan.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["name"], {each["trial_id"]: _planned(each) for each in content["trials"]}
    except (FileNotFoundError, NotADirectoryError):
        remedy = "name a folder that `joulelaw run` writes to"
        raise InputError("no study in it (no plan.json)", where=str(folder), remedy=remedy) from None
    except (ValueError, KeyError, TypeError) as error:
        what = f"not a plan ({type(error).__name__}: {error})"
        raise InputError(what, where=str(path), remedy="restore it") from None


def _planned(trial: Mapping[str, Any]) -> Planned:
    wanted = Configuration.from_dict(trial["configuration"])
    return Planned(trial["trial_id"], wanted.label, wanted.gpu_model, wanted.gpu_count, trial["price"]["trial_s"])


def _number(path: Path) -> tuple[int, str]:
    number = path.name.split(".")[-2]
    return (int(number) if number.isdecimal() else 0, path.name)


def _trials(path: Path) -> list[Row]:
    rows: list[Row] = read_file(path, TRIALS, _OF_TRIAL).to_pylist()
    if all(row["status"] == "done" and row["verdict"] == "valid" for row in rows):
        return rows
    more = read_file(path, TRIALS, _OF_TROUBLE).to_pylist()
    return [{**row, **rest} for row, rest in zip(rows, more, strict=True)]


def _events(path: Path) -> list[Row]:
    rows: list[Row] = read_file(path, EVENTS).to_pylist()
    return rows


def _meters(path: Path) -> list[Row]:
    rows: list[Row] = read_file(path, METERS, ("node", "clock_offset_ns")).to_pylist()
    return rows


def _last_steps(path: Path) -> list[Row]:
    return _last_rows(path, ("attempt", "step", "measured"))


def _last_readings(path: Path) -> list[Row]:
    """One a device."""
    rows = _last_rows(path, ("node", "device_uuid", "time_ns", "power_w"))
    return list({row["device_uuid"]: row for row in sorted(rows, key=lambda row: row["time_ns"])}.values())


def _last_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """The last rows that were written to a growing table; none of a file that went away or is broken."""
    with suppress(FileNotFoundError, pa.ArrowException), pq.ParquetFile(path) as file:
        rows: list[Row] = file.read_row_group(file.num_row_groups - 1, columns=list(columns)).to_pylist()
        return rows
    return []
