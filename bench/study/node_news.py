"""What is told and stored of nodes as they come and go: events, the environment, and what is worth a word."""

import os
from collections.abc import Callable, Collection

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.plan.meter import NO_JOULES
from joulelaw.bench.study.environment import describe_node
from joulelaw.bench.study.fleet import Fleet
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.versions import notes


class NodeNews:
    """The news of one run. The nodes that are there as it begins are in its environment already."""

    def __init__(self, fleet: Fleet, dataset: Dataset, tell: Callable[[str], None]) -> None:
        self._fleet, self._dataset, self._tell = fleet, dataset, tell
        self._known = {node.node_id for node in fleet.nodes}
        self._ready: set[str] = set()
        self._said: set[str] = set()

    def changes(self) -> list[NodeChange]:
        """What has changed since the last call, noted and told."""
        found = self._fleet.refresh()
        for change in found:
            nodes, uuids = [change.node_id], change.device_uuids
            self._dataset.note(change.kind, nodes=nodes, device_uuids=uuids, cause=change.cause, detail=change.text)
            if change.kind != "node_joined" or change.node_id not in self._known:  # who was there is no news
                self._tell(change.text)
        joined = {change.node_id for change in found if change.kind == "node_joined"} - self._known
        if joined:
            self._known |= joined
            self._dataset.add_nodes([describe_node(node) for node in self._fleet.nodes if node.node_id in joined])
        return found

    def tell_of(self, ready: Collection[str]) -> None:
        """Of nodes that have just become ready: what differs from the others, and does no harm. Each word once."""
        if not (new := set(ready) - self._ready):
            return
        self._ready |= new
        meters = self._fleet.meters
        if "RAY_ADDRESS" in os.environ:  # of this machine the command has told already
            blind = (node_id for node_id in sorted(new) if node_id in meters and meters[node_id].kind == "none")
            self._say(*(f"node {node_id[:6]}: {NO_JOULES}" for node_id in blind))
        clocks = {node_id: clock for node_id, clock in self._fleet.clock_offsets().items() if node_id in new}
        self._say(*notes(self._fleet.nodes, clocks))

    def _say(self, *lines: str) -> None:
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                self._tell(line)
