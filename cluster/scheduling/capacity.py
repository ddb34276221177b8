"""Devices by node: how many are free, when more will be, and which nodes a group gets."""

import heapq
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from math import inf

from joulelaw.cluster.scheduling.scheduler import FreeDevices, WaitingTrial
from joulelaw.cluster.scheduling.soonest import Soonest
from joulelaw.cluster.scheduling.waiting import Shape, micro, shape_of

# A trial that outlasts its forecast is expected to take this part of it more, and so on: about what is left, on
# average, of a duration with 30 % of lognormal scatter that has come to its median.
OVERRUN = 0.2
# A trial whose turn it is can be kept waiting this part of its own forecast longer, counted once, from when its turn
# came. Else, of two trials of the same length, the second would leave a device idle for having come a moment later.
PATIENCE = 0.1


@dataclass
class Run:
    """A trial on its nodes. `end_s` is when it is expected to end, by the clock that `began_s` is of."""

    trial: WaitingTrial
    nodes: tuple[str, ...]
    began_s: float
    end_s: float


@dataclass(frozen=True)
class Reservation:
    """The nodes that a trial will get, when it is expected to, and the devices that it will leave over on each.

    Other trials may hold them until `latest_s`.
    """

    trial: WaitingTrial
    start_s: float
    latest_s: float
    spare: Mapping[str, int]


@dataclass
class ModelDevices:
    """The devices of one model: `free` ones and all (`size`) by node. A closed node lends none of its free ones."""

    free: dict[str, int] = field(default_factory=dict)
    size: dict[str, int] = field(default_factory=dict)
    total: int = 0
    held: int = 0
    held_until_us: int = 0  # sum of the expected ends of all devices that are held
    ready: dict[str, list[float]] = field(default_factory=dict)  # by node: when 1, 2, ... devices are free; -inf: now
    soonest: dict[tuple[int, bool], Soonest] = field(default_factory=dict)  # by devices on a node, and alone there
    _listed: dict[str, int] = field(default_factory=dict)  # by node: the free number it is listed under
    _by_free: dict[int, list[str]] = field(default_factory=dict)  # nodes by name; no list is empty

    def list_as(self, node: str, free: int) -> None:
        """From now on the node lends `free` devices."""
        before = self._listed.pop(node, 0)
        if before:
            nodes = self._by_free[before]
            del nodes[bisect_left(nodes, node)]
            if not nodes:
                del self._by_free[before]
        if free > 0:
            self._listed[node] = free
            insort(self._by_free.setdefault(free, []), node)

    def lending(self, share: int = 1) -> Iterator[str]:
        """Nodes that lend at least `share` devices: those with the least left over first, so that big gaps stay."""
        for free in sorted(self._by_free):
            if free >= share:
                yield from self._by_free[free]

    @property
    def lends_any(self) -> bool:
        return bool(self._by_free)


class Capacity:
    """All nodes, what runs on them, and who ran where before."""

    def __init__(self) -> None:
        self.models: dict[str, ModelDevices] = {}
        self.runs: dict[str, Run] = {}
        self._there: dict[str, dict[str, None]] = {}  # node -> trials that run there
        self._models_on: dict[str, set[str]] = {}
        self._one_trial: frozenset[str] = frozenset()
        self._used: dict[str, set[str]] = {}  # configuration -> nodes
        self._ends: list[tuple[float, str]] = []  # a heap; with entries of what ended or is expected later
        self._possible: dict[tuple[str, Shape], bool] = {}
        self.touched: set[str] = set()
        """Models of which something has changed; whoever has looked clears it."""

    def see(self, free_by_model: FreeDevices, one_trial_nodes: Collection[str] = ()) -> None:
        """As Board.see."""
        if self._one_trial != frozenset(one_trial_nodes):
            changed = self._one_trial.symmetric_difference(one_trial_nodes)
            self._one_trial = frozenset(one_trial_nodes)
            for node in changed:
                self._touch(node)
        for model in self.models.keys() | free_by_model.keys():
            mine = self.models.setdefault(model, ModelDevices())
            now = free_by_model.get(model, {})
            if mine.free == now:
                continue
            for node in mine.free.keys() | now.keys():
                if mine.free.get(node) != now.get(node):
                    self._set_free(model, node, now.get(node))

    def hold(self, trial: WaitingTrial, nodes: tuple[str, ...], now_s: float) -> None:
        run = Run(trial, nodes, now_s, now_s + trial.expected_s)
        self.runs[trial.trial_id] = run
        heapq.heappush(self._ends, (run.end_s, trial.trial_id))
        self.remember(trial.configuration, nodes)
        self._count(run, 1)

    def release(self, trial_id: str) -> WaitingTrial:
        run = self.runs.pop(trial_id)
        self._count(run, -1)
        return run.trial

    def remember(self, configuration: str, nodes: Collection[str]) -> None:
        if configuration:
            self._used.setdefault(configuration, set()).update(nodes)

    def advance(self, now_s: float) -> None:
        """Gives what has outlasted its forecast more time."""
        while self._ends and self._ends[0][0] <= now_s:
            end_s, trial_id = heapq.heappop(self._ends)
            run = self.runs.get(trial_id)
            if run is None or run.end_s != end_s:
                continue
            expected_s = max(run.trial.expected_s, 1e-3)
            while run.end_s <= now_s:
                expected_s *= 1 + OVERRUN
                run.end_s = run.began_s + expected_s
            self.models[run.trial.model].held_until_us += (micro(run.end_s) - micro(end_s)) * run.trial.count
            heapq.heappush(self._ends, (run.end_s, trial_id))
            for node in run.nodes:
                self._touch(node)

    def is_possible(self, model: str, shape: Shape) -> bool:
        """Whether the nodes that are there could form such a group, all of them free."""
        known = self._possible.get((model, shape))
        if known is None:
            count, node_count, _ = shape
            sizes = self.models[model].size.values() if model in self.models else ()
            enough = sum(size >= count // node_count for size in sizes) >= node_count
            known = self._possible[model, shape] = enough and count % node_count == 0
        return known

    def choose(self, trial: WaitingTrial, limits: Mapping[str, int]) -> tuple[str, ...] | None:
        """Nodes with the trial's share free: none that its configuration has used if that can be, and full ones first.

        `limits` are the devices that may be used at most, by node, where that is less than what is free.
        """
        share = _share(trial)
        used = self._used.get(trial.configuration, ())
        fresh: list[str] = []
        again: list[str] = []
        for node in self.models[trial.model].lending(share):
            if limits.get(node, share) < share or (trial.alone_on_node and self._there.get(node)):
                continue
            (again if node in used else fresh).append(node)
            if len(fresh) == trial.node_count:
                return tuple(fresh)
        nodes = (*fresh, *again)[: trial.node_count]
        return nodes if len(nodes) == trial.node_count else None

    def has_used(self, trial: WaitingTrial, nodes: Collection[str]) -> bool:
        """Whether its configuration ran on any of these nodes before."""
        return not self._used.get(trial.configuration, set()).isdisjoint(nodes)

    def reserve(self, trial: WaitingTrial, before: Reservation | None) -> Reservation | None:
        """Where and when the trial can start by the forecasts of what runs, None where it never can.

        `before` is what was reserved when this was asked last: for the same trial, `latest_s` stays.
        """
        mine = self.models[trial.model]
        share = _share(trial)
        kind = share, trial.alone_on_node
        if kind not in mine.soonest:
            mine.soonest[kind] = Soonest(mine.size, lambda node: self._ready_s(trial.model, node, *kind))
        soonest = mine.soonest[kind].take(trial.node_count)
        if len(soonest) < trial.node_count or not self.is_possible(trial.model, shape_of(trial)):
            return None
        start_s = soonest[-1][0]
        spare = {
            node: 0 if self.needs_idle(trial, node) else bisect_right(self._ready(trial.model, node), start_s) - share
            for _, node in soonest
        }
        latest_s = start_s + PATIENCE * trial.expected_s
        if before is not None and before.trial == trial:
            latest_s = before.latest_s
        return Reservation(trial, start_s, max(start_s, latest_s), spare)

    def needs_idle(self, trial: WaitingTrial, node: str) -> bool:
        """Whether the trial would have the node for itself."""
        return trial.alone_on_node or node in self._one_trial

    def sharing(self, nodes: Collection[str]) -> set[str]:
        """The models of which these nodes have devices."""
        return {model for node in nodes for model in self._models_on.get(node, ())}

    def _ready_s(self, model: str, node: str, share: int, alone: bool) -> float | None:
        """When the node has so many devices free, None where it has not as many."""
        if self.models[model].size.get(node, 0) < share:
            return None
        if alone or node in self._one_trial:
            return self._idle_s(node)
        return self._ready(model, node)[share - 1]

    def _idle_s(self, node: str) -> float:
        return max((self.runs[trial_id].end_s for trial_id in self._there.get(node, ())), default=-inf)

    def _ready(self, model: str, node: str) -> list[float]:
        mine = self.models[model]
        ready = mine.ready.get(node)
        if ready is None:
            if self._is_closed(node):
                ready = [self._idle_s(node)] * mine.size[node]
            else:
                runs = [self.runs[trial_id] for trial_id in self._there.get(node, ())]
                held = [
                    [run.end_s] * (run.trial.count // run.trial.node_count) for run in runs if run.trial.model == model
                ]
                ready = sorted([-inf] * mine.free[node] + [end_s for ends in held for end_s in ends])
            mine.ready[node] = ready
        return ready

    def _is_closed(self, node: str) -> bool:
        there = self._there.get(node, {})
        return any(node in self._one_trial or self.runs[trial_id].trial.alone_on_node for trial_id in there)

    def _count(self, run: Run, sign: int) -> None:
        trial = run.trial
        mine = self.models[trial.model]
        mine.held += sign * trial.count
        mine.held_until_us += sign * trial.count * micro(run.end_s)
        for node in run.nodes:
            there = self._there.setdefault(node, {})
            if sign > 0:
                there[trial.trial_id] = None
            else:
                del there[trial.trial_id]
            if node in mine.free:
                mine.free[node] -= sign * _share(trial)
            self._touch(node)

    def _set_free(self, model: str, node: str, free: int | None) -> None:
        """None: the node is not there, or no longer."""
        mine = self.models[model]
        mine.total -= mine.size.pop(node, 0)
        mine.free.pop(node, None)
        self._models_on.setdefault(node, set()).add(model)
        if free is not None:
            runs = [self.runs[trial_id].trial for trial_id in self._there.get(node, ())]
            held = sum(_share(trial) for trial in runs if trial.model == model)
            mine.free[node], mine.size[node] = free, free + held
            mine.total += free + held
        self._possible = {key: known for key, known in self._possible.items() if key[0] != model}
        self._touch(node)

    def _touch(self, node: str) -> None:
        """Something has changed there: what was worked out about the node is worked out anew."""
        closed = self._is_closed(node)
        for model in self._models_on.get(node, ()):
            mine = self.models[model]
            mine.ready.pop(node, None)
            for soonest in mine.soonest.values():
                soonest.forget(node)
            mine.list_as(node, 0 if closed else mine.free.get(node, 0))
            self.touched.add(model)


def _share(trial: WaitingTrial) -> int:
    """Devices on each node."""
    return trial.count // trial.node_count
