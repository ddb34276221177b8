"""The cluster as a study sees it: nodes, groups of their devices, and the power of every node, over Ray."""

import contextlib
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from joulelaw import InputError
from joulelaw.cluster.changes import NodeChange
from joulelaw.cluster.failures import Cause, ClusterError, RayLostError
from joulelaw.cluster.gang import Gang, GangLimits, RankGang
from joulelaw.cluster.groups import GroupPool
from joulelaw.cluster.inventory import Node, with_distinct_uuids
from joulelaw.cluster.metering import ClockOffset, MeterInfo
from joulelaw.cluster.meters import NodeMeters
from joulelaw.cluster.nodes import Launcher, NodeHandle
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.raycalls import fetch
from joulelaw.cluster.raystart import RaySession, open_ray
from joulelaw.cluster.sampler_host import SamplerHost
from joulelaw.cluster.server import ServerStatus

_ANSWER_S = 60.0
_SERVER_S = 180.0  # torch, transformers and deepspeed from a cold network disk
_RETRIES = 3  # of a call to an actor that is just starting anew


class Cluster:
    """All nodes with devices. Make one with `connect`, and close it: it ends what it started, and nothing else."""

    def __init__(self, session: RaySession, handles: Sequence[NodeHandle], limits: GangLimits | None) -> None:
        self._session = session
        self._handles = tuple(handles)
        self._pool = GroupPool(handles, limits)
        self._meters = NodeMeters({handle.node.node_id: handle.sampler for handle in handles})
        self._closed = False

    @classmethod
    def connect(
        cls,
        address: str | None = None,
        *,
        preload: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        meter_options: MeterOptions | None = None,
        cores_per_device: int = 1,
        limits: GangLimits | None = None,
    ) -> Self:
        """Connects to the Ray at `address` or RAY_ADDRESS, or starts a local one, and starts two actors on each node.

        `preload` are the modules that ranks find imported, `env` goes to every rank. Without a GPU, a local node is
        cut into logical devices of `cores_per_device` cores. The fork servers load meanwhile; see `wait_ready`.
        """
        session = open_ray(address, cores_per_device)
        try:
            handles = _occupy(preload, dict(env or {}), meter_options or MeterOptions(), cores_per_device)
        except BaseException:
            session.close()
            raise
        return cls(session, handles, limits)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(handle.node for handle in self._handles)

    @property
    def meters(self) -> dict[str, MeterInfo]:
        """What reads each node's power, asked once. InputError if the meter asked for cannot be opened there."""
        return self._meters.infos

    def wait_ready(self) -> dict[str, ServerStatus]:
        """Waits until every node's fork server has imported its libraries. ForkServerError where one cannot."""
        answers = fetch([handle.launcher.status.remote() for handle in self._handles], _SERVER_S, "fork servers")
        return {handle.node.node_id: status for handle, status in zip(self._handles, answers, strict=True)}

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        """A gang over free devices, those whose UUIDs are in `avoid` last. Give it back with `release`."""
        return self._pool.acquire(model, count, node_count, nodes)

    def release(self, gang: Gang) -> None:
        """Takes a gang back: its devices are free again. Without Ray nobody is left who could stop it, or needs to."""
        if not self._session.lost:
            self._pool.release(gang)

    def wait(self, timeout_s: float) -> None:
        """Until any rank has news, at most `timeout_s`."""
        self._pool.wait(timeout_s)

    def free_by_model(self) -> dict[str, dict[str, int]]:
        """Free devices: model -> node id -> number; what the scheduler asks for."""
        return self._pool.free_by_model()

    def total_by_model(self) -> dict[str, dict[str, int]]:
        """The devices that are there, held by trials or not: model -> node id -> number. A lost node has none."""
        totals: dict[str, dict[str, int]] = {}
        for node in self.nodes:
            if node.node_id not in self.lost_nodes:
                for device in node.devices:
                    on_nodes = totals.setdefault(device.model, {})
                    on_nodes[node.node_id] = on_nodes.get(node.node_id, 0) + 1
        return totals

    def refresh(self) -> list[NodeChange]:
        """Takes up nodes that have come and gives up those that are lost; what has changed. To be called every 2 s."""
        return []

    @property
    def lost_nodes(self) -> dict[str, tuple[Cause, str]]:
        """The nodes that were lost so far, and why: NODE_LOST or NETWORK_CUT, and the same in words."""
        return {}

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        """Gives devices back that no waiting trial can use: `smallest` has for each model that any waiting trial
        wants the fewest devices that one takes on a node."""

    def more_to_come(self) -> bool:
        """Whether devices may still come, where nothing runs and nothing fits. GroupTimeoutError after too long."""
        return False

    @property
    def meter_losses(self) -> dict[str, int]:
        """How often the sampler of each node was lost so far, killed for instance."""
        return self._meters.losses

    def drain_power(self) -> dict[str, pa.RecordBatch]:
        """New readings by node id. RayLostError where the local Ray is gone."""
        self._session.check()
        return self._meters.drain()

    def clock_offsets(self) -> dict[str, ClockOffset]:
        """How far each node's clock is ahead of this process's; without nodes whose sampler does not answer."""
        return self._meters.clock_offsets()

    def watch(self, node_id: str, device_uuid: str, pids: Sequence[int]) -> bool:
        """Tells a node's meter which processes work on a device; whether it knows now. Only an estimate uses it."""
        return self._meters.watch(node_id, device_uuid, pids)

    def close(self) -> None:
        """Ends every rank, fork server and sampler, and the local Ray if it is ours. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if not self._session.lost:  # else all went with it
            with contextlib.suppress(ClusterError, RayError):  # what is lost already needs no ending
                self._pool.close()
            _vacate(self._handles)
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, RayLostError):
                self._session.check()  # a Ray that is gone shows in errors of all kinds
        finally:
            self.close()


def _occupy(
    preload: Sequence[str], env: Mapping[str, str], options: MeterOptions, cores_per_device: int
) -> list[NodeHandle]:
    """Starts the launchers on all nodes at once, asks for their devices, then starts the samplers."""
    offers = {entry["NodeID"]: entry["Resources"] for entry in ray.nodes() if entry["Alive"]}
    offers = {node_id: resources for node_id, resources in offers.items() if resources.get("GPU", 0) >= 1}
    if not offers:
        raise InputError(
            "no node of the Ray cluster offers a GPU", remedy="start nodes with --num-gpus, logical ones on a CPU"
        )
    launchers = {node_id: _pinned(Launcher, node_id).remote(preload, env) for node_id in offers}
    try:
        asked = [
            launchers[node_id].inspect.remote(node_id, cores_per_device, int(resources["GPU"]))
            for node_id, resources in offers.items()
        ]
        nodes = with_distinct_uuids(fetch(asked, _ANSWER_S, "taking the nodes' inventory"))
    except BaseException:
        for launcher in launchers.values():
            ray.kill(launcher)
        raise
    return [
        NodeHandle(
            node=node,
            launcher=launchers[node.node_id],
            sampler=_pinned(SamplerHost, node.node_id).remote(node.devices, options),
            ray_cpus=offers[node.node_id].get("CPU", 0.0),
        )
        for node in nodes
    ]


def _pinned(kind: type, node_id: str) -> Any:
    """An actor class that runs on one node, takes none of its resources, and starts anew if it dies."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(kind).options(
        num_cpus=0, num_gpus=0, max_restarts=-1, max_task_retries=_RETRIES, scheduling_strategy=strategy
    )


def _vacate(handles: Sequence[NodeHandle]) -> None:
    """Asks the actors to end what they own, and waits for it, before they are killed."""
    stops = [actor.stop.remote() for handle in handles for actor in (handle.launcher, handle.sampler)]
    with contextlib.suppress(RayError):
        ray.wait(stops, num_returns=len(stops), timeout=_ANSWER_S)
        for handle in handles:
            ray.kill(handle.launcher)
            ray.kill(handle.sampler)
