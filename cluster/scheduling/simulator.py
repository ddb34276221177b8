"""A study played through in no time: decided as a real one is, with durations and failures that chance draws.

Discrete events: a trial ends, a node is lost or joins. What becomes of an attempt is asked of a function (see `fates`)
that knows nothing of the schedule, so that several schedulers meet the very same durations and failures.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.scheduling.board import Board
from joulelaw.cluster.scheduling.retries import TRIES, next_step
from joulelaw.cluster.scheduling.scheduler import Assignment, FreeDevices, WaitingTrial
from joulelaw.cluster.scheduling.timeline import Attempt, CapacityChange, Timeline


@dataclass(frozen=True)
class Fate:
    """How an attempt goes while its nodes live: how long it takes, and what ends it early, if anything."""

    duration_s: float
    cause: Cause | None = None


FateOf = Callable[[WaitingTrial, int], Fate]
"""What becomes of a trial's n-th attempt, n from 1. Asked in no particular order."""


class Scheduler(Protocol):
    """Who decides: a Board, or another to compare it with."""

    def add(self, trial: WaitingTrial) -> None: ...
    def see(self, free_by_model: FreeDevices, one_trial_nodes: Collection[str] = ()) -> None: ...
    def next(self, now_s: float) -> Assignment | None: ...
    def start(self, assignment: Assignment, now_s: float) -> WaitingTrial: ...
    def end(self, trial_id: str) -> WaitingTrial: ...


@dataclass(frozen=True)
class _Run:
    trial: WaitingTrial
    nodes: tuple[str, ...]
    began_s: float
    cause: Cause | None
    attempt: int


def simulate(
    trials: Iterable[WaitingTrial],
    nodes: Mapping[str, Mapping[str, int]],
    fate_of: FateOf,
    changes: Sequence[CapacityChange] = (),
    *,
    scheduler: Scheduler | None = None,
    one_trial_nodes: Collection[str] = (),
    tries: int = TRIES,
) -> Timeline:
    """Plays a study on `nodes` (node -> model -> devices) from its first trial to its last.

    A trial whose attempt failed is tried again as `retries.next_step` says, at most `tries` times.
    """
    simulation = _Simulation(scheduler or Board(), nodes, fate_of, one_trial_nodes, tries)
    return simulation.play(trials, changes)


class _Simulation:
    def __init__(
        self,
        scheduler: Scheduler,
        nodes: Mapping[str, Mapping[str, int]],
        fate_of: FateOf,
        one_trial_nodes: Collection[str],
        tries: int,
    ) -> None:
        self._scheduler = scheduler
        self._nodes = dict(nodes)
        self._fate_of = fate_of
        self._one_trial_nodes = one_trial_nodes
        self._limit = tries
        self._waiting: set[str] = set()
        self._tries: dict[str, int] = {}
        self._running: dict[str, _Run] = {}
        self._ends: list[tuple[float, str, int]] = []  # a heap; (time, trial, attempt)
        self._attempts: list[Attempt] = []

    def play(self, trials: Iterable[WaitingTrial], changes: Sequence[CapacityChange]) -> Timeline:
        for trial in trials:
            self._wait(trial)
        coming = sorted(changes, key=lambda change: change.time_s, reverse=True)
        happened = [CapacityChange(0.0, node, devices) for node, devices in self._nodes.items()]
        self._look()
        now_s = 0.0
        while self._waiting or self._running:
            self._start(now_s)
            next_end_s = self._ends[0][0] if self._ends else inf
            next_change_s = coming[-1].time_s if coming else inf
            if (now_s := min(next_end_s, next_change_s)) == inf:
                break
            while self._ends and self._ends[0][0] <= now_s:
                self._end_next(now_s)
            while coming and coming[-1].time_s <= now_s:
                happened.append(coming[-1])
                self._change(coming.pop())
        return Timeline(self._attempts, happened, sorted(self._waiting))

    def _wait(self, trial: WaitingTrial) -> None:
        self._waiting.add(trial.trial_id)
        self._scheduler.add(trial)

    def _start(self, now_s: float) -> None:
        while (assignment := self._scheduler.next(now_s)) is not None:
            trial = self._scheduler.start(assignment, now_s)
            self._waiting.remove(trial.trial_id)
            attempt = self._tries[trial.trial_id] = self._tries.get(trial.trial_id, 0) + 1
            fate = self._fate_of(trial, attempt)
            self._running[trial.trial_id] = _Run(trial, assignment.nodes, now_s, fate.cause, attempt)
            heapq.heappush(self._ends, (now_s + fate.duration_s, trial.trial_id, attempt))

    def _end_next(self, now_s: float) -> None:
        _, trial_id, attempt = heapq.heappop(self._ends)
        run = self._running.get(trial_id)
        if run is not None and run.attempt == attempt:  # else its node was lost before
            self._end(run, now_s, run.cause)

    def _end(self, run: _Run, now_s: float, cause: Cause | None) -> None:
        trial = run.trial
        del self._running[trial.trial_id]
        self._scheduler.end(trial.trial_id)
        self._attempts.append(Attempt(trial.trial_id, trial.model, trial.count, run.nodes, run.began_s, now_s, cause))
        if cause is not None and next_step(cause, run.attempt, self._limit) == "retry":
            self._wait(trial)

    def _change(self, change: CapacityChange) -> None:
        if change.devices:
            self._nodes[change.node] = change.devices
        else:
            self._nodes.pop(change.node, None)
            for run in [run for run in self._running.values() if change.node in run.nodes]:
                self._end(run, change.time_s, Cause.NODE_LOST)
        self._look()

    def _look(self) -> None:
        """Tells the scheduler which devices are free, as a cluster would."""
        free: dict[str, dict[str, int]] = {}
        for node, devices in self._nodes.items():
            for model, number in devices.items():
                free.setdefault(model, {})[node] = number
        for run in self._running.values():
            for node in run.nodes:
                free[run.trial.model][node] -= run.trial.count // run.trial.node_count
        self._scheduler.see(free, self._one_trial_nodes)
