"""What waits, and which devices it goes to next: the scheduler's board, kept for the trials of a plan."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.study.fleet import ByModel
from joulelaw.cluster.scheduling.board import Board
from joulelaw.cluster.scheduling.scheduler import Assignment, WaitingTrial

UNKNOWN_S = 1.0  # a trial's duration where no law tells


class Lineup:
    """The trials of a run until each has its row. `tries` counts the attempts at each in this run."""

    def __init__(self, waiting: Iterable[PlannedTrial], clock: Callable[[], float] = time.monotonic) -> None:
        self._planned = {trial.trial_id: trial for trial in waiting}
        self._clock = clock
        self._board = Board()
        self._needs: Counter[tuple[str, int]] = Counter()
        self._used: dict[str, Counter[str]] = defaultdict(Counter)
        self.tries: Counter[str] = Counter()
        for trial in self._planned.values():
            self._needs[_need(trial)] += 1
            self._board.add(waiting_trial(trial))

    def __len__(self) -> int:
        """How many wait."""
        return len(self._board.waiting)

    def see(self, free: ByModel, one_trial_nodes: Iterable[str] = ()) -> None:
        """Takes over which devices are free, and on which nodes any trial is alone."""
        self._board.see(free, list(one_trial_nodes))

    def next(self) -> Assignment | None:
        return self._board.next(self._clock())

    def start(self, assignment: Assignment) -> None:
        """The assignment is carried out: its trial waits no more, and holds its devices."""
        self._board.start(assignment, self._clock())

    def planned(self, trial_id: str) -> PlannedTrial:
        return self._planned[trial_id]

    def used(self, trial: PlannedTrial) -> list[str]:
        """The devices that had a repeat of it, or an attempt, before; as often as they had."""
        return list(self._used[trial.spec.configuration.configuration_id].elements())

    def remember(self, configuration_id: str, nodes: Sequence[str], device_uuids: Sequence[str]) -> None:
        """A trial of this configuration ran there."""
        self._used[configuration_id].update(device_uuids)
        self._board.remember(configuration_id, nodes)

    def end(self, trial_id: str) -> None:
        """It runs no more; its devices are free where they are still there."""
        self._board.end(trial_id)

    def again(self, trial_id: str, *, alone: bool = False) -> None:
        """It waits once more; `alone`: for nodes that it has to itself."""
        self._board.add(waiting_trial(self._planned[trial_id], alone=alone))

    def settled(self, trial_id: str) -> None:
        """It has its row: nothing is kept for it."""
        need = _need(self._planned.pop(trial_id))
        self._needs[need] -= 1
        if not self._needs[need]:
            del self._needs[need]

    @property
    def smallest(self) -> Mapping[str, int]:
        """By device model, the fewest devices that any trial without a row takes on one node."""
        found: dict[str, int] = {}
        for model, share in self._needs:
            found[model] = min(share, found.get(model, share))
        return found

    def stranded(self, totals: ByModel) -> dict[str, int]:
        """How many trials wait for a group that all devices together do not form: by group, in words."""
        found: Counter[str] = Counter()
        for trial_id in self._board.waiting:
            wanted = self._planned[trial_id].spec.configuration
            model, share = _need(self._planned[trial_id])
            if sum(number >= share for number in totals.get(model, {}).values()) < wanted.node_count:
                on = f" on {wanted.node_count} nodes" if wanted.node_count > 1 else ""
                found[f"{wanted.gpu_count} x {model}{on}"] += 1
        return dict(found)


def expected_s(trial: PlannedTrial) -> float:
    """How long a trial is expected to take."""
    return trial.price.trial_s or UNKNOWN_S


def expected_device_s(trials: Iterable[PlannedTrial]) -> float:
    """Device-seconds that trials are expected to hold."""
    return sum(expected_s(trial) * trial.spec.configuration.gpu_count for trial in trials)


def waiting_trial(trial: PlannedTrial, *, alone: bool = False) -> WaitingTrial:
    """As the scheduler knows it: repeats one after another, the single device that others are compared with first."""
    wanted = trial.spec.configuration
    return WaitingTrial(
        trial.trial_id,
        wanted.gpu_model,
        wanted.gpu_count,
        expected_s(trial),
        node_count=wanted.node_count,
        wave=trial.spec.repeat,
        baseline=wanted == wanted.single_device(),
        configuration=wanted.configuration_id,
        case=wanted.case_id,
        alone_on_node=alone,
    )


def _need(trial: PlannedTrial) -> tuple[str, int]:
    wanted = trial.spec.configuration
    return wanted.gpu_model, wanted.gpu_count // wanted.node_count
