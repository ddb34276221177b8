"""The cluster as a study sees it: nodes that come and go, groups of their devices, and the power of every node."""

import contextlib
import time
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Self

import ray
from ray.exceptions import RayError

from joulelaw.cluster.failures import Cause, ClusterError, RayLostError
from joulelaw.cluster.metrics import StudyMetrics, study_metrics
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.members import Terms
from joulelaw.cluster.nodes.pool import DevicePool
from joulelaw.cluster.nodes.roster import Roster
from joulelaw.cluster.nodes.study_files import StudyFiles
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks.gang import Gang, GangLimits, RankGang
from joulelaw.cluster.ranks.server import ServerStatus
from joulelaw.cluster.raystart import RaySession, open_ray
from joulelaw.cluster.scheduling.feasible import check_feasible
from joulelaw.cluster.scheduling.scheduler import choose_nodes
from joulelaw.cluster.streams.cluster_power import ClusterPower
from joulelaw.cluster.streams.metering import MeterInfo

ANSWER_S = 60.0
_READY_S = 300.0  # torch, transformers and deepspeed from a cold network disk
_END_S = 20.0
_LOOK_S = 0.05
_NEXT_GRANT_S = 10.0  # an actor starts in two seconds, on a busy node in some more; what takes longer another job has


class Cluster(ClusterPower):
    """All nodes with devices. Make one with `connect`, and close it: it ends what it started, and nothing else."""

    def __init__(self, session: RaySession, terms: Terms, limits: GangLimits | None) -> None:
        super().__init__(session)
        self._roster = Roster(terms)
        self._pool = DevicePool(limits)
        self._changes: list[NodeChange] = []
        self._metered: set[str] = set()
        self._asked: set[str] = set()  # nodes whose devices Ray was asked for
        self._is_ready = self._has_first = False
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
        files: StudyFiles | None = None,
        answer_s: float = ANSWER_S,
    ) -> Self:
        """Connects to the Ray at `address` or RAY_ADDRESS, or starts a local one, and takes the nodes' inventory.

        `preload` are the modules that ranks find imported, `env` goes to every rank. Without a GPU, a node is cut into
        logical devices of `cores_per_device` cores, or of as many as its label joulelaw/cores-per-device says. All
        nodes have the `files`, be they called otherwise there: ranks are told how. A node that does not tell its
        devices within `answer_s` of the first joins later. The fork servers load meanwhile; see `wait_first`.

        Raises:
            InputError: nodes with other software, or without a file, all named; or no node with a device.
        """
        session = open_ray(address, cores_per_device)
        try:
            terms = Terms(preload, dict(env or {}), meter_options or MeterOptions(), cores_per_device, files)
            cluster = cls(session, terms, limits)
        except BaseException:
            session.close()
            raise
        try:
            cluster._begin(answer_s)
        except BaseException:
            cluster.close()
            raise
        return cluster

    def _begin(self, answer_s: float) -> None:
        until_s = time.monotonic() + ANSWER_S
        self._advance()
        while not self._roster.is_examined and time.monotonic() < until_s:
            if self.nodes:
                until_s = min(until_s, time.monotonic() + answer_s)
            time.sleep(_LOOK_S)
            self._advance()
        self._roster.begin()
        self._roster.check_any()

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are of use, or soon will be."""
        return self._roster.nodes

    @property
    def meters(self) -> dict[str, MeterInfo]:
        """What reads each node's power, by node id: of those that are or were of use. See `wait_first`."""
        self.wait_first()
        return self._meters.infos

    def wait_first(self) -> None:
        """Waits until a first node can fork ranks and has its meter open; others may follow, as `refresh` tells.

        Where none can: InputError if it is the meter asked for that cannot be opened, ForkServerError if a library does
        not load.
        """
        deadline = time.monotonic() + _READY_S
        while not (self._has_first or self._roster.usable) and self._roster.is_joining and time.monotonic() < deadline:
            self._session.check()
            self._advance()
            time.sleep(0 if self._roster.usable else _LOOK_S)
        if not self._has_first:
            self._roster.check_any()
        self._has_first = True

    def wait_ready(self) -> dict[str, ServerStatus]:
        """Waits at first until every node can fork ranks and has its meter open, and Ray has granted its devices.

        A node that cannot is left out, and `refresh` tells of it. Where none can it raises as `wait_first` does.
        """
        if not self._is_ready:
            self._get_ready()
        return {member.node_id: member.status for member in self._roster.usable if member.status}

    def _get_ready(self) -> None:
        deadline = time.monotonic() + _READY_S
        while not self._is_ready:
            self._session.check()
            self._advance()
            waits = self._pool.asked and self._pool.quiet_s < _NEXT_GRANT_S
            self._is_ready = not (self._roster.is_joining or waits) or time.monotonic() > deadline
            if not self._is_ready:
                time.sleep(_LOOK_S)
        self._roster.check_any()

    def refresh(self) -> list[NodeChange]:
        """Takes up nodes that have come and gives up those that are lost; what has changed since the last call.

        To be called every 2 s or so; it waits for nothing. RayLostError where the local Ray is gone.
        """
        self._session.check()
        self._advance()
        changes, self._changes = self._changes, []
        return changes

    def _advance(self) -> None:
        changes = self._roster.advance()
        for change in changes:
            if change.kind == "node_joined":
                member = self._roster.member(change.node_id)
                assert member.meter is not None
                self._meters.add(member.node_id, member.sampler, *member.meter)
                self._metered.add(member.node_id)
            else:
                self._drop(change)
        self._changes += changes
        self._ask_for_devices()
        for node_id, problem in self._pool.advance().items():
            refused = self._roster.refuse(node_id, problem)
            self._changes.append(refused)
            self._drop(refused)

    def _ask_for_devices(self) -> None:
        """Of each node as soon as they are known: Ray grants them while the node's libraries load."""
        for member in self._roster.members:
            is_there = member.is_examined
            if is_there and member.node_id not in self._asked:
                assert member.node is not None
                self._pool.add(member.node, member.launcher, member.ray_cpus, member.folders)
                self._asked.add(member.node_id)
            elif not is_there and member.node_id in self._asked:  # refused once more: it was told before
                self._give_up_devices(member.node_id, f"cannot be used: {member.problem}", Cause.NODE_LOST)

    def _give_up_devices(self, node_id: str, what: str, cause: Cause) -> None:
        self._pool.lose(node_id, what, cause)
        self._asked.discard(node_id)

    def _drop(self, change: NodeChange) -> None:
        self._give_up_devices(change.node_id, f"was lost, as {change.text}", change.cause or Cause.NODE_LOST)
        if change.node_id in self._metered:
            self._metered.remove(change.node_id)
            self._meters.remove(change.node_id)

    @property
    def lost_nodes(self) -> dict[str, tuple[Cause, str]]:
        """The nodes that were lost so far, and why: NODE_LOST or NETWORK_CUT, and the same in words."""
        return self._roster.lost

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        """A gang over free devices, those whose UUIDs are in `avoid` last. Give it back with `release`.

        With `nodes` it asks Ray nothing and waits for nothing; without, it is put where it fits, and waits for nodes
        to come to be of use, and until Ray has granted as many devices.

        Raises:
            InfeasibleGroupError: the cluster could never form it.
            ClusterError: the devices are lent out; see DevicePool.acquire too.
            GroupTimeoutError: Ray does not grant them.
        """
        if nodes is None:
            check_feasible(self.nodes, model, count, node_count)
            nodes = self._fitting(model, count, node_count)
        return self._pool.acquire(model, count, nodes, avoid)

    def _fitting(self, model: str, count: int, node_count: int) -> tuple[str, ...]:
        while True:
            self._session.check()
            self._advance()
            free = self.free_by_model().get(model, {})
            if nodes := choose_nodes(free, count, node_count):
                return nodes
            if not self.more_to_come():
                free_here = sum(free.values())
                raise ClusterError(f"{count} x {model} on {node_count} node(s) are not free now: {free_here} are")
            time.sleep(_LOOK_S)

    def release(self, gang: Gang) -> None:
        """Takes a gang back: its devices are free again. Without Ray nobody is left who could stop it, or needs to."""
        if not self._session.lost:
            self._pool.release(gang)

    def wait(self, timeout_s: float) -> None:
        """Until any rank has news, at most `timeout_s`."""
        self._pool.wait(timeout_s)

    def free_by_model(self) -> dict[str, dict[str, int]]:
        """Devices that no trial holds: model -> node id -> number; what the scheduler asks for."""
        return self._of_use(self._pool.free_by_model())

    def total_by_model(self) -> dict[str, dict[str, int]]:
        """The devices that are there, lent or not: model -> node id -> number. A device of another Ray job is not."""
        return self._of_use(self._pool.total_by_model())

    def _of_use(self, devices: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
        """Without those of nodes that are still on their way."""
        usable = {member.node_id for member in self._roster.usable}
        there = {model: {node: n for node, n in on.items() if node in usable} for model, on in devices.items()}
        return {model: on_nodes for model, on_nodes in there.items() if on_nodes}

    def retire(self, device_uuids: Collection[str]) -> None:
        """Lends these devices no more: they are lost, though their nodes are not."""
        self._pool.retire(device_uuids)

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        """Gives devices back, at the next `refresh`, that no waiting trial can use: `smallest` has for each model that
        any waiting trial wants the fewest devices that one takes on a node."""
        self._pool.keep_only(smallest)

    def more_to_come(self) -> bool:
        """Whether devices may still come, where nothing runs and nothing fits. GroupTimeoutError after too long."""
        return self._roster.is_joining or self._pool.more_to_come()

    def metrics(self) -> StudyMetrics | None:
        """Where a study's own numbers go, if the nodes export any: not those of a local Ray."""
        return study_metrics() if self._session.scratch is None else None

    def close(self) -> None:
        """Ends every rank, fork server and sampler, and the local Ray if it is ours. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if not self._session.lost:  # else all went with it
            with contextlib.suppress(ClusterError, RayError):  # what is lost already needs no ending
                self._pool.close()
            self._vacate()
        self._roster.close()
        self._session.close()

    def _vacate(self) -> None:
        """Asks the actors to end what they own, and waits for it, before they are killed."""
        with contextlib.suppress(RayError):
            stops = [stop for member in self._roster.members for stop in member.stops()]
            if stops:
                ray.wait(stops, num_returns=len(stops), timeout=_END_S)
            for member in self._roster.members:
                member.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if isinstance(error, Exception) and not isinstance(error, RayLostError):
                self._session.check()  # a Ray that is gone shows in errors of all kinds
        finally:
            self.close()
