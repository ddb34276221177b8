"""What can be seen of a running study from outside: its processes, its steps, and whether its dataset stays true."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw.bench.measurements import read_trials
from tests.bench.studies import Running, parent

PATIENCE_S = 180.0
KEYS = {"steps": ["trial_id", "attempt", "rank", "step"], "power": ["trial_id", "attempt", "device_uuid", "time_ns"]}


def targets_of(running: Running, target: str) -> list[int]:
    """The pids of a study's processes of one kind. Its driver is the command itself and the process that it watches."""
    commands = running.marked()
    servers = [pid for pid, command in commands.items() if "joulelaw.cluster.forkserver" in command]
    match target:
        case "rank":
            return [pid for pid in servers if parent(pid) in servers]
        case "fork server":
            return [pid for pid in servers if parent(pid) not in servers]
        case "sampler":
            return [pid for pid, command in commands.items() if command.startswith("ray::SamplerHost")]
        case "raylet":
            return [pid for pid, command in commands.items() if command.split()[0].endswith("/raylet")]
        case _:
            command = running.process.pid
            return [command, *(pid for pid in commands if parent(pid) == command)]


@dataclass
class StudyWatch:
    """Reads the dataset as any program may, while it is written; `check` fails on what must never be seen."""

    folder: Path
    _rows: int = 0
    _done: dict[str, bytes] = field(default_factory=dict)
    _changed: set[str] = field(default_factory=set)
    _doubled: set[str] = field(default_factory=set)
    _attempts: dict[tuple[str, int], int] = field(default_factory=dict)

    def next_step_ns(self, keep_running: Callable[[], Running], after_ns: int) -> int:
        """When the first step after a time ended, on CLOCK_MONOTONIC; the command is kept running until then."""
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s:
            keep_running()
            if ends := [end for end in self._step_ends(after_ns) if end > after_ns]:
                return min(ends)
            time.sleep(0.1)
        raise SystemExit(f"no step within {PATIENCE_S:g} s")

    def _step_ends(self, after_ns: int) -> list[int]:
        since_s = time.time() - (time.monotonic_ns() - after_ns) / 1e9
        files = self._files("steps", ["end_ns"], since_s)
        return [end for rows in files.values() for end in rows["end_ns"].to_pylist()]

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
        self._see_attempts()
        for name, key in KEYS.items():
            if files := self._files(name, key):
                rows = pa.concat_tables(files.values()).to_pandas()
                if rows.duplicated().any():
                    twice = rows[rows.duplicated()].head(1).to_dict("records")
                    raise SystemExit(f"{name}: a row is there twice: {twice}")

    def _see_attempts(self) -> None:
        """From when to when each attempt's recorded steps go; a file holds the steps of one attempt."""
        for file, rows in self._files("steps", ["begin_ns", "end_ns"]).items():
            begin_ns, end_ns = (rows[name].to_pylist() for name in ("begin_ns", "end_ns"))
            self._attempts[file.partition(".")[0], min(begin_ns)] = max(end_ns)

    def again_s(self, kills_ns: Sequence[int]) -> list[float]:
        """For each kill, seconds of recorded steps that had to be run again: of attempts that it spoilt."""
        began = read_trials(self.folder).set_index("trial_id")["window_begin_ns"].to_dict()
        again = [0.0] * len(kills_ns)
        for (trial_id, begin_ns), end_ns in self._attempts.items():
            # Of a lost sampler the steps go on for a while; an attempt is shorter than the time between two kills.
            ended_by = [number for number, kill_ns in enumerate(kills_ns) if kill_ns >= begin_ns]
            if began[trial_id] > end_ns and ended_by:
                again[ended_by[0]] += (end_ns - begin_ns) / 1e9
        return again

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
