"""Which waiting trial goes on which free devices next. Plain bookkeeping, without a clock, chance or I/O.

When the first trial in order does not fit, the devices that it will get the soonest are kept for it, and others may
use them only as long as they do not delay it (EASY backfilling: Lifka, "The ANL/IBM SP scheduling system", 1995). So
no size waits for ever. The order is that of `waiting.WaitingTrials`.
"""

from collections.abc import Collection, Mapping
from functools import partial
from math import inf

from joulelaw.cluster.scheduling.capacity import Capacity, Reservation
from joulelaw.cluster.scheduling.scheduler import Assignment, FreeDevices, WaitingTrial
from joulelaw.cluster.scheduling.waiting import URGENT, Shape, WaitingTrials, micro

# So many trials that are next in turn may go in the place of one whose repeats had the only nodes that are free.
LIKE = 16


class Board:
    """What waits, what runs where, and what is free. The study's loop and the simulator keep one each.

    Equal histories give equal decisions. A loop does this:

        board.see(fleet.free_by_model())            # whenever devices may have come or gone
        while assignment := board.next(now_s):
            ... acquire, launch ...
            board.start(assignment, now_s)
        ...
        board.end(trial_id)                         # its devices are free again
        board.add(trial)                            # once more, where it is to be retried
    """

    def __init__(self) -> None:
        self._capacity = Capacity()
        self._queues: dict[str, WaitingTrials] = {}
        self._model_of: dict[str, str] = {}  # of what waits, by trial_id
        self._reserved: dict[str, Reservation] = {}  # by model
        self._looked_until: dict[str, float] = {}  # by model: nothing can start before, unless something changes

    def add(self, trial: WaitingTrial) -> None:
        """One more trial waits. ValueError where a trial of its name does already."""
        self._queues.setdefault(trial.model, WaitingTrials()).add(trial)
        self._model_of[trial.trial_id] = trial.model
        self._looked_until.pop(trial.model, None)

    def withdraw(self, trial_id: str) -> WaitingTrial:
        """The trial waits no more. KeyError where it does not."""
        model = self._model_of.pop(trial_id)
        self._looked_until.pop(model, None)
        return self._queues[model].remove(trial_id)

    def see(self, free_by_model: FreeDevices, one_trial_nodes: Collection[str] = ()) -> None:
        """Takes over which devices are free now: model -> node id -> number. What is not named is not there.

        On `one_trial_nodes` (their meter cannot tell devices apart) any trial is alone.
        """
        self._capacity.see(free_by_model, one_trial_nodes)

    def next(self, now_s: float) -> Assignment | None:
        """The next trial to start and its nodes, None where none should start now. Changes nothing: see `start`.

        `now_s` never goes back.
        """
        self._capacity.advance(now_s)
        for model in self._to_look_at(now_s):  # all reservations are known before others use what is left
            if (found := self._first(model, now_s)) is not None:
                return found
        for model in self._to_look_at(now_s):
            if (found := self._backfill(model, now_s)) is not None:
                return found
            self._looked_until[model] = self._urgent_s(model, now_s)
        return None

    def start(self, assignment: Assignment, now_s: float) -> WaitingTrial:
        """The trial runs from now on, and holds its devices. KeyError where it does not wait."""
        trial = self.withdraw(assignment.trial_id)
        self._capacity.hold(trial, assignment.nodes, now_s)
        return trial

    def end(self, trial_id: str) -> WaitingTrial:
        """The trial runs no more; its devices are free where they are still there. KeyError where it does not run."""
        return self._capacity.release(trial_id)

    def remember(self, configuration: str, nodes: Collection[str]) -> None:
        """A trial of the configuration ran on these nodes: in an earlier run of the study, say."""
        self._capacity.remember(configuration, nodes)

    @property
    def waiting(self) -> Collection[str]:
        """The trial_ids of what waits."""
        return self._model_of.keys()

    @property
    def reserved(self) -> Mapping[str, Reservation]:
        """By model: which trial's turn it is where it has to wait, and the devices that are kept for it."""
        return self._reserved

    def _to_look_at(self, now_s: float) -> list[str]:
        for model in self._capacity.touched:
            self._looked_until.pop(model, None)
        self._capacity.touched.clear()
        models = [model for model, queue in self._queues.items() if now_s >= self._looked_until.get(model, -inf)]
        # Where models share nodes that trials want for themselves: the one with the most to do goes first.
        return sorted(models, key=lambda model: (-self._left_s(model, now_s), model)) if len(models) > 1 else models

    def _first(self, model: str, now_s: float) -> Assignment | None:
        """The trial whose turn it is, if it fits; else devices are reserved for it."""
        before = self._reserved.pop(model, None)
        trial = None
        if self._queues[model].trials:
            possible = partial(self._capacity.is_possible, model)
            trial = self._queues[model].first(self._left_s(model, now_s), possible)
        reserved = None
        if trial is not None:
            if (nodes := self._capacity.choose(trial, {})) is not None:
                self._look_again(before)
                if trial.expected_s * URGENT >= self._left_s(model, now_s):
                    return Assignment(trial.trial_id, nodes)
                return self._fresh(trial, nodes, {})
            reserved = self._capacity.reserve(trial, before)
        if reserved is not None:
            self._reserved[model] = reserved
        if reserved != before:
            self._look_again(before)
            self._look_again(reserved)
        return None

    def _backfill(self, model: str, now_s: float) -> Assignment | None:
        """Any other trial of the model that delays nothing for which devices are reserved."""
        if model not in self._capacity.models or not self._capacity.models[model].lends_any:
            return None
        sharing = self._capacity.sharing
        reserved = [each for each in self._reserved.values() if model in sharing(each.spare)]
        # What ends in time is not bound by a reservation: of a bucket, the longest such trial is looked at.
        windows_s = sorted({inf, *(each.latest_s - now_s for each in reserved)}, reverse=True)
        fits_nowhere: set[tuple[Shape, tuple[int, ...]]] = set()
        for bucket in self._queues[model].open:
            for trial_id in dict.fromkeys(bucket.longest(within_s) for within_s in windows_s):
                if trial_id is None:
                    continue
                trial = self._queues[model].trials[trial_id]
                binding = tuple(i for i, each in enumerate(reserved) if trial.expected_s > each.latest_s - now_s)
                if (bucket.key[-1], binding) in fits_nowhere:
                    continue
                limits = self._limits(trial, [reserved[i] for i in binding])
                nodes = self._capacity.choose(trial, limits)
                if nodes is not None:
                    return self._fresh(trial, nodes, limits)
                fits_nowhere.add((bucket.key[-1], binding))
        return None

    def _fresh(self, trial: WaitingTrial, nodes: tuple[str, ...], limits: Mapping[str, int]) -> Assignment:
        """The trial on these nodes, or, where a repeat of it ran there before, a like one for which that is not so.

        Like: of its wave and size, and next to it in length. `limits` hold for what is shorter, too.
        """
        if self._capacity.has_used(trial, nodes):
            queue = self._queues[trial.model]
            for trial_id in queue.open.of(trial).after(trial, LIKE):
                like = queue.trials[trial_id]
                found = self._capacity.choose(like, limits)
                if found is not None and not self._capacity.has_used(like, found):
                    return Assignment(trial_id, found)
        return Assignment(trial.trial_id, nodes)

    def _limits(self, trial: WaitingTrial, reserved: list[Reservation]) -> dict[str, int]:
        """By node: how many devices the trial may use without being in the way of what is reserved."""
        limits: dict[str, int] = {}
        for each in reserved:
            for node, spare in each.spare.items():
                apart = self._capacity.needs_idle(trial, node) or self._capacity.needs_idle(each.trial, node)
                if apart:
                    limits[node] = 0
                elif each.trial.model == trial.model:
                    limits[node] = min(spare, limits.get(node, spare))
        return limits

    def _look_again(self, reserved: Reservation | None) -> None:
        """Other models with devices on the nodes of a reservation that is new, or no more."""
        if reserved is not None:
            for model in self._capacity.sharing(reserved.spare) - {reserved.trial.model}:
                self._looked_until.pop(model, None)

    def _left_s(self, model: str, now_s: float) -> float:
        """What the model's part of the study still takes at best: its work, divided by its devices."""
        mine = self._capacity.models.get(model)
        if mine is None or not mine.total:
            return inf
        left_us = self._queues[model].work_us + mine.held_until_us - mine.held * micro(now_s)
        return round(left_us / mine.total) * 1e-6

    def _urgent_s(self, model: str, now_s: float) -> float:
        """When a trial becomes urgent that is not now, as what is left shrinks while it waits."""
        mine = self._capacity.models.get(model)
        left_s = self._left_s(model, now_s)
        longest = self._queues[model].longest(partial(self._capacity.is_possible, model))
        if mine is None or not mine.held or longest is None or longest.longest_s * URGENT >= left_s:
            return inf
        return now_s + (left_s - longest.longest_s * URGENT) * mine.total / mine.held
