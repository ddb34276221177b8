"""A study within a given time: what runs is finished, and no trial begins that might last longer."""

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.study.fleet import Fleet
from joulelaw.bench.training.warmup import longest_s
from joulelaw.cluster.failures import ClusterError

if TYPE_CHECKING:
    from joulelaw.bench.study.folder import Machines

# What a trial may take beyond what was expected of it before any was measured.
SLACK, SLACK_S = 1.3, 8.0
# Windows that go on until their energy is known seldom do for more than this many times their minimum.
GROWTH = 2.0


class OutOfTime(ClusterError):  # noqa: N818 (not a fault)
    """No device is lent any more, as the time is over."""


class TimeLimit:
    """Counts from its construction."""

    def __init__(self, limit_s: float) -> None:
        self._until_s = time.monotonic() + limit_s

    def on(self, fleet: "Machines", waiting: Iterable[PlannedTrial]) -> Fleet:
        """The machines, which lends no devices once the longest of the waiting trials might outlast the time.

        `acquire` then raises OutOfTime, with which a study ends as soon as none of its trials runs.
        """
        kinds: list[str] = sorted({device.kind for node in fleet.nodes for device in node.devices})
        reserve_s = max((_expected_s(trial, kind) for trial in waiting for kind in kinds), default=0.0)
        return cast(Fleet, _Limited(fleet, self._until_s - SLACK * reserve_s - SLACK_S))


def _expected_s(trial: PlannedTrial, device_kind: str) -> float:
    """Warm-up, window and the rest, on the long side."""
    window = trial.spec.window
    grown_s = min(window.max_s, GROWTH * window.min_s) if window.tolerance else window.min_s
    return longest_s(window, device_kind) + max(trial.price.trial_s or 0.0, grown_s)


class _Limited:
    """A fleet in everything but that it stops lending."""

    def __init__(self, fleet: Fleet, last_s: float) -> None:
        self._fleet = fleet
        self._last_s = last_s

    def acquire(self, *arguments: Any, **named: Any) -> Any:
        if time.monotonic() > self._last_s:
            raise OutOfTime("the time that was given is over")
        return self._fleet.acquire(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)
