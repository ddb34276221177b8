"""Looks at a study's dataset from outside, again and again: reads only, and no file twice that has not changed.

A first look opens each trial's row: some 0.6 ms a trial on a disk, a request of an object store (16 at a time) there;
later ones list the folders and open what is new. Of steps and readings only the end of the newest file of each running
trial is read.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw import InputError
from joulelaw.bench.calibration.record import Record
from joulelaw.bench.dataset.exclusive import writer_of
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.dataset.table_files import read_file
from joulelaw.bench.dataset.tables import EVENTS, METERS, TRIALS
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.status.listing import listed
from joulelaw.bench.status.seen import Planned, Reading, Row, Seen, running_of, seconds_between

_OF_VALID = ("trial_id", "status", "verdict", "energy_j", "meter", "meter_kind", "trial_s")
_OF_OTHERS = ("attempt", "reasons", "cause", "failure", "log")
_AT_A_TIME = 16


class StatusReader:
    """One dataset folder. InputError where there is no study in it."""

    def __init__(self, folder: Place) -> None:
        self._folder = folder
        self._kept: dict[Place, tuple[object, list[Row]]] = {}
        self._name, self._planned = _plan_of(folder)

    def look(self) -> Seen:
        """What the dataset holds now."""
        at_work = writer_of(self._folder)  # first: what it wrote before it left is then seen
        events = [event for rows in self._read("events", _events) for event in rows]
        rows = {row["trial_id"]: row for rows in self._read("trials", _trials) for row in rows}
        record = Record.of(self._folder)
        planned = {name: each for name, each in self._planned.items() if record is None or name in record.trials}
        seen = Seen(self._name, planned, rows, events, at_work, {}, [], datetime.now(UTC))
        running = running_of(seen)
        steps = [row for rows in self._read("steps", _last_steps, running) for row in rows]
        readings = [row for rows in self._read("power", _last_readings, running) for row in rows]
        return replace(
            seen,
            phases={trial_id: _phase(steps, trial_id, running[trial_id]["attempt"]) for trial_id in running},
            readings=self._told(readings, seen),
        )

    def _read(
        self, table: str, read: Callable[[Place], list[Row]], trial_ids: Mapping[str, object] | None = None
    ) -> list[list[Row]]:
        """What `read` makes of each file of a table, in the order in which they were begun; of growing tables with
        `trial_ids`, of the newest of each of these trials and its nodes."""
        found = listed(self._folder / table)
        if trial_ids is not None:
            newest = {tuple(path.name.split(".")[:-2]): path for path in found}  # the later number takes the place
            found = {path: found[path] for key, path in newest.items() if key[0] in trial_ids}
        new = [path for path, version in found.items() if self._kept.get(path, (None,))[0] != version]
        for path, rows in zip(new, _each(new, read), strict=True):
            self._kept[path] = (found[path], rows)
        return [self._kept[path][1] for path in found]

    def _told(self, rows: Sequence[Row], seen: Seen) -> list[Reading]:
        """The newest reading of each domain; it is stamped by its node's clock, events by the driver's and the date."""
        if not rows:
            return []
        offsets = {
            row["node"]: row["clock_offset_ns"]
            for rows in self._read("meters", _meters)
            for row in rows
            if row["clock_offset_ns"] is not None
        }
        event = seen.events[-1]
        newest = {(row["node"], row["device_uuid"]): row for row in sorted(rows, key=lambda row: int(row["time_ns"]))}
        told = []
        for (node, uuid), row in sorted(newest.items()):
            since_us = (row["time_ns"] - offsets.get(node, 0) - event["time_ns"]) / 1e3
            age_s = seconds_between(event["time"] + timedelta(microseconds=since_us), seen.now)
            told.append(Reading(row["trial_id"], node, uuid, row["power_w"], age_s))
        return told


def _plan_of(folder: Place) -> tuple[str, dict[str, Planned]]:
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


def _each(paths: Sequence[Place], read: Callable[[Place], list[Row]]) -> list[list[Row]]:
    """What `read` makes of each; nothing of one that went meanwhile."""

    def read_if_there(path: Place) -> list[Row]:
        with suppress(FileNotFoundError):
            return read(path)
        return []

    if len(paths) < 2 or isinstance(paths[0], Path):
        return [read_if_there(path) for path in paths]
    with ThreadPoolExecutor(_AT_A_TIME) as hands:
        return list(hands.map(read_if_there, paths))


def _trials(path: Place) -> list[Row]:
    """Of one that is done and valid few columns, without comparing schemas, which would take half of the time."""
    with suppress(pa.ArrowException), pq.ParquetFile(_source(path), pre_buffer=False) as file:
        rows: list[Row] = file.read(list(_OF_VALID), use_threads=False).to_pylist()
        if all(len(row) == len(_OF_VALID) and (row["status"], row["verdict"]) == ("done", "valid") for row in rows):
            return rows
    everything: list[Row] = read_file(path, TRIALS, (*_OF_VALID, *_OF_OTHERS)).to_pylist()
    return everything


def _events(path: Place) -> list[Row]:
    rows: list[Row] = read_file(path, EVENTS).to_pylist()
    return rows


def _meters(path: Place) -> list[Row]:
    rows: list[Row] = read_file(path, METERS, ("node", "clock_offset_ns")).to_pylist()
    return rows


def _last_steps(path: Place) -> list[Row]:
    return _last_rows(path, ("trial_id", "attempt", "step", "measured"))


def _last_readings(path: Place) -> list[Row]:
    """One a domain: a file is of one node."""
    rows = _last_rows(path, ("trial_id", "node", "device_uuid", "time_ns", "power_w"))
    return list({row["device_uuid"]: row for row in sorted(rows, key=lambda row: int(row["time_ns"]))}.values())


def _last_rows(path: Place, columns: Sequence[str]) -> list[Row]:
    """The last rows that were written to a growing table; none of a file that is broken: `run` tells of those."""
    with suppress(pa.ArrowException), pq.ParquetFile(_source(path)) as file:
        rows: list[Row] = file.read_row_group(file.num_row_groups - 1, columns=list(columns)).to_pylist()
        return rows
    return []


def _source(path: Place) -> Path | pa.BufferReader:
    return path if isinstance(path, Path) else pa.BufferReader(path.read_buffer())


def _phase(steps: Sequence[Row], trial_id: str, attempt: int) -> str:
    mine = [row for row in steps if row["trial_id"] == trial_id and row["attempt"] == attempt]
    if not mine:
        return "setting up"
    last = max(mine, key=lambda row: int(row["step"]))
    return f"step {last['step'] + 1}" if last["measured"] else f"warming up, step {last['step'] + 1}"
