"""What a scheduler knows of a study: what waits, what runs where, which devices are free, who was where before."""

from collections.abc import Collection, Mapping

from joulelaw.cluster.scheduler import Assignment, FreeDevices, RunningTrial, WaitingTrial, next_assignment


class Board:
    """The state that decisions are made from: the study's loop and the simulator keep one each, and ask `next`.

    Plain bookkeeping, without a clock, chance or I/O: equal histories give equal decisions. A loop does this:

        board.see(fleet.free_by_model())            # whenever devices may have come or gone
        while assignment := board.next(now_s):
            ... acquire, launch ...
            board.start(assignment, now_s)
        ...
        board.end(trial_id)                         # its devices are free again
        board.add(trial)                            # once more, where it is to be retried
    """

    def __init__(self) -> None:
        self._waiting: dict[str, WaitingTrial] = {}
        self._running: dict[str, tuple[WaitingTrial, tuple[str, ...], float]] = {}
        self._free: dict[str, dict[str, int]] = {}

    def add(self, trial: WaitingTrial) -> None:
        """One more trial waits."""
        self._waiting[trial.trial_id] = trial

    def see(self, free_by_model: FreeDevices, one_trial_nodes: Collection[str] = ()) -> None:
        """Takes over which devices are free now: model -> node id -> number. What is not named is not there.

        On `one_trial_nodes` (their meter cannot tell devices apart) any trial is alone.
        """
        self._free = {model: dict(nodes) for model, nodes in free_by_model.items()}

    def next(self, now_s: float) -> Assignment | None:
        """The next trial to start and its nodes, None where none should start now. Changes nothing: see `start`."""
        running = [
            RunningTrial(trial.model, trial.count, nodes, max(0.0, began_s + trial.expected_s - now_s))
            for trial, nodes, began_s in self._running.values()
        ]
        return next_assignment(list(self._waiting.values()), self._free, running)

    def start(self, assignment: Assignment, now_s: float) -> WaitingTrial:
        """The trial runs from now on, and holds its devices. KeyError where it does not wait."""
        trial = self._waiting.pop(assignment.trial_id)
        self._running[trial.trial_id] = trial, assignment.nodes, now_s
        self._hold(trial, assignment.nodes, 1)
        return trial

    def end(self, trial_id: str) -> WaitingTrial:
        """The trial runs no more, and its devices are free where they are still there."""
        trial, nodes, _ = self._running.pop(trial_id)
        self._hold(trial, nodes, -1)
        return trial

    def remember(self, configuration: str, nodes: Collection[str]) -> None:
        """A trial of the configuration ran on these nodes: an earlier run of the study, say."""

    @property
    def waiting(self) -> Mapping[str, WaitingTrial]:
        """What waits, by trial_id."""
        return self._waiting

    def _hold(self, trial: WaitingTrial, nodes: tuple[str, ...], sign: int) -> None:
        free = self._free.setdefault(trial.model, {})
        for node in nodes:
            free[node] = free.get(node, 0) - sign * (trial.count // trial.node_count)
