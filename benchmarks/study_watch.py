"""What can be seen of a running study from outside: its steps, what a kill cost, and whether its dataset stays true."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw.bench.dataset.measurements import read_events, read_trials
from tests.bench.studies import Running

PATIENCE_S = 180.0
KEYS = {"steps": ["trial_id", "attempt", "rank", "step"], "power": ["trial_id", "attempt", "device_uuid", "time_ns"]}


TELLS_OF = {
    "rank_crash": ("rank",),
    "sampler_lost": ("sampler",),
    "node_lost": ("raylet", "node"),
    "network_cut": ("raylet", "node"),
    "driver_lost": ("driver",),
}


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial, by the driver's clock. `end_ns` is None where nobody noted its end."""

    trial_id: str
    attempt: int
    devices: int
    begin_ns: int
    end_ns: int | None = None
    cause: str | None = None


def attempts_of(folder: Path) -> list[Attempt]:
    """All attempts of a study, over all of its runs, as its events tell."""
    found: dict[tuple[str, int], Attempt] = {}
    for event in read_events(folder).to_dict("records"):
        key = (event["trial_id"], event["attempt"])
        if event["kind"] == "attempt_began":
            found[key] = Attempt(event["trial_id"], int(event["attempt"]), len(event["device_uuids"]), event["time_ns"])
        elif event["kind"] == "attempt_ended" and key in found:
            cause = event["cause"] if isinstance(event["cause"], str) else None
            found[key] = replace(found[key], end_ns=event["time_ns"], cause=cause)
    return list(found.values())


def costs_of(kills: Sequence[tuple[str, int]], attempts: Sequence[Attempt]) -> list[tuple[int, float, float | None]]:
    """For each kill, of a target and at a time in ns: attempts that it cut short, their device-seconds until then, and
    seconds until as many devices were at work as before; None where they never were."""
    culprits = [culprit(each, kills) for each in attempts]
    costs = []
    for number, (_, kill_ns) in enumerate(kills):
        cut = [each for each, by in zip(attempts, culprits, strict=True) if by == number]
        before = [each for each in attempts if each.begin_ns < kill_ns < (each.end_ns or math.inf)]
        going = [each for each in attempts if each not in cut and (each.end_ns or math.inf) > kill_ns]
        times = sorted({kill_ns, *(each.begin_ns for each in going if each.begin_ns > kill_ns)})
        full_ns = [time_ns for time_ns in times if _at_work(going, time_ns) >= _at_work(before, kill_ns)]
        wasted_s = sum(each.devices * (kill_ns - each.begin_ns) for each in cut) / 1e9
        costs.append((len(cut), wasted_s, (full_ns[0] - kill_ns) / 1e9 if full_ns else None))
    return costs


def culprit(attempt: Attempt, kills: Sequence[tuple[str, int]]) -> int | None:
    """Which kill ended an attempt that did not end well: the last one in its time of a kind that its cause tells of,
    else the last one. A node's loss is noticed some seconds later, perhaps after the next kill."""
    if attempt.cause is None or attempt.end_ns is None:
        return None
    in_its_time = [number for number, (_, ns) in enumerate(kills) if attempt.begin_ns < ns < attempt.end_ns]
    telling = [number for number in in_its_time if kills[number][0] in TELLS_OF.get(attempt.cause, ())]
    return max(telling or in_its_time, default=None)


def _at_work(attempts: Sequence[Attempt], time_ns: int) -> int:
    return sum(each.devices for each in attempts if each.begin_ns <= time_ns < (each.end_ns or math.inf))


@dataclass
class StudyWatch:
    """Reads the dataset as any program may, while it is written; `check` fails on what must never be seen."""

    folder: Path
    _rows: int = 0
    _done: dict[str, bytes] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _doubled: set[str] = field(default_factory=set)

    def next_step_ns(self, keep_running: Callable[[], Running], after_ns: int) -> int:
        """When the first step that began after a time was over, on CLOCK_MONOTONIC; the command is kept running until
        then."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            keep_running()
            if ends := self._step_ends(after_ns):
                return min(ends)
            time.sleep(0.1)
        raise SystemExit(f"no step within {PATIENCE_S:g} s")

    def _step_ends(self, after_ns: int) -> list[int]:
        since_s = time.time() - (time.monotonic_ns() - after_ns) / 1e9
        rows = [
            row for file in self._files("steps", ["begin_ns", "end_ns"], since_s).values() for row in file.to_pylist()
        ]
        return [row["end_ns"] for row in rows if row["begin_ns"] > after_ns]

    def _files(self, name: str, columns: list[str], since_s: float = 0.0) -> dict[str, pa.Table]:
        """By name, what each file of a table holds that was written since. A run that begins anew removes those of
        attempts cut short, perhaps between the listing and the reading."""
        found = {}
        for path in sorted((self.folder / name).glob("*.parquet")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime >= since_s:
                    found[path.name] = pq.ParquetFile(path).read(columns)
        return found

    def check(self) -> None:
        """Opens every table; no row may be there twice, no trial go away, no row of a done trial change."""
        if not (self.folder / "plan.json").is_file():
            return
        trials = read_trials(self.folder)
        if len(trials) < self._rows:
            raise SystemExit(f"{self._rows} trials were committed, now {len(trials)} are")
        self._rows = len(trials)
        self._doubled |= set(trials["trial_id"][trials["trial_id"].duplicated()])
        for trial_id in trials["trial_id"][trials["status"] == "done"]:
            content = (self.folder / "trials" / f"{trial_id}.parquet").read_bytes()
            if self._done.setdefault(trial_id, content) != content:
                self._changed.add(trial_id)
        for name, key in KEYS.items():
            if files := self._files(name, key):
                rows = pa.concat_tables(files.values()).to_pandas()
                if rows.duplicated().any():
                    twice = rows[rows.duplicated()].head(1).to_dict("records")
                    raise SystemExit(f"{name}: a row is there twice: {twice}")

    def counts(self, planned: set[str]) -> dict[str, Any]:
        """What became of the planned trials."""
        trials = read_trials(self.folder)
        done = trials[trials["status"] == "done"]
        return {
            "done": len(planned & set(done["trial_id"])),
            "failed": int((trials["status"] != "done").sum()),
            "invalid": sorted(", ".join(reasons) for reasons in done["reasons"][done["verdict"] != "valid"]),
            "doubled": len(self._doubled),
            "changed": len(self._changed),
        }
