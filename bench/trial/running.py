"""One trial in flight: what its ranks and its devices' meters say is kept, and written down as it comes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from joulelaw.bench.dataset.dataset import TrialTables
from joulelaw.bench.energy.readings import last_temperatures
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.trial.checks import MAX_GAP_S
from joulelaw.bench.trial.watch import LossWatch, lost_gpus
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks.gang import Gang, GangState

ENTRY = "joulelaw.bench.training.rank:run_rank"
# A device's temperature is remembered so long: as long as a rise is looked for.
KEPT_S = 8.0
_STEP_COLUMNS = ("step", "measured", "begin_ns", "end_ns", "loss")

Event = Mapping[str, Any]


class Span(NamedTuple):
    """A rank's measured steps so far: from the first one's begin to the last one's end, in ns of its node's clock."""

    node: str
    begin_ns: int
    end_ns: int


@dataclass
class RunningTrial:
    """Holds a gang from its start to its last event, and everything that the trial's one row is made from.

    `windows` and `done` hold the events of those kinds by rank; `power` the readings by node, `beside` those of what no
    trial holds there, `metered_until_ns` when a node's domain was read last, and `gaps` where and when one was not;
    `shared_with` the trials that ran on one of its nodes at the same time, `busy_devices` their devices and its own.
    `window` is what is asked of the ranks, `spans` the part of it that each has told of, `told` what was said to them,
    `cooldown_s` how long the devices were given to cool before, and `links` what was probed between them. `no_number`
    says what is wrong with the losses, `lost_gpus` which devices the meters' driver has lost.
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
    held_since_ns: int = field(default_factory=time.monotonic_ns)
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
    gaps: list[tuple[str, int, int]] = field(default_factory=list)
    meter_losses: Mapping[str, int] = field(default_factory=dict)
    given_up: str = ""
    given_up_cause: Cause | None = None
    log_dir: Path | None = None
    no_number: str = ""
    lost_gpus: set[str] = field(default_factory=set)
    links: Event | None = None
    window: Window = field(init=False)
    spans: dict[int, Span] = field(default_factory=dict)
    first_step_s: float | None = None
    told: set[str] = field(default_factory=set)
    judge_from_s: float = 0.0
    cooldown_s: float | None = None
    _loss_watch: LossWatch = field(default_factory=LossWatch)

    def __post_init__(self) -> None:
        self.window = self.planned.spec.window
        self.busy_devices |= {device.uuid for device in self.gang.devices}

    def start(self, log_dir: Path, root: Path, sensor_update_s: float | None = None, *, probe: bool = False) -> None:
        """Starts the ranks; `root` is the sweep's folder, `sensor_update_s` and `probe` as in `trial.run_rank`."""
        self.began_s = time.monotonic()
        spec = replace(self.planned.spec, window=self.window)
        payload = {"trial": spec.to_dict(), "root": str(root), "sensor_update_s": sensor_update_s, "probe": probe}
        self.log_dir = log_dir
        self.gang.start(ENTRY, payload, log_dir)

    @property
    def is_started(self) -> bool:
        return self.gang.state is not GangState.IDLE

    @property
    def trial_id(self) -> str:
        return self.planned.trial_id

    @property
    def over(self) -> bool:
        return self.gang.state in (GangState.DONE, GangState.FAILED) or (bool(self.given_up) and not self.is_started)

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
    def cause(self) -> Cause | None:
        """What its failure comes from; None where it succeeded."""
        return None if self.succeeded else self.given_up_cause or self.gang.cause or Cause.RANK_ERROR

    @property
    def elapsed_s(self) -> float:
        """From its launch until it was over, or until now."""
        return (self.ended_s or time.monotonic()) - self.began_s

    @property
    def phase(self) -> str:
        """For the person who watches: what the trial is doing now."""
        if not self.is_started:
            return "cooling down"
        if self.windows:
            return "finishing"
        if not self.steps:
            return "setting up"
        return f"step {len(self.step_s)}" if self.step_s else "warming up"

    def devices_on(self, node: str) -> list[str]:
        """Of the ranks there that have measured anything."""
        ended = {rank for rank, window in self.windows.items() if window["node"] == node}
        ranks = sorted(ended | {rank for rank, span in self.spans.items() if span.node == node})
        return [self.gang.devices[rank].uuid for rank in ranks]

    def seen_on(self, node: str) -> tuple[int, int]:
        """A node's window as far as steps and readings have come, in ns of its clock."""
        spans = [span for span in self.spans.values() if span.node == node]
        read_ns = [until_ns for (where, _), until_ns in self.metered_until_ns.items() if where == node]
        return min(span.begin_ns for span in spans), min([*(span.end_ns for span in spans), *read_ns])

    @property
    def measured_s(self) -> float:
        """How long the window is, as far as the steps of all ranks were told."""
        return min((1e-9 * (span.end_ns - span.begin_ns) for span in self.spans.values()), default=0.0)

    @property
    def is_blind(self) -> bool:
        """Whether so much of its window went unread that its joules cannot be believed any more."""
        return any(
            end_ns - max(begin_ns, span.begin_ns) > 1e9 * MAX_GAP_S
            for node, begin_ns, end_ns in self.gaps
            for span in self.spans.values()
            if span.node == node
        )

    def temperatures(self) -> list[list[tuple[float, float]]]:
        """Of each device that tells its own: (seconds before now, degC), of the last `KEPT_S`."""
        return [each for parts in self.power.values() for each in last_temperatures(parts, KEPT_S).values()]

    def tell(self, word: str) -> None:
        """One word to all ranks, which is remembered as told."""
        self.told.add(word)
        self.gang.tell({"kind": word})

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
                    self._add_steps(event["rank"], event.get("node", ""), event["rows"])
                case "window":
                    self.windows[event["rank"]] = event
                case "done":
                    self.done[event["rank"]] = event
                case "links":
                    self.links = event
        if self.over and self.ended_s is None:
            self.ended_s = time.monotonic()

    def rank_is_watched(self, ready: Event) -> None:
        """One more of its ranks is known to the meters; with the last of them the trial goes on."""
        self.unwatched.remove(ready)
        self.ranks_watched += 1
        if self.ranks_watched == len(self.gang.devices):
            self.gang.tell({"kind": "go"})

    def give_up(self, cause: Cause, what: str) -> None:
        """Kills its ranks, and does not wait for their end; `what` becomes the failure."""
        self.spoil(cause, what)
        self.gang.kill()

    def spoil(self, cause: Cause, what: str) -> None:
        """Calls it failed, whatever its ranks did."""
        self.given_up, self.given_up_cause = what, cause

    def record(self, node: str, readings: pa.Table) -> None:
        """Keeps one node's readings of this trial's devices: in memory for the energy, on disk for everyone."""
        self.power.setdefault(node, []).append(readings)
        self.tables.add_power(node, dict(zip(readings.column_names, readings.columns, strict=True)))
        times: list[tuple[str, int]] = list(
            zip(readings["device_uuid"].to_pylist(), readings["time_ns"].to_pylist(), strict=True)
        )
        for domain, first_ns in dict(reversed(times)).items():
            until_ns = self.metered_until_ns.get((node, domain), first_ns)
            if first_ns - until_ns > 1e9 * MAX_GAP_S:
                self.gaps.append((node, until_ns, first_ns))
        self.metered_until_ns |= {(node, domain): time_ns for domain, time_ns in dict(times).items()}
        self.lost_gpus.update(lost_gpus(readings))

    def record_beside(self, node: str, readings: pa.Table) -> None:
        """Keeps what else one node's meter read, in memory only: for the joules beside the trial's own."""
        self.beside.setdefault(node, []).append(readings)

    def _add_steps(self, rank: int, node: str, rows: Sequence[Sequence[Any]]) -> None:
        columns = zip(*rows, strict=True)
        self.tables.add_steps({"rank": rank, **dict(zip(_STEP_COLUMNS, map(list, columns), strict=True))})
        self.losses += [row[-1] for row in rows]
        self.no_number = self.no_number or self._loss_watch.take(rank, [row[-1] for row in rows])
        self.first_step_s = self.first_step_s or time.monotonic()
        if measured := [row for row in rows if row[1]]:
            begin_ns = self.spans[rank].begin_ns if rank in self.spans else measured[0][2]
            self.spans[rank] = Span(node, begin_ns, measured[-1][3])
        if rank == 0:
            self.steps = rows[-1][0] + 1
            self.step_s += [1e-9 * (end_ns - begin_ns) for _, measured, begin_ns, end_ns, _ in rows if measured]
