"""What the scheduler is asked and what it answers. It is `board.Board` that decides."""

from collections.abc import Mapping
from dataclasses import dataclass

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
class Assignment:
    """A trial and the nodes that it is to run on, the same number of devices on each."""

    trial_id: str
    nodes: tuple[str, ...]


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
