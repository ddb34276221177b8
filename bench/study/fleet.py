"""What a study needs of the machines it runs on: a cluster of Ray's, or this machine alone."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

from joulelaw.bench.study.metrics import Endpoint
from joulelaw.bench.study.power_feed import PowerFeed
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.ranks.gang import Gang, RankGang

ByModel = dict[str, dict[str, int]]
"""Device model -> node id -> number of devices."""


def offered(nodes: Iterable[Node]) -> ByModel:
    """The devices that nodes have, be they granted yet or not."""
    found: ByModel = {}
    for node in nodes:
        for model, number in Counter(device.model for device in node.devices).items():
            found.setdefault(model, {})[node.node_id] = number
    return found


class Fleet(PowerFeed, Protocol):
    """Devices that come and go, lent to trials. Nothing here waits for a node but `release` of a gang that runs."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...
    @property
    def lost_nodes(self) -> Mapping[str, tuple[Cause, str]]:
        """Nodes that are gone, with the cause and what is known of it in words."""
        ...

    def refresh(self) -> list[NodeChange]:
        """Which nodes joined, were lost or cannot be used since the last call."""
        ...

    def free_by_model(self) -> ByModel: ...
    def total_by_model(self) -> ByModel: ...
    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang: ...
    def release(self, gang: Gang) -> None: ...
    def retire(self, device_uuids: Collection[str]) -> None:
        """Lends these devices no more: they are lost, be their node as well as before."""
        ...

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        """Of use are devices of these models, on nodes with at least so many of them."""
        ...

    def more_to_come(self) -> bool:
        """Whether devices may still come where nothing runs. GroupTimeoutError after too long."""
        ...

    def metrics(self) -> Endpoint | None:
        """Where a study tells how it stands; None where nobody could look."""
        ...

    def wait(self, timeout_s: float) -> None:
        """Until any rank has news."""
        ...
