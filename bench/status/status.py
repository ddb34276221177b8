"""How a study stands, from what its dataset holds at one moment: pure functions of that."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from joulelaw.bench.status.forecast import time_left_s
from joulelaw.bench.status.seen import Planned, Reading, Row, Seen, last_run, running_of, seconds_between, waiting_of

State = Literal["running", "complete", "stopped", "broken off"]


@dataclass(frozen=True)
class RunningNow:
    """A trial in flight. `elapsed_s` is since its attempt began."""

    trial_id: str
    label: str
    attempt: int
    phase: str
    elapsed_s: float
    expected_s: float | None
    nodes: tuple[str, ...]
    device_uuids: tuple[str, ...]


@dataclass(frozen=True)
class Failure:
    """A trial whose last attempt failed. `log` is a place in the dataset, "" where there is none."""

    trial_id: str
    label: str
    attempt: int
    cause: str
    failure: str
    log: str


@dataclass(frozen=True)
class NodeSeen:
    """A node of the study's last run. `lost` says why it went, "" while it is there."""

    node_id: str
    devices: int
    joined: datetime
    left: datetime | None = None
    lost: str = ""


@dataclass(frozen=True)
class Energy:
    """Joules of the measured windows of valid trials, by the meter that they come from."""

    meter: str
    kind: str
    energy_j: float
    trials: int


@dataclass(frozen=True)
class StudyStatus:
    """How a study stands. `done` are valid trials, `invalid` and `failed` counts by reason and cause, `retried` the
    attempts that ended badly and were made again, by cause; `left_s` is None where nothing tells."""

    name: str
    state: State
    at_work: str
    planned: int
    done: int
    waiting: int
    invalid_trials: int
    invalid: Mapping[str, int]
    failed: Mapping[str, int]
    retried: Mapping[str, int]
    running: Sequence[RunningNow]
    failures: Sequence[Failure]
    energy: Sequence[Energy]
    readings: Sequence[Reading]
    nodes: Sequence[NodeSeen]
    began: datetime | None
    last_event: datetime | None
    left_s: float | None
    now: datetime = field(compare=False)

    @property
    def ended(self) -> int:
        """Trials that have a row: done, invalid or failed."""
        return self.done + self.invalid_trials + sum(self.failed.values())

    @property
    def power_w(self) -> float | None:
        """Of all devices that a trial holds, by their newest readings; None where one has no power to tell."""
        known = [each.power_w for each in self.readings if each.power_w is not None]
        return sum(known) if known and len(known) == len(self.readings) else None


def status_of(seen: Seen) -> StudyStatus:
    """All of it, in one object."""
    waiting, running = waiting_of(seen), running_of(seen)
    rows = {trial_id: row for trial_id, row in seen.rows.items() if trial_id not in waiting | running.keys()}
    done = [row for row in rows.values() if row["status"] == "done"]
    invalid = [row for row in done if row["verdict"] != "valid"]
    failed = [row for row in rows.values() if row["status"] != "done"]
    events = last_run(seen.events)
    ended = [event for event in seen.events if event["kind"] == "attempt_ended"]
    return StudyStatus(
        name=seen.name,
        state=_state(seen, rows),
        at_work=seen.at_work,
        planned=len(seen.planned),
        done=len(done) - len(invalid),
        waiting=len(waiting),
        invalid_trials=len(invalid),
        invalid=dict(Counter(reason for row in invalid for reason in row["reasons"])),
        failed=dict(Counter(row["cause"] or "unknown" for row in failed)),
        retried=dict(Counter(event["cause"] or "unknown" for event in ended if event["retried"])),
        running=[_running(seen, event) for event in running.values()],
        failures=[_failure(row, seen.planned) for row in failed],
        energy=_energy(row for row in done if row["verdict"] == "valid"),
        readings=seen.readings,
        nodes=nodes_of(events),
        began=events[0]["time"] if events else None,
        last_event=seen.events[-1]["time"] if seen.events else None,
        left_s=time_left_s(seen),
        now=seen.now,
    )


def nodes_of(events: Iterable[Row]) -> list[NodeSeen]:
    """The nodes that joined, in the order in which they did."""
    nodes: dict[str, NodeSeen] = {}
    for event in events:
        for node_id in event["nodes"]:
            if event["kind"] == "node_joined":
                nodes[node_id] = NodeSeen(node_id, len(event["device_uuids"]), event["time"])
            elif event["kind"] == "node_lost":
                before = nodes.get(node_id, NodeSeen(node_id, len(event["device_uuids"]), event["time"]))
                lost = ": ".join(word for word in (event["cause"], event["detail"]) if word) or "lost"
                nodes[node_id] = NodeSeen(node_id, before.devices, before.joined, event["time"], lost)
    return list(nodes.values())


def _state(seen: Seen, ended: Collection[str]) -> State:
    """Nobody at work before the end: "stopped" where a driver said so, "broken off" where it went without a word."""
    if seen.at_work:
        return "running"
    if seen.planned.keys() <= set(ended):
        return "complete"
    events = last_run(seen.events)
    said = not events or any(event["kind"] == "run_ended" for event in events)
    return "stopped" if said else "broken off"


def _running(seen: Seen, event: Row) -> RunningNow:
    planned = seen.planned[event["trial_id"]]
    return RunningNow(
        planned.trial_id,
        planned.label,
        event["attempt"],
        seen.phases.get(planned.trial_id, "setting up"),
        seconds_between(event["time"], seen.now),
        planned.expected_s,
        tuple(event["nodes"]),
        tuple(event["device_uuids"]),
    )


def _failure(row: Row, planned: Mapping[str, Planned]) -> Failure:
    trial_id = row["trial_id"]
    label = planned[trial_id].label if trial_id in planned else ""
    cause = row["cause"] or "unknown"
    return Failure(trial_id, label, row["attempt"], cause, row["failure"], row["log"] or "")


def _energy(rows: Iterable[Row]) -> list[Energy]:
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["energy_j"] is not None:
            found.setdefault((row["meter"], row["meter_kind"]), []).append(row["energy_j"])
    return [Energy(meter, kind, sum(joules), len(joules)) for (meter, kind), joules in sorted(found.items())]
