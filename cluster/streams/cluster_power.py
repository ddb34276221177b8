"""The power of a cluster's nodes, as a study asks for it: the part of `Cluster` that is no business of devices."""

from collections.abc import Collection, Mapping, Sequence

import pyarrow as pa

from joulelaw.cluster.raystart import RaySession
from joulelaw.cluster.streams.metering import ClockOffset
from joulelaw.cluster.streams.meters import NodeMeters


class ClusterPower:
    """The meters of all nodes that are or were of use."""

    def __init__(self, session: RaySession) -> None:
        self._session = session
        self._meters = NodeMeters()

    @property
    def meter_losses(self) -> dict[str, int]:
        """How often the sampler of each node was lost so far, killed for instance."""
        return self._meters.losses

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        """New readings by node id, of these nodes or of all. RayLostError where the local Ray is gone."""
        self._session.check()
        return self._meters.drain(nodes)

    @property
    def power_drained_s(self) -> dict[str, float]:
        """By time.monotonic, until when each node's readings were drained; a node that is silent falls behind."""
        return self._meters.drained_s

    @property
    def power_dropped(self) -> dict[str, int]:
        """How many readings of each node were dropped, as nobody fetched them for minutes."""
        return self._meters.dropped

    def clock_offsets(self) -> dict[str, ClockOffset]:
        """How far each node's clock is ahead of this process's; without nodes whose sampler does not answer."""
        return self._meters.clock_offsets()

    def watch(self, node_id: str, pids: Mapping[str, Sequence[int]]) -> bool:
        """Tells a node's meter which processes work on devices, by UUID; whether it knows now."""
        return self._meters.watch(node_id, pids)
