"""Which waiting trial goes on which free devices next. Pure functions: the study's loop only carries them out.

Big groups first, then long trials: wide trials pack without gaps while all devices are still in play, and the narrow
ones fill what is left over and even out the end. Trials of one size follow each other, so that groups stay open. A
trial so long that it alone decides the end goes before all. When the first trial in this order does not fit, the
devices that it will get are kept for it, and others may use them only as long as they do not delay it (EASY
backfilling: Lifka, "The ANL/IBM SP scheduling system", 1995). So nothing waits for ever, whatever its size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joulelaw.cluster.feasible import check_feasible as check_feasible

FreeDevices = Mapping[str, Mapping[str, int]]  # device model -> node id -> free devices


@dataclass(frozen=True)
class WaitingTrial:
    """A trial to place: `count` devices of `model`, the same number on each of `node_count` nodes.

    `expected_s` is the forecast of its duration. Trials of an earlier `wave` go first (say, one repeat after another).
    No trial of a `case` starts while a `baseline` of that case and of no later wave still waits. Nodes on which a trial
    of the same `configuration` ran before, or was tried, come last. `alone_on_node`: it starts on nodes on which
    nothing runs, and nothing joins it there.
    """

    trial_id: str
    model: str
    count: int
    expected_s: float
    node_count: int = 1
    wave: int = 0
    baseline: bool = False
    configuration: str = ""
    case: str = ""
    alone_on_node: bool = False


@dataclass(frozen=True)
class RunningTrial:
    """A trial that holds `count` devices of `model` on `nodes`, for `remaining_s` more by its forecast."""

    model: str
    count: int
    nodes: tuple[str, ...]
    remaining_s: float


@dataclass(frozen=True)
class Assignment:
    trial_id: str
    nodes: tuple[str, ...]


def next_assignment(
    waiting: Sequence[WaitingTrial], free_by_model: FreeDevices, running: Sequence[RunningTrial] = ()
) -> Assignment | None:
    """The next trial to start and its nodes, or None where nothing should start now. Call again until None.

    Models do not compete: a model whose first trial has to wait leaves the others' devices to them.
    """
    for model in dict.fromkeys(trial.model for trial in waiting):
        mine = [trial for trial in waiting if trial.model == model]
        free = dict(free_by_model.get(model, {}))
        found = _next_of_model(mine, free, [trial for trial in running if trial.model == model])
        if found is not None:
            return found
    return None


def _next_of_model(waiting: list[WaitingTrial], free: dict[str, int], running: list[RunningTrial]) -> Assignment | None:
    if not any(free.values()):
        return None
    first, *others = _in_order(waiting, free, running)
    nodes = choose_nodes(free, first.count, first.node_count)
    if nodes:
        return Assignment(first.trial_id, nodes)
    start_s, kept = _reservation(first, free, running)
    share = first.count // first.node_count
    for trial in others:
        if trial.expected_s <= start_s:
            usable = free
        else:  # it would still run when the first may start: only what that one leaves over
            usable = {node: min(n, kept[node] - share) if node in kept else n for node, n in free.items()}
        nodes = choose_nodes(usable, trial.count, trial.node_count)
        if nodes:
            return Assignment(trial.trial_id, nodes)
    return None


def _in_order(waiting: list[WaitingTrial], free: dict[str, int], running: list[RunningTrial]) -> list[WaitingTrial]:
    """By wave; then what is as long as all the rest of the work together, big groups, long trials."""
    devices = sum(free.values()) + sum(trial.count for trial in running)
    work_s = sum(trial.expected_s * trial.count for trial in waiting)
    work_s += sum(trial.remaining_s * trial.count for trial in running)
    end_s = work_s / max(1, devices)

    def key(trial: WaitingTrial) -> tuple[int, bool, int, float, str]:
        return trial.wave, trial.expected_s < end_s, -trial.count, -trial.expected_s, trial.trial_id

    return sorted(waiting, key=key)


def _reservation(
    trial: WaitingTrial, free: dict[str, int], running: list[RunningTrial]
) -> tuple[float, dict[str, int]]:
    """When the trial can start by the running ones' forecasts (s from now), and the devices free then on its nodes."""
    later = dict(free)
    for ending in sorted(running, key=lambda r: r.remaining_s):
        for node in ending.nodes:
            later[node] = later.get(node, 0) + ending.count // len(ending.nodes)
        nodes = choose_nodes(later, trial.count, trial.node_count)
        if nodes:
            return ending.remaining_s, {node: later[node] for node in nodes}
    return math.inf, {}  # it fits nowhere even when all is free: it holds nobody up


def choose_nodes(free: Mapping[str, int], count: int, node_count: int = 1) -> tuple[str, ...] | None:
    """The nodes for `count` devices, an equal share on each: those with the least left over, so that big gaps stay.

    >>> choose_nodes({"a": 4, "b": 2}, count=2)
    ('b',)
    """
    share = count // node_count
    fitting = sorted((left, node) for node, left in free.items() if left >= share)
    if count % node_count or len(fitting) < node_count:
        return None
    return tuple(node for _, node in fitting[:node_count])
