"""What happened in a study, attempt by attempt, and how far that is from the best that any schedule could do."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from joulelaw.cluster.failures import Cause


@dataclass(frozen=True)
class CapacityChange:
    """From `time_s` on the node has these devices (model -> number). None left: it is lost, with the trials on it."""

    time_s: float
    node: str
    devices: Mapping[str, int]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a trial, and what ended it early, if anything. Seconds are since the study began."""

    trial_id: str
    model: str
    count: int
    nodes: tuple[str, ...]
    began_s: float
    ended_s: float
    cause: Cause | None = None

    @property
    def duration_s(self) -> float:
        return self.ended_s - self.began_s

    @property
    def device_s(self) -> float:
        return self.duration_s * self.count


@dataclass
class Timeline:
    """A study from its first trial to its last. `stranded` are trials for which no devices were left at the end."""

    attempts: list[Attempt] = field(default_factory=list)
    changes: list[CapacityChange] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)

    @property
    def makespan_s(self) -> float:
        """Until the last trial ended."""
        return max((each.ended_s for each in self.attempts), default=0.0)

    @property
    def last_attempts(self) -> list[Attempt]:
        """The one of each trial after which there was no other, in the order of their ends."""
        return list({each.trial_id: each for each in self.attempts}.values())


def lower_bound_s(timeline: Timeline, *, lost_attempts: bool = False) -> float:
    """No schedule of these trials could have ended earlier, knowing all that was going to happen.

    The larger of two: the longest trial; and, for the model where this is most, the time in which all of its devices
    together, as they came and went, could have done the trials' device-seconds. True durations, not forecasts; only
    each trial's last attempt counts, or, with `lost_attempts`, the ones that failed before it as well (the time of a
    trial is then the sum of its attempts).
    """
    counted = timeline.attempts if lost_attempts else timeline.last_attempts
    trial_s: defaultdict[str, float] = defaultdict(float)
    work_s: defaultdict[str, float] = defaultdict(float)
    for each in counted:
        trial_s[each.trial_id] += each.duration_s
        work_s[each.model] += each.device_s
    least_s = [_time_for(work, _device_changes(timeline.changes, model)) for model, work in work_s.items()]
    return max([*least_s, *trial_s.values()], default=0.0)


def busy_share(timeline: Timeline, until_s: float) -> float:
    """The part of all devices' time until then that trials held, failed attempts included."""
    held_s = sum(max(0.0, min(each.ended_s, until_s) - each.began_s) * each.count for each in timeline.attempts)
    models = {model for change in timeline.changes for model in change.devices}
    there_s = sum(_device_s(until_s, _device_changes(timeline.changes, model)) for model in models)
    return held_s / there_s if there_s else 0.0


def _device_changes(changes: Iterable[CapacityChange], model: str) -> list[tuple[float, int]]:
    """By how many the devices of a model grew, and when; in order of time."""
    here: dict[str, int] = {}
    steps = []
    for change in sorted(changes, key=lambda change: change.time_s):
        now = change.devices.get(model, 0)
        steps.append((change.time_s, now - here.get(change.node, 0)))
        here[change.node] = now
    return steps


def _time_for(work_s: float, steps: Sequence[tuple[float, int]]) -> float:
    """When so many device-seconds can be done at the earliest."""
    devices, since_s = 0, 0.0
    for time_s, more in steps:
        if devices and work_s <= devices * (time_s - since_s):
            break
        work_s -= devices * (time_s - since_s)
        devices, since_s = devices + more, time_s
    return since_s + work_s / devices if devices else float("inf")


def _device_s(until_s: float, steps: Sequence[tuple[float, int]]) -> float:
    return sum(more * max(0.0, until_s - time_s) for time_s, more in steps)
