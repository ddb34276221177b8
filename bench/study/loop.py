"""The loop that carries a study out: it starts what fits, listens, and ends what is over. It waits for no node."""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.spec.schema import LimitsSection, MeteringSection
from joulelaw.bench.study.attempts import note_lost_attempts, remember_places
from joulelaw.bench.study.fleet import ByModel, Fleet, offered
from joulelaw.bench.study.lineup import Lineup
from joulelaw.bench.study.metrics import Ended, Metrics
from joulelaw.bench.study.node_news import NodeNews
from joulelaw.bench.study.power_feed import is_settled, settling_due_s, watch_ranks
from joulelaw.bench.study.probed_links import ProbedLinks
from joulelaw.bench.study.progress import GroupView, StudyProgress
from joulelaw.bench.study.session import Session
from joulelaw.bench.trial.advice import advise
from joulelaw.bench.trial.fate import TrialEnder
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.bench.trial.start import TrialStarter
from joulelaw.cluster.failures import Cause, ClusterError, NodeLostError, RayLostError
from joulelaw.cluster.scheduling.scheduler import Assignment

# Seldom enough that the driver's time does not show in the steps of ranks on its cores.
LOOK_EVERY_S = 0.5
POWER_EVERY_S = 1.0
NODES_EVERY_S = 2.0
# While nodes that are there get ready, for at most so long after the last one came: each goes to work at once.
READY_EVERY_S = 0.25
READY_S = 120.0
# So long the first node is waited for before anything else is looked at, beyond its idle phase.
FIRST_S = 20.0
FIRST_EVERY_S = 0.05
# How long the trials that need a lost node wait for it to come back, or for another like it, once nothing else runs.
NODES_BACK_S = 60.0
NO_IDLE_PHASE = MeteringSection(idle_s=0.0)


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
        self._running: dict[str, RunningTrial] = {}
        self._settling: list[RunningTrial] = []
        self._dataset = dataset
        self._fleet = fleet
        self._limits = limits
        self._progress = progress
        self._lineup = Lineup(waiting)
        self._links = ProbedLinks()
        self._news = NodeNews(fleet, dataset, progress.tell)
        self._session = Session(fleet, dataset, metering.idle_s)
        self._idle_s = metering.idle_s
        self._metrics, self._ended = Metrics(fleet.metrics()), Ended()
        self._starter = TrialStarter(dataset, fleet, metering, self._links, root)
        self._ender = TrialEnder(dataset, fleet, self._lineup, limits, progress, self._links)
        self._power_due_s, self._settling_due_s, self._nodes_due_s = 0.0, float("inf"), 0.0
        self._lost_s = float("-inf")  # when a node was lost last
        self._came_s = time.monotonic()  # when one came
        self._kept: Mapping[str, int] | None = None
        self._held_off = False  # a group was not granted: no other is asked for until a trial ends

    def run(self) -> None:
        """Until nothing waits and nothing runs. On any exception, Ctrl-C among them, the ranks are ended first."""
        note_lost_attempts(self._dataset)
        remember_places(self._dataset, self._lineup)
        self._dataset.note("run_began", nodes=[node.node_id for node in self._fleet.nodes])
        how = "done"
        try:
            if self._lineup:
                self._tell_what_is_missing()
                self._wait_for_first()
            while self._lineup or self._running or self._settling:
                self._turn()
        except BaseException as error:
            how = f"{type(error).__name__}: {error}"
            self._abandon(error)
            raise
        finally:
            with suppress(InputError):  # a full disk, which is being told already
                self._dataset.note("run_ended", detail=how)

    def _tell_what_is_missing(self) -> None:
        """Of a study that goes on: some of the nodes that its plan was made for may be gone."""
        if missing := self._lineup.stranded(offered(self._fleet.nodes)):
            self._progress.tell(
                f"Not all devices are there that trials wait for ({_by_group(missing)}): the others first"
            )

    def _wait_for_first(self) -> None:
        """Until a first node is ready, while nothing else is to be done. Not for longer than answers usually take: one
        that is silent may become ready later."""
        until_s = time.monotonic() + self._idle_s + FIRST_S
        self._session.hand_out(())
        while not self._session.ready and time.monotonic() < until_s:
            time.sleep(FIRST_EVERY_S)
            self._look_at_nodes()
            self._session.hand_out(())

    def _turn(self) -> None:
        self._look_at_nodes()
        self._start_what_fits()
        self._listen()
        if self._end_what_is_over():
            return  # devices are free: at once to the next trial
        self._check_that_it_goes_on()
        self._progress.show(_view(trial) for trial in self._running.values())
        self._tell_metrics()
        self._fleet.wait(max(0.0, min(LOOK_EVERY_S, min(self._power_due_s, self._settling_due_s) - time.monotonic())))

    def _look_at_nodes(self) -> None:
        """Takes up nodes that have come, and gives up those that are lost."""
        if time.monotonic() < self._nodes_due_s:
            return
        self._nodes_due_s = time.monotonic() + self._unless_gathering(NODES_EVERY_S)
        for change in self._news.changes():
            self._held_off = False
            if change.kind == "node_joined":
                self._came_s = time.monotonic()
            if change.kind == "node_lost":
                self._lost_s = time.monotonic()
                for trial in self._running.values():
                    if not trial.is_started and change.node_id in trial.gang.node_ids:
                        trial.give_up(change.cause or Cause.NODE_LOST, change.text)
        self._news.tell_of(self._session.ready)
        self._see()
        if self._lineup.smallest != self._kept:
            self._kept = self._lineup.smallest
            self._fleet.keep_only(self._kept)

    def _unless_gathering(self, every_s: float) -> float:
        """How often to look: more often while nodes that are there get ready."""
        is_new = time.monotonic() < self._came_s + READY_S
        if not is_new or {node.node_id for node in self._fleet.nodes} <= self._session.ready:
            return every_s
        return READY_EVERY_S

    def _see(self) -> None:
        """Devices of nodes that are ready are there. Where meters cannot tell devices apart a node is one trial's."""
        free = {
            model: {node: number for node, number in on_nodes.items() if node in self._session.ready}
            for model, on_nodes in self._fleet.free_by_model().items()
        }
        meters = self._fleet.meters
        apart = {node for node, meter in meters.items() if all(len(each) == 1 for each in meter.covers.values())}
        self._lineup.see(free, meters.keys() - (apart if self._limits.share_node else set()))

    def _start_what_fits(self) -> None:
        while not self._held_off and (assignment := self._lineup.next()):
            planned = self._lineup.planned(assignment.trial_id)
            wanted, avoid = planned.spec.configuration, self._lineup.used(planned)
            group = wanted.gpu_model, wanted.gpu_count, wanted.node_count
            try:
                gang = self._fleet.acquire(*group, assignment.nodes, avoid)
            except ClusterError as problem:
                self._see()
                if isinstance(problem, NodeLostError) and not self._is_offered(assignment, wanted.gpu_model):
                    continue  # on the nodes that are left
                if not (self._running or self._settling):
                    raise
                self._held_off = True
                return
            self._lineup.start(assignment)
            trial = self._starter.begin(planned, gang, self._running.values())
            self._running[planned.trial_id] = trial

    def _is_offered(self, assignment: Assignment, model: str) -> bool:
        free = self._fleet.free_by_model().get(model, {})
        return all(free.get(node) for node in assignment.nodes)

    @property
    def _metered(self) -> list[RunningTrial]:
        return [*self._running.values(), *self._settling]

    def _listen(self) -> None:
        for trial in self._running.values():
            if not trial.is_started:
                self._starter.launch_if_cool(trial)
                continue
            trial.advance()
            watch_ranks(self._fleet, trial)
            if trial.links is not None:
                self._links.take((device.uuid for device in trial.gang.devices), trial.links)
            if not trial.given_up:
                self._ender.give_up_if_hopeless(trial)
        self._read_meters()

    def _read_meters(self) -> None:
        """Of all nodes in the study's beat, and beyond that of those where trials wait for their last readings."""
        now_s = time.monotonic()
        if now_s >= self._power_due_s:
            self._power_due_s = now_s + self._unless_gathering(POWER_EVERY_S)
            self._metrics.see(self._session.hand_out(self._metered))
            for trial in self._running.values():
                advise(trial, self._fleet.meters)
        elif now_s >= self._settling_due_s:
            nodes = {node for trial in self._settling for node in trial.gang.node_ids}
            self._metrics.see(self._session.hand_out(self._metered, nodes))
        else:
            return
        self._settling_due_s = settling_due_s(self._fleet, self._settling)

    def _tell_metrics(self) -> None:
        if self._metrics.is_due:
            counts = {"waiting": len(self._lineup), "running": len(self._metered), **self._ended.trials}
            self._metrics.tell(self._fleet.nodes, self._fleet.meters, counts, self._ended.energy_j)

    def _end_what_is_over(self) -> bool:
        """Frees the devices of trials that are over, else commits those that have all their readings; whether any."""
        over = [trial for trial in self._running.values() if trial.over]
        for trial in over:
            del self._running[trial.trial_id]
            self._settling.append(trial)
            self._ender.let_go(trial)
            self._held_off = False
        if over:
            self._settling_due_s = min(self._settling_due_s, settling_due_s(self._fleet, over))
            if any(trial.lost_gpus or trial.cause is Cause.GPU_LOST for trial in over):
                self._see()
            return True  # a commit waits for the disk: others get the devices first
        settled = [trial for trial in self._settling if not trial.succeeded or is_settled(self._fleet, trial)]
        for trial in settled:
            row = self._ender.end(trial, self._session.idle)
            self._settling.remove(trial)
            self._held_off = False
            self.rows += [row] if row is not None else []
            self._ended.take(row)
        return bool(settled)

    def _check_that_it_goes_on(self) -> None:
        """On devices that are all free the first trial fits, unless there are fewer than at the start."""
        if self._running or self._settling or not self._lineup or self._fleet.more_to_come():
            return
        totals = self._fleet.total_by_model()
        silent = {node for on_nodes in totals.values() for node in on_nodes if on_nodes[node]} - self._session.ready
        if silent and time.monotonic() < self._came_s + self._idle_s + READY_S:
            return
        if self._fleet.lost_nodes and time.monotonic() < self._lost_s + NODES_BACK_S:
            return
        self._see()  # a node may have become ready since this turn began
        if self._lineup.next():
            return
        raise ClusterError(
            f"{len(self._lineup)} trials wait for devices that are {self._why_not(totals, silent)}; the others are "
            f"done: run the same command again, with --into {self._dataset.folder}, to go on once the devices are back"
        )

    def _why_not(self, totals: ByModel, silent: set[str]) -> str:
        if silent:
            names = ", ".join(sorted(node[:6] for node in silent))
            return f"there but not ready: the meter of node {names} does not answer"
        missing = _by_group(self._lineup.stranded(totals))
        lost = "; ".join(what for _, what in self._fleet.lost_nodes.values())
        return f"no longer there: {lost or 'their node is lost'}{f' ({missing})' if missing else ''}"

    def _abandon(self, error: BaseException) -> None:
        """Ends every rank: all are killed before any is waited for."""
        cause = Cause.DRIVER_LOST if isinstance(error, RayLostError) else Cause.INTERRUPTED
        for trial in self._running.values():
            trial.gang.kill()
        for trial in self._metered:
            row = self._dataset.committed(trial.trial_id)
            if row is not None and row.attempt == trial.attempt:
                continue  # it was just being ended, with its row
            with suppress(InputError):
                self._ender.note_end(trial, retried=False, cause=cause)
        for trial in self._running.values():
            self._fleet.release(trial.gang)


def _by_group(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} for {group}" for group, count in counts.items())


def _view(trial: RunningTrial) -> GroupView:
    devices = trial.gang.devices
    places: Mapping[str, None] = dict.fromkeys(node[:6] for node in trial.gang.node_ids)
    where = f"{'+'.join(places)}: {', '.join(str(device.index) for device in devices)}"
    return GroupView(where, trial.planned.spec.configuration.label, trial.phase, trial.elapsed_s)
