"""The devices that a study holds of Ray, on all nodes: lent to trials, taken back, and given back when of no more use.

Groups are bookkeeping over held devices, so that lending and taking back ask Ray nothing. What another Ray job holds
is not there; Ray grants it when that job lets it go.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from joulelaw.cluster.failures import Cause, ClusterError, GroupTimeoutError, NodeLostError
from joulelaw.cluster.nodes.held import Held, NodeDevices
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.ranks.gang import Gang, GangLimits, GangState, RankGang

ByModel = dict[str, dict[str, int]]  # device model -> node id -> number of devices


class DevicePool:
    """Holds and lends devices. `grant_s`: how long a study waits for Ray to grant any while nothing runs."""

    def __init__(self, limits: GangLimits | None = None, grant_s: float = 60.0) -> None:
        self._limits = limits
        self._grant_s = grant_s
        self._nodes: dict[str, NodeDevices] = {}
        self._leases: dict[int, tuple[RankGang, list[Held]]] = {}  # by the gang's id()
        self._smallest: dict[str, int] | None = None
        self._news = threading.Event()
        self._moved_s = time.monotonic()

    def add(self, node: Node, launcher: Any, ray_cpus: float, folders: Mapping[str, str]) -> None:
        """Asks Ray for the devices of a node. `folders`: what folders of the driver are called there."""
        self._nodes[node.node_id] = NodeDevices(node, launcher, ray_cpus, folders, self._news.set)
        self._moved_s = time.monotonic()

    def lose(self, node_id: str, what: str, cause: Cause) -> None:
        """Gives a node up: its devices are not there any more, and its ranks end as lost."""
        if node_id in self._nodes:
            self._nodes.pop(node_id).lose(what, cause)
            self._moved_s = time.monotonic()

    def advance(self) -> dict[str, ClusterError]:
        """Takes what Ray has granted, gives back what is of no use, asks for what is missing. Waits for nothing.

        What went wrong on nodes, by their id: such a node is of no use.
        """
        problems: dict[str, ClusterError] = {}
        for node_id, mine in self._nodes.items():
            try:
                if mine.take_grants():
                    self._moved_s = time.monotonic()
            except ClusterError as problem:
                problems[node_id] = problem
                continue
            # Ray may grant the useless devices of a node first: they are kept until the others have come.
            if any(self._is_useful(mine, each.model) and each.uuid not in mine.held for each in mine.node.devices):
                mine.ask_for_missing()
            else:
                mine.ask_no_more()
                for held in [each for each in mine.idle() if not self._is_useful(mine, each.device.model)]:
                    mine.give_back(held)
        return problems

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        """From now on only devices of these models are of use, on nodes that have at least so many of them."""
        self._smallest = dict(smallest)

    def _is_useful(self, mine: NodeDevices, model: str) -> bool:
        return self._smallest is None or mine.count(model) >= self._smallest.get(model, len(mine.node.devices) + 1)

    def retire(self, device_uuids: Collection[str]) -> None:
        """These devices are lost, though their nodes are not: they are lent no more."""
        for mine in self._nodes.values():
            mine.retired |= {device.uuid for device in mine.node.devices} & set(device_uuids)

    @property
    def asked(self) -> dict[str, int]:
        """How many devices Ray has not granted yet, by node id."""
        return {node_id: mine.asked for node_id, mine in self._nodes.items() if mine.asked}

    @property
    def quiet_s(self) -> float:
        """For how long nothing has come, gone, or been lent."""
        return time.monotonic() - self._moved_s

    def more_to_come(self) -> bool:
        """Whether Ray may still grant devices. GroupTimeoutError where it granted none for `grant_s`."""
        asked = self.asked
        if asked and self.quiet_s > self._grant_s:
            where = ", ".join(f"{number} on node {node_id[:6]}" for node_id, number in asked.items())
            raise GroupTimeoutError(
                f"Ray has granted no device for {self._grant_s:g} s, while this study has nothing running; it waits "
                f"for {where}: other Ray jobs hold them, or the CPUs beside them (see `ray status`)"
            )
        return bool(asked)

    def free_by_model(self) -> ByModel:
        """Held devices that no trial has. A node's models are all named, be there 0."""
        return self._counted(lambda held: not held.leased)

    def total_by_model(self) -> ByModel:
        """Held devices, lent or not."""
        return self._counted(lambda held: True)

    def _counted(self, counts: Callable[[Held], bool]) -> ByModel:
        found: ByModel = {}
        for node_id, mine in self._nodes.items():
            for device in mine.node.devices:
                on_nodes = found.setdefault(device.model, {})
                held = None if device.uuid in mine.retired else mine.held.get(device.uuid)
                on_nodes[node_id] = on_nodes.get(node_id, 0) + (held is not None and counts(held))
        return found

    def acquire(self, model: str, count: int, nodes: Sequence[str], avoid: Collection[str]) -> RankGang:
        """A gang over free devices of `model`, an equal share on each of `nodes`.

        Raises:
            NodeLostError: one of `nodes` is not there any more.
            ClusterError: the devices are lent out.
        """
        if lost := [node_id for node_id in nodes if node_id not in self._nodes]:
            raise NodeLostError(f"node {', '.join(each[:6] for each in lost)} is lost")
        taken = [held for each in nodes for held in self._nodes[each].choose(model, count // len(nodes), avoid)]
        for held in taken:
            held.leased = True
        gang = RankGang([held.seat() for held in taken], self._limits)
        self._leases[id(gang)] = gang, taken
        self._moved_s = time.monotonic()
        return gang

    def release(self, gang: Gang) -> None:
        """Takes a gang back, stopped if it still runs. What is lost of it, or still busy, is asked for anew."""
        if gang.state is GangState.RUNNING:
            gang.stop()
        own, taken = self._leases.pop(id(gang))
        self._moved_s = time.monotonic()
        for held in taken:
            held.leased = False
            mine = self._nodes.get(held.node_id)
            if mine is not None and (held.rank.is_lost or not own.healthy):
                mine.give_back(held)

    def wait(self, timeout_s: float) -> None:
        """Until any rank has news, at most `timeout_s`: without looking meanwhile, which would cost its cores time."""
        self._news.wait(timeout_s)
        self._news.clear()

    def close(self) -> None:
        """Stops what runs and gives all devices back to Ray."""
        gangs = [gang for gang, _ in self._leases.values()]
        for gang in gangs:
            gang.kill()
        for gang in gangs:
            gang.stop()
        for mine in self._nodes.values():
            mine.close()
        self._nodes.clear()
        self._leases.clear()
