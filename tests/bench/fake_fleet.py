"""A fleet without processes, for tests of the study's loop: gangs that say what they are told to, and a meter."""

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import pyarrow as pa

from joulelaw.bench.plan.plan import PlannedTrial, Price
from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.bench.study.fleet import ByModel
from joulelaw.bench.trial.running import Event
from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.power.meter import MeterKind, Reading
from joulelaw.cluster.ranks.gang import GangState, RankGang
from joulelaw.cluster.ranks.rank_failures import RankFailure, cause_of
from joulelaw.cluster.streams.metering import HERE, ClockOffset, MeterInfo, readings_batch
from tests.bench.factories import GPU_MODEL, configurations

NODE = "local"
DEVICES = tuple(Device(f"CPU-{i}", GPU_MODEL, i, "cpu", 2**30, (i,), None, "") for i in range(2))
SECOND = 1_000_000_000


def planned(gpu_count: int = 1) -> PlannedTrial:
    configuration = next(each for each in configurations() if each.gpu_count == gpu_count)
    return PlannedTrial(TrialSpec(configuration, window=Window(0, 1, 0.0, 9.0)), "fit", False, Price(1.0, 1.0))


class FakeGang:
    """Says `events` at its first poll and is then over: failed with `failures`, done without."""

    def __init__(self, count: int, events: Sequence[Event] = (), failures: Sequence[RankFailure] = ()) -> None:
        self.devices, self.node_ids = DEVICES[:count], (NODE,)
        self.failures, self.failure = tuple(failures), "; ".join(failure.describe() for failure in failures)
        self.state = GangState.IDLE
        self.log_ends: dict[int, str] = {}
        self._events = list(events)

    @property
    def cause(self) -> Cause | None:
        return cause_of(self.failures)

    def start(self, *_: Any) -> None:
        self.state = GangState.RUNNING

    def poll(self) -> list[Event]:
        events, self._events = self._events, []
        self.state = GangState.FAILED if self.failures else GangState.DONE
        return events

    def kill(self) -> None:
        self.state = GangState.FAILED

    stop = kill


class FakeFleet:
    """Lends `gangs` in turn; its meter is read each time it is drained: 10 W on every device."""

    def __init__(self, gangs: Sequence[FakeGang] = (), meter: str = "nvml", kind: MeterKind = "measured") -> None:
        uuids = tuple(device.uuid for device in DEVICES)
        covers = {uuid: (uuid,) for uuid in uuids}
        self.meters: Mapping[str, MeterInfo] = {NODE: MeterInfo(meter, kind, "gpu", uuids, covers, {})}
        self._gangs = list(gangs)
        self.meter_losses = {NODE: 0}
        self.power_dropped = {NODE: 0}
        self.refusals: dict[int, ClusterError] = {}  # by how many gangs were lent before
        self.lent = 0
        self.waits = 0
        self.lost_nodes: Mapping[str, tuple[Cause, str]] = {}
        self.retired: set[str] = set()
        self.kept: list[dict[str, int]] = []
        self.avoided: list[list[str]] = []
        self._held: list[FakeGang] = []

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        now_ns = time.monotonic_ns()
        readings = [Reading(device.uuid, now_ns, 10.0, 10e-9 * now_ns) for device in DEVICES]
        return {NODE: readings_batch(self.meters[NODE].name, readings)}

    def metrics(self) -> None:
        """Nobody looks."""

    @property
    def power_drained_s(self) -> Mapping[str, float]:
        """It is read as it is drained."""
        return dict.fromkeys(self.meters, time.monotonic())

    def clock_offsets(self) -> Mapping[str, ClockOffset]:
        """One clock for all."""
        return dict.fromkeys(self.meters, HERE)

    def watch(self, node_id: str, pids: Mapping[str, Sequence[int]]) -> bool:
        """This meter meters devices."""
        return True

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(Node(node_id, "", DEVICES, 2**32, 2, "Synthetic") for node_id in self.meters)

    def free_by_model(self) -> ByModel:
        lent = sum(len(gang.devices) for gang in self._held)
        return {GPU_MODEL: {NODE: len(DEVICES) - lent - len(self.retired)}}

    def total_by_model(self) -> ByModel:
        return {GPU_MODEL: {NODE: len(DEVICES) - len(self.retired)}}

    def refresh(self) -> list[NodeChange]:
        """Nobody joins or leaves."""
        return []

    def retire(self, device_uuids: Collection[str]) -> None:
        self.retired |= set(device_uuids)

    def keep_only(self, smallest: Mapping[str, int]) -> None:
        self.kept.append(dict(smallest))

    def more_to_come(self) -> bool:
        """All is there."""
        return False

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        if refusal := self.refusals.pop(self.lent, None):
            raise refusal
        self.lent += 1
        self.avoided.append(sorted(avoid))
        self._held.append(self._gangs.pop(0))
        return cast(RankGang, self._held[-1])

    def wait(self, timeout_s: float) -> None:
        """Its gangs always have news."""
        self.waits += 1

    def release(self, gang: object) -> None:
        self._held = [each for each in self._held if each is not gang]
