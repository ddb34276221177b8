"""The loop that carries a study out: it starts what fits, listens, and commits what is over."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from joulelaw.bench.advice import advise, has_joules, sensor_update_s, window_of
from joulelaw.bench.checks import may_pass
from joulelaw.bench.cooling import is_cool
from joulelaw.bench.dataset import Dataset
from joulelaw.bench.plan import PlannedTrial
from joulelaw.bench.power_feed import PowerFeed, settle, watch_ranks
from joulelaw.bench.progress import GroupView, StudyProgress
from joulelaw.bench.running_trial import RunningTrial
from joulelaw.bench.session import Session
from joulelaw.bench.spec_schema import LimitsSection, MeteringSection
from joulelaw.bench.trial_end import METER_LOST, ended_row
from joulelaw.cluster import scheduler
from joulelaw.cluster.failures import Cause, ClusterError, NodeLostError
from joulelaw.cluster.gang import Gang, RankGang
from joulelaw.cluster.retries import next_step

# Seldom enough that the driver's time does not show in the steps of ranks on its cores.
LOOK_EVERY_S = 0.5
POWER_EVERY_S = 1.0
# A trial that came out invalid is measured once more.
SPOILT_TRIES = 2
NO_IDLE_PHASE = MeteringSection(idle_s=0.0)


class Fleet(PowerFeed, Protocol):
    """What the loop needs of a cluster."""

    def free_by_model(self) -> dict[str, dict[str, int]]: ...
    def acquire(self, model: str, count: int, node_count: int = 1, nodes: Sequence[str] | None = None) -> RankGang: ...
    def release(self, gang: Gang) -> None: ...
    def wait(self, timeout_s: float) -> None:
        """Until any rank has news."""
        ...


class StudyLoop:
    """Runs the waiting trials of a plan to their end. `rows` has one row for each that ended."""

    def __init__(
        self,
        waiting: Iterable[PlannedTrial],
        dataset: Dataset,
        fleet: Fleet,
        limits: LimitsSection,
        progress: StudyProgress,
        root: Path,
        metering: MeteringSection = NO_IDLE_PHASE,
    ) -> None:
        """`root` is the sweep's folder, which the files that configurations name are relative to."""
        self.rows: list[dict[str, Any]] = []
        self._waiting = {trial.trial_id: trial for trial in waiting}
        self._tries: dict[str, int] = {}
        self._running: dict[str, RunningTrial] = {}
        self._dataset = dataset
        self._fleet = fleet
        self._limits = limits
        self._progress = progress
        self._root = root
        self._metering = metering
        self._session = Session(fleet, dataset, metering.idle_s)
        self._power_due_s = 0.0
        self._held_off = False  # a group was not granted: no other is asked for until a trial ends

    def run(self) -> None:
        """Until nothing waits and nothing runs. On any exception, Ctrl-C among them, the ranks are ended first."""
        if self._waiting:
            self._session.wait_ready()
        try:
            while self._waiting or self._running:
                self._start_what_fits()
                self._check_some_run()
                self._listen()
                if self._end_what_is_over():
                    continue  # devices are free: at once to the next trial
                self._progress.show([_view(trial) for trial in self._running.values()])
                self._fleet.wait(LOOK_EVERY_S)
        finally:
            for trial in self._running.values():
                self._fleet.release(trial.gang)

    def _start_what_fits(self) -> None:
        while assignment := self._next():
            planned = self._waiting.pop(assignment.trial_id)
            wanted = planned.spec.configuration
            try:
                gang = self._fleet.acquire(wanted.gpu_model, wanted.gpu_count, wanted.node_count, assignment.nodes)
            except ClusterError as problem:
                self._waiting[planned.trial_id] = planned
                if isinstance(problem, NodeLostError) and not self._is_offered(assignment, wanted.gpu_model):
                    continue  # on the nodes that are left
                if not self._running:
                    raise
                self._held_off = True  # other Ray jobs hold the devices
                return
            self._session.hand_out(self._running.values())  # what was read before the trial is not its own
            trial = self._prepared(planned, gang)
            self._running[planned.trial_id] = trial
            self._note_neighbours(trial)
            self._launch_if_cool(trial)

    def _launch_if_cool(self, trial: RunningTrial) -> None:
        if not is_cool(trial, self._metering):
            return
        if self._metering.cooldown_c is not None:
            trial.cooldown_s = trial.elapsed_s
        trial.window = window_of(trial, self._fleet.meters)
        update_s = sensor_update_s(trial, self._fleet.meters)
        trial.start(self._dataset.log_folder(trial.trial_id), self._root, update_s)

    def _is_offered(self, assignment: scheduler.Assignment, model: str) -> bool:
        free = self._fleet.free_by_model()[model]
        return all(free.get(node) for node in assignment.nodes)

    def _check_some_run(self) -> None:
        """On devices that are all free the first trial fits, unless there are fewer than at the start."""
        if not self._running:
            what = f"{len(self._waiting)} trials wait for devices that are no longer there: their node is lost"
            raise ClusterError(f"{what}; run the same command again to go on with what is there")

    def _prepared(self, planned: PlannedTrial, gang: RankGang) -> RunningTrial:
        attempt = self._dataset.next_attempt(planned.trial_id)
        losses = {node: count for node, count in self._fleet.meter_losses.items() if node in gang.node_ids}
        tables = self._dataset.start_trial(planned.trial_id, attempt)
        return RunningTrial(planned, gang, tables, attempt, meter_losses=losses)

    def _next(self) -> scheduler.Assignment | None:
        if not self._waiting or self._held_off or (self._running and not self._may_share):
            return None
        waiting = [_waiting(trial) for trial in self._waiting.values()]
        running = [_remaining(trial) for trial in self._running.values()]
        free = {
            model: {node: number for node, number in on_nodes.items() if node in self._session.ready}
            for model, on_nodes in self._fleet.free_by_model().items()
        }
        return scheduler.next_assignment(waiting, free, running)

    @property
    def _may_share(self) -> bool:
        """A meter that cannot tell a node's devices apart needs the node for one trial at a time."""
        apart = all(len(devices) == 1 for meter in self._fleet.meters.values() for devices in meter.covers.values())
        return self._limits.share_node and apart

    def _note_neighbours(self, new: RunningTrial) -> None:
        for other in self._running.values():
            if other is not new and set(other.gang.node_ids) & set(new.gang.node_ids):
                for one, two in ((new, other), (other, new)):
                    one.shared_with.add(two.trial_id)
                    one.busy_devices |= {device.uuid for device in two.gang.devices}

    def _listen(self) -> None:
        for trial in self._running.values():
            if not trial.is_started:
                self._launch_if_cool(trial)
                continue
            trial.advance()
            watch_ranks(self._fleet, trial)
            if not trial.over and trial.elapsed_s > self._limits.trial_timeout_s:
                trial.give_up(f"not over after limits.trial_timeout_s = {self._limits.trial_timeout_s:g} s")
        if time.monotonic() >= self._power_due_s:
            self._session.hand_out(self._running.values())
            for trial in self._running.values():
                advise(trial, self._fleet.meters)
            self._power_due_s = time.monotonic() + POWER_EVERY_S

    def _end_what_is_over(self) -> bool:
        """Commits the trials that are over; whether there were any."""
        ended = [each for each in self._running.values() if each.over]
        for trial in ended:
            if trial.succeeded:
                settle(self._fleet, trial, self._running.values())
            del self._running[trial.trial_id]
            self._held_off = False
            self._fleet.release(trial.gang)
            row = ended_row(trial, self._fleet, self._session.idle)
            if self._is_repeated(trial, row):
                trial.tables.flush()  # its last steps and readings tell of what happened
                self._waiting[trial.trial_id] = trial.planned
                continue
            if row["status"] != "done":
                self._dataset.check_disk()  # a rank that could not write its log has failed for that
            trial.tables.finish(row)
            self.rows.append({"trial_id": trial.trial_id, "attempt": trial.attempt, **row})
            self._progress.finished(row, trial.planned.spec.configuration.label, _expected_s(trial.planned))
        return bool(ended)

    def _is_repeated(self, trial: RunningTrial, row: Mapping[str, Any]) -> bool:
        if trial.given_up not in ("", METER_LOST):
            return False
        tries = self._tries[trial.trial_id] = self._tries.get(trial.trial_id, 0) + 1
        if row["status"] == "done" and tries < SPOILT_TRIES and self._may_turn_valid(trial, row):
            self._progress.again(trial.planned.spec.configuration.label, row["reasons"])
            return True
        cause = Cause.SAMPLER_LOST if trial.given_up == METER_LOST else trial.gang.cause
        return cause is not None and next_step(cause, tries) == "retry"

    def _may_turn_valid(self, trial: RunningTrial, row: Mapping[str, Any]) -> bool:
        """An invalid trial that what came from outside has spoilt. Without a meter none has joules, however often."""
        spoilt = row["verdict"] == "invalid" and may_pass(row["reasons"], trial.window.min_s)
        return spoilt and has_joules(trial, self._fleet.meters)


def expected_device_s(trials: Iterable[PlannedTrial]) -> float:
    """Device-seconds that trials are expected to hold."""
    return sum(_expected_s(trial) for trial in trials)


def _expected_s(trial: PlannedTrial) -> float:
    return (trial.price.trial_s or 1.0) * trial.spec.configuration.gpu_count


def _waiting(trial: PlannedTrial) -> scheduler.WaitingTrial:
    wanted = trial.spec.configuration
    expected_s = trial.price.trial_s or 1.0
    return scheduler.WaitingTrial(
        trial.trial_id, wanted.gpu_model, wanted.gpu_count, expected_s, wanted.node_count, trial.spec.repeat
    )


def _remaining(trial: RunningTrial) -> scheduler.RunningTrial:
    wanted = trial.planned.spec.configuration
    left_s = max(0.0, (trial.planned.price.trial_s or 1.0) - trial.elapsed_s)
    return scheduler.RunningTrial(wanted.gpu_model, wanted.gpu_count, trial.gang.node_ids, left_s)


def _view(trial: RunningTrial) -> GroupView:
    devices = trial.gang.devices
    places: Mapping[str, None] = dict.fromkeys(node[:6] for node in trial.gang.node_ids)
    where = f"{'+'.join(places)}: {', '.join(str(device.index) for device in devices)}"
    return GroupView(where, trial.planned.spec.configuration.label, trial.phase, trial.elapsed_s)
