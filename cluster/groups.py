"""Groups of devices on Ray: placement groups with a RankHost per device, kept open for the next trial of their size."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from joulelaw.cluster.failures import Cause, ClusterError, GroupTimeoutError, NodeLostError
from joulelaw.cluster.gang import Gang, GangLimits, GangState, RankGang, Seat
from joulelaw.cluster.nodes import NodeHandle, device_of
from joulelaw.cluster.raycalls import fetch
from joulelaw.cluster.remote import Place, RankHost, RemoteRank
from joulelaw.cluster.scheduler import check_feasible, choose_nodes

_HOST_THREADS = 3  # a poll that waits, and room for what is said meanwhile
_CPU_SHARE_STEPS = 10_000  # Ray's smallest share of a CPU is 0.0001


@dataclass
class _Group:
    """An open group: Ray's placement group, its actors, and the gang over them."""

    model: str
    count: int
    nodes: tuple[str, ...]  # one entry per rank
    placement: PlacementGroup
    actors: tuple[Any, ...]
    ranks: tuple[RemoteRank, ...]
    gang: RankGang
    leased: bool = True


class GroupPool:
    """Opens, lends and closes groups. Devices of a group that is open but not lent count as free.

    `grant_s` is how long Ray may take to grant a group.
    """

    def __init__(self, handles: Sequence[NodeHandle], limits: GangLimits | None = None, grant_s: float = 60.0) -> None:
        self._handles = {handle.node.node_id: handle for handle in handles}
        self._nodes = {node_id: handle.node for node_id, handle in self._handles.items()}
        self._limits = limits
        self._grant_s = grant_s
        self._groups: list[_Group] = []
        self._lost: set[str] = set()

    def free_by_model(self) -> dict[str, dict[str, int]]:
        """Devices that no trial holds: model -> node id -> number. A lost node has none."""
        busy = {device.uuid for group in self._groups if group.leased for device in group.gang.devices}
        free: dict[str, dict[str, int]] = {}
        for node_id, node in self._nodes.items():
            for device in node.devices:
                on_nodes = free.setdefault(device.model, {})
                free_here = device.uuid not in busy and node_id not in self._lost
                on_nodes[node_id] = on_nodes.get(node_id, 0) + free_here
        return free

    def acquire(self, model: str, count: int, node_count: int = 1, nodes: Sequence[str] | None = None) -> RankGang:
        """A gang over `count` free devices of `model`, on `nodes` or where they fit; at once where it is open already.

        InfeasibleGroupError if the cluster can never form it, ClusterError if its devices are lent out now,
        NodeLostError if a node is gone: it counts as without free devices from then on; GroupTimeoutError if Ray does
        not grant the group, because other Ray jobs hold the devices.
        """
        check_feasible(list(self._nodes.values()), model, count, node_count)
        self._note_lost_nodes()
        if lost := self._lost.intersection(nodes or ()):
            raise NodeLostError(f"node {', '.join(sorted(each[:6] for each in lost))} is lost")
        for group in self._groups:
            same = (group.model, group.count, len(set(group.nodes))) == (model, count, node_count)
            fit = not group.leased and self._lost.isdisjoint(group.nodes)
            if same and fit and (nodes is None or set(nodes) == set(group.nodes)):
                group.leased = True
                return group.gang
        chosen = nodes or choose_nodes(self.free_by_model()[model], count, node_count)
        if not chosen:
            free = sum(self.free_by_model()[model].values())
            raise ClusterError(f"{count} x {model} on {node_count} node(s) are not free now: {free} are")
        per_rank = tuple(node_id for node_id in chosen for _ in range(count // node_count))
        self._make_room(Counter(per_rank))
        try:
            group = self._open(model, per_rank)
        except NodeLostError:  # meanwhile
            self._note_lost_nodes()
            raise
        self._groups.append(group)
        return group.gang

    def release(self, gang: Gang) -> None:
        """Takes a gang back, stopped if it still runs, and keeps it open unless part of it is lost."""
        group = next(group for group in self._groups if group.gang is gang)
        if gang.state is GangState.RUNNING:
            gang.stop()
        group.leased = False
        if not group.gang.healthy or any(failure.cause is Cause.NODE_LOST for failure in gang.failures):
            self._close(group)

    def wait(self, timeout_s: float) -> None:
        """Until any rank has news, at most `timeout_s`: without looking meanwhile, which would cost its cores time."""
        awaited = [call for group in self._groups if group.leased for rank in group.ranks for call in rank.awaited]
        if awaited:
            ray.wait(awaited, timeout=timeout_s)
        else:
            time.sleep(timeout_s)

    def _note_lost_nodes(self) -> None:
        """Ray would wait for ever for a group on a node that is gone. One that comes back has another id."""
        alive = {entry["NodeID"] for entry in ray.nodes() if entry["Alive"]}
        self._lost = self._nodes.keys() - alive

    def close(self) -> None:
        """Stops what runs and gives every group back to Ray."""
        for group in list(self._groups):
            if group.gang.state is GangState.RUNNING:
                group.gang.stop()
            self._close(group)

    def _make_room(self, needed: Mapping[str, int]) -> None:
        """Closes open groups that nobody uses, oldest first, until each node has the devices that are needed."""
        for node_id, number in needed.items():
            for group in [group for group in self._groups if not group.leased and node_id in group.nodes]:
                held = sum(other.nodes.count(node_id) for other in self._groups)
                if len(self._nodes[node_id].devices) - held >= number:
                    break
                self._close(group)

    def _close(self, group: _Group) -> None:
        self._groups.remove(group)
        _give_back(group.placement, group.actors)

    def _open(self, model: str, per_rank: tuple[str, ...]) -> _Group:
        """Acquires in order, and gives back all of it if any of it fails."""
        bundles = [{"GPU": 1.0, "CPU": self._cpu_share(node_id)} for node_id in per_rank]
        placement = placement_group(
            bundles,
            strategy="STRICT_PACK" if len(set(per_rank)) == 1 else "PACK",
            bundle_label_selector=[{"ray.io/node-id": node_id} for node_id in per_rank],
        )
        actors: tuple[Any, ...] = ()
        try:
            self._wait_for(placement, model, per_rank)
            actors = tuple(_host(placement, i, bundle["CPU"]) for i, bundle in enumerate(bundles))
            places = fetch(
                [actor.place.remote() for actor in actors], self._grant_s, f"opening {len(actors)} x {model}"
            )
            ranks = tuple(
                RemoteRank(actor, self._handles[place.node_id].launcher)
                for place, actor in zip(places, actors, strict=True)
            )
            gang = self._seat(model, places, ranks)
        except BaseException:
            _give_back(placement, actors)
            raise
        return _Group(model, len(per_rank), per_rank, placement, actors, ranks, gang)

    def _seat(self, model: str, places: Sequence[Place], ranks: Sequence[RemoteRank]) -> RankGang:
        """The gang with its ranks in the order of nodes and devices."""
        seats = []
        for place, rank in zip(places, ranks, strict=True):
            device = device_of(self._nodes[place.node_id].devices, place.gpu_id)
            if device.model != model:
                raise ClusterError(
                    f"asked for {model}, Ray granted a {device.model}: node {place.node_id[:6]} mixes models, which "
                    "Ray's GPU resource cannot tell apart; start one Ray node per model there"
                )
            seats.append(Seat(device, place.node_id, place.host, rank))
        order = list(self._nodes)
        seats.sort(key=lambda seat: (order.index(seat.node_id), seat.device.index))
        return RankGang(seats, self._limits)

    def _cpu_share(self, node_id: str) -> float:
        """A CPU a rank, or an even share where the node has fewer CPUs than devices."""
        share = self._handles[node_id].ray_cpus / len(self._nodes[node_id].devices)
        return min(1.0, int(share * _CPU_SHARE_STEPS) / _CPU_SHARE_STEPS)

    def _wait_for(self, placement: PlacementGroup, model: str, per_rank: Sequence[str]) -> None:
        begin = time.monotonic()
        if not placement.wait(self._grant_s):
            nodes = ", ".join(sorted({node_id[:6] for node_id in per_rank}))
            available = ray.available_resources().get("GPU", 0.0)
            raise GroupTimeoutError(
                f"{len(per_rank)} x {model} on node {nodes} not granted within {time.monotonic() - begin:.0f} s; "
                f"Ray has {available:g} GPUs free in all: other Ray jobs may hold the devices"
            )


def _host(placement: PlacementGroup, bundle: int, cpus: float) -> Any:
    strategy = PlacementGroupSchedulingStrategy(placement, placement_group_bundle_index=bundle)
    options = {"num_gpus": 1, "num_cpus": cpus, "max_concurrency": _HOST_THREADS, "scheduling_strategy": strategy}
    return ray.remote(RankHost).options(**options).remote()


def _give_back(placement: PlacementGroup, actors: Sequence[Any]) -> None:
    for actor in actors:
        ray.kill(actor)
    remove_placement_group(placement)
