"""One machine without Ray: the same face as Cluster, so that a trial, or a study, runs alone by the same code."""

import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Self

import pyarrow as pa

from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import Node, inspect_node
from joulelaw.cluster.nodes.topology import neighbours
from joulelaw.cluster.power.meter import MeterOptions, open_meter
from joulelaw.cluster.power.sampler import Sampler
from joulelaw.cluster.ranks.gang import Gang, GangLimits, GangState, RankGang
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.server import ForkServer, ServerStatus
from joulelaw.cluster.scheduling.feasible import check_feasible
from joulelaw.cluster.streams.metering import HERE, ClockOffset, MeterInfo, readings_batch

_LOOK_EVERY_S = 0.05


class LocalCluster:
    """This machine's devices, a fork server and a sampler. Make one with `connect`, and close it."""

    def __init__(self, node: Node, server: ForkServer, sampler: Sampler, limits: GangLimits | None) -> None:
        self._node = node
        self._server = server
        self._sampler = sampler
        self._limits = limits
        self._gangs: list[RankGang] = []
        self._retired: set[str] = set()
        self._drained_s = time.monotonic()

    @classmethod
    def connect(
        cls,
        *,
        preload: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        meter_options: MeterOptions | None = None,
        cores_per_device: int = 1,
        limits: GangLimits | None = None,
    ) -> Self:
        """Starts the fork server and the sampler of this machine; see Cluster.connect. InputError for a bad meter."""
        options = meter_options or MeterOptions()
        node = inspect_node(cores_per_device=cores_per_device)
        meter = open_meter(node.devices, options)
        server = ForkServer(preload, env)
        server.start()
        return cls(node, server, Sampler(meter, options.rate_hz), limits)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return (self._node,)

    @property
    def meters(self) -> dict[str, MeterInfo]:
        return {self._node.node_id: MeterInfo.of(self._sampler.meter)}

    def wait_first(self) -> None:
        """As `wait_ready`: there is no other node."""
        self.wait_ready()

    def wait_ready(self) -> dict[str, ServerStatus]:
        """Waits until the fork server has imported its libraries. ForkServerError where it cannot."""
        return {self._node.node_id: self._server.wait_ready()}

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        """A gang over free devices. InfeasibleGroupError if there are too few, ClusterError if they are lent out."""
        check_feasible([self._node], model, count, node_count)
        free = {device.uuid: device for device in self._node.devices if device.uuid not in self._busy}
        chosen = neighbours(self._node, free, count, model, avoid)
        if not chosen:
            there = sum(device.model == model for device in free.values())
            raise ClusterError(f"{count} x {model} are not free now: {there} are")
        gang = LocalGang(self._server, [free[uuid] for uuid in chosen], self._node.node_id, self._limits)
        self._gangs.append(gang)
        return gang

    def release(self, gang: Gang) -> None:
        """Takes a gang back, stopped if it still runs: its devices are free again."""
        if gang.state is GangState.RUNNING:
            gang.stop()
        self._gangs = [other for other in self._gangs if other is not gang]

    def wait(self, timeout_s: float) -> None:
        """As Cluster's, but without Ray looking often costs nothing."""
        time.sleep(min(timeout_s, _LOOK_EVERY_S))

    def free_by_model(self) -> dict[str, dict[str, int]]:
        """Free devices: model -> node id -> number."""
        busy = self._busy
        free: dict[str, dict[str, int]] = {}
        for device in self._node.devices:
            on_node = free.setdefault(device.model, {self._node.node_id: 0})
            on_node[self._node.node_id] += device.uuid not in busy
        return free

    def total_by_model(self) -> dict[str, dict[str, int]]:
        """All devices: model -> node id -> number."""
        models = Counter(device.model for device in self._node.devices if device.uuid not in self._retired)
        return {model: {self._node.node_id: number} for model, number in models.items()}

    def refresh(self) -> list[NodeChange]:
        """Nothing: this machine neither joins nor leaves."""
        return []

    @property
    def lost_nodes(self) -> dict[str, tuple[Cause, str]]:
        """None."""
        return {}

    @property
    def _busy(self) -> set[str]:
        return self._retired | {device.uuid for gang in self._gangs for device in gang.devices}

    def retire(self, device_uuids: Collection[str]) -> None:
        """Lends these devices no more."""
        self._retired |= set(device_uuids)

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        """Nobody else waits for them."""

    def more_to_come(self) -> bool:
        """No: all is there from the start."""
        return False

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        """New readings by node id; there is but one."""
        self._drained_s = time.monotonic()
        return {self._node.node_id: readings_batch(self._sampler.meter.name, self._sampler.drain())}

    @property
    def power_drained_s(self) -> dict[str, float]:
        """By time.monotonic, until when readings were drained."""
        return {self._node.node_id: self._drained_s}

    @property
    def power_dropped(self) -> dict[str, int]:
        """How many readings were dropped, as nobody fetched them for minutes."""
        return {self._node.node_id: self._sampler.dropped}

    def metrics(self) -> None:
        """Nobody exports any."""

    @property
    def meter_losses(self) -> dict[str, int]:
        """None: the sampler is a thread of this process."""
        return {self._node.node_id: 0}

    def clock_offsets(self) -> dict[str, ClockOffset]:
        """None: the sampler reads the clock of this very machine."""
        return {self._node.node_id: HERE}

    def watch(self, node_id: str, pids: Mapping[str, Sequence[int]]) -> bool:
        """Tells the meter which processes work on devices, by UUID. Only an estimate uses it."""
        for device_uuid, its in pids.items():
            self._sampler.watch(device_uuid, its)
        return True

    def close(self) -> None:
        """Ends every rank, the fork server and the sampler. Safe to call twice."""
        for gang in list(self._gangs):
            self.release(gang)
        self._server.close()
        self._sampler.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
