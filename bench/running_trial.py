"""One trial in flight: what its ranks and its devices' meters say is kept, and written down as it comes."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from joulelaw.bench.dataset import TrialTables
from joulelaw.bench.plan import PlannedTrial
from joulelaw.bench.readings import power_table
from joulelaw.cluster.gang import Gang, GangState
from joulelaw.cluster.power.meter import Reading

ENTRY = "joulelaw.bench.trial:run_rank"
_STEP_COLUMNS = ("step", "measured", "begin_ns", "end_ns", "loss")

Event = Mapping[str, Any]


@dataclass
class RunningTrial:
    """Holds a gang from its start to its last event, and everything that the trial's one row is made from.

    `windows` and `done` hold the events of those kinds by rank; `power` the readings by node, `beside` those of what no
    trial holds there, and `metered_until_ns` when a node's domain was read last; `shared_with` the trials that ran on
    one of its nodes at the same time, and `busy_devices` their devices and its own.
    """

    planned: PlannedTrial
    gang: Gang
    tables: TrialTables
    attempt: int = 0
    shared_with: set[str] = field(default_factory=set)
    busy_devices: set[str] = field(default_factory=set)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None
    windows: dict[int, Event] = field(default_factory=dict)
    done: dict[int, Event] = field(default_factory=dict)
    unwatched: list[Event] = field(default_factory=list)
    ranks_watched: int = 0
    steps: int = 0
    step_s: list[float] = field(default_factory=list)
    losses: list[float | None] = field(default_factory=list)
    power: dict[str, list[pa.Table]] = field(default_factory=dict)
    beside: dict[str, list[pa.Table]] = field(default_factory=dict)
    metered_until_ns: dict[tuple[str, str], int] = field(default_factory=dict)
    meter_losses: Mapping[str, int] = field(default_factory=dict)
    given_up: str = ""

    def start(self, log_dir: Path, root: Path) -> None:
        """Starts the ranks; `root` is the sweep's folder."""
        self.busy_devices |= {device.uuid for device in self.gang.devices}
        self.gang.start(ENTRY, {"trial": self.planned.spec.to_dict(), "root": str(root)}, log_dir)

    @property
    def trial_id(self) -> str:
        return self.planned.trial_id

    @property
    def over(self) -> bool:
        return self.gang.state in (GangState.DONE, GangState.FAILED)

    @property
    def ranks_succeeded(self) -> bool:
        return self.gang.state is GangState.DONE and len(self.done) == len(self.gang.devices)

    @property
    def succeeded(self) -> bool:
        return self.ranks_succeeded and not self.given_up

    @property
    def failure(self) -> str:
        """Why it did not succeed, in words."""
        return self.given_up or self.gang.failure or "a rank left before its window was over"

    @property
    def elapsed_s(self) -> float:
        """From its launch until it was over, or until now."""
        return (self.ended_s or time.monotonic()) - self.began_s

    @property
    def phase(self) -> str:
        """For the person who watches: what the trial is doing now."""
        if self.windows:
            return "finishing"
        warmup = self.planned.spec.window.warmup_steps
        if not self.steps:
            return "setting up"
        return f"step {self.steps - warmup}" if self.steps > warmup else "warming up"

    def window_on(self, node: str) -> tuple[int, int]:
        """A node's own window, in ns of its CLOCK_MONOTONIC: from its first rank's begin to its last rank's end."""
        windows = [window for window in self.windows.values() if window["node"] == node]
        begin_ns = min((window["begin_ns"] for window in windows), default=0)
        return begin_ns, max((window["end_ns"] for window in windows), default=0)

    def advance(self) -> None:
        """Takes in what the ranks have said since the last call."""
        for event in self.gang.poll():
            match event["kind"]:
                case "ready":
                    self.unwatched.append(event)
                case "steps":
                    self._add_steps(event["rank"], event["rows"])
                case "window":
                    self.windows[event["rank"]] = event
                case "done":
                    self.done[event["rank"]] = event
        if self.over and self.ended_s is None:
            self.ended_s = time.monotonic()

    def rank_is_watched(self, ready: Event) -> None:
        """One more of its ranks is known to the meters; with the last of them the trial goes on."""
        self.unwatched.remove(ready)
        self.ranks_watched += 1
        if self.ranks_watched == len(self.gang.devices):
            self.gang.tell({"kind": "go"})

    def give_up(self, cause: str) -> None:
        """Kills its ranks; `cause` becomes the failure."""
        self.given_up = cause
        self.gang.stop()

    def record(self, node: str, meter: str, readings: Iterable[Reading]) -> None:
        """Keeps one node's readings of this trial's devices: in memory for the energy, on disk for everyone."""
        new = list(readings)
        part = power_table(meter, new)
        self.power.setdefault(node, []).append(part)
        self.tables.add_power(node, dict(zip(part.column_names, part.columns, strict=True)))
        self.metered_until_ns |= {(node, each.device_uuid): each.time_ns for each in new}

    def record_beside(self, node: str, meter: str, readings: Sequence[Reading]) -> None:
        """Keeps what else one node's meter read, in memory only: for the joules beside the trial's own."""
        self.beside.setdefault(node, []).append(power_table(meter, readings))

    def _add_steps(self, rank: int, rows: Sequence[Sequence[Any]]) -> None:
        self.tables.add_steps([{"rank": rank, **dict(zip(_STEP_COLUMNS, row, strict=True))} for row in rows])
        self.losses += [row[-1] for row in rows]
        if rank == 0:
            self.steps = rows[-1][0] + 1
            self.step_s += [1e-9 * (end_ns - begin_ns) for _, measured, begin_ns, end_ns, _ in rows if measured]
