"""What is found in a dataset at one moment, and what its events say of the study's last run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from joulelaw.cluster.scheduling.retries import RESULTS

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Planned:
    """What the status tells of a planned trial: `expected_s` is its forecast, None where no law could tell."""

    trial_id: str
    label: str
    model: str
    count: int
    expected_s: float | None


@dataclass(frozen=True)
class Reading:
    """The newest reading of a metered domain while a trial holds it, and how long ago it was taken."""

    trial_id: str
    node: str
    device_uuid: str
    power_w: float | None
    age_s: float


@dataclass(frozen=True)
class Seen:
    """What was found in a dataset. `at_work` names who holds its lock, "" if nobody does; `phases` says what each
    running trial does; `now` is the time of the look."""

    name: str
    planned: Mapping[str, Planned]
    rows: Mapping[str, Row]
    events: Sequence[Row]
    at_work: str
    phases: Mapping[str, str]
    readings: Sequence[Reading]
    now: datetime


def seconds_between(begin: datetime, end: datetime) -> float:
    """0 where they are the other way round: two machines' clocks may differ."""
    return max(0.0, (end - begin).total_seconds())


def last_run(events: Sequence[Row]) -> Sequence[Row]:
    """The events from the last time that the command was started."""
    begins = [number for number, event in enumerate(events) if event["kind"] == "run_began"]
    return events[begins[-1] :] if begins else events


def open_attempts(events: Sequence[Row]) -> dict[str, Row]:
    """By trial, the begin of each attempt of the last run that has not ended."""
    attempts: dict[str, Row] = {}
    for event in last_run(events):
        match event["kind"]:
            case "attempt_began":
                attempts[event["trial_id"]] = event
            case "attempt_ended":
                attempts.pop(event["trial_id"], None)
    return attempts


def running_of(seen: Seen) -> dict[str, Row]:
    """By trial, the begin of what a driver is at work on; without one nothing runs, whatever was begun."""
    begun = open_attempts(seen.events) if seen.at_work else {}
    return {trial_id: event for trial_id, event in begun.items() if trial_id in seen.planned}


def waiting_of(seen: Seen) -> set[str]:
    """The trials that have their turn still to come: also those that failed in an earlier run, where one is at work
    that has not come to them yet."""
    ended = [event for event in last_run(seen.events) if event["kind"] == "attempt_ended"]
    tried = {event["trial_id"] for event in ended if not event["retried"]}
    again = {
        trial_id
        for trial_id, row in seen.rows.items()
        if seen.at_work and row["status"] != "done" and row["cause"] not in RESULTS and trial_id not in tried
    }
    return (seen.planned.keys() - (seen.rows.keys() - again)) - running_of(seen).keys()
