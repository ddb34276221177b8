"""The samplers of all nodes as the driver sees them, nodes that come and go among them; nobody is waited for."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent import futures
from typing import Any

import pyarrow as pa

from joulelaw.cluster.streams.metering import ClockOffset, MeterInfo
from joulelaw.cluster.streams.node_meter import PROMPT_S, NodeMeter, Sampler, SamplerActor


class NodeMeters:
    """Samplers by node id. What is known of a node that is gone stays known: its trials are still to be judged."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._meters: dict[str, NodeMeter] = {}
        self._clock = clock

    def add(self, node_id: str, actor: Any, life: str, info: MeterInfo) -> None:
        """Takes up a node's SamplerHost, which has answered `info` so."""
        self.add_sampler(node_id, SamplerActor(actor), life, info)

    def add_sampler(self, node_id: str, sampler: Sampler, life: str, info: MeterInfo) -> None:
        """The same of a sampler that is reached in another way."""
        self._meters[node_id] = NodeMeter(sampler, life, info, self._clock)

    def remove(self, node_id: str) -> None:
        """Gives up a node that is gone: one loss more."""
        self._meters[node_id].close()

    @property
    def infos(self) -> dict[str, MeterInfo]:
        """What reads each node's power."""
        return {node_id: meter.info for node_id, meter in self._meters.items()}

    @property
    def losses(self) -> dict[str, int]:
        """How often each node's sampler was lost: its process began anew, or its node is gone. Silence is no loss."""
        return {node_id: meter.losses for node_id, meter in self._meters.items()}

    @property
    def dropped(self) -> dict[str, int]:
        """How many readings each node's sampler had to drop, as they were not fetched for many minutes."""
        return {node_id: meter.dropped for node_id, meter in self._meters.items()}

    @property
    def drained_s(self) -> dict[str, float]:
        """By time.monotonic: what each node had read by then has been drained. A node that is silent falls behind;
        infinity for one that is gone, of which nothing will come any more."""
        return {node_id: float("inf") if meter.is_over else meter.drained_s for node_id, meter in self._meters.items()}

    def drain(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        """New readings by node id, of these nodes or of all, each once; a node that does not answer has none now."""
        asked = [meter for node_id, meter in self._meters.items() if nodes is None or node_id in nodes]
        for meter in asked:
            meter.listen()  # to what came too late for the last call
            meter.ask()
        self._hear(asked)
        found = {node_id: meter.readings() for node_id, meter in self._meters.items()}
        return {node_id: pa.concat_batches(new) for node_id, new in found.items() if new}

    def clock_offsets(self) -> dict[str, ClockOffset]:
        """By node id, of those that are known; clocks are compared now and again while readings are drained."""
        return {node_id: meter.offset for node_id, meter in self._meters.items() if meter.offset is not None}

    def watch(self, node_id: str, pids: Mapping[str, Sequence[int]]) -> bool:
        """Tells a node's meter which processes work on devices, by UUID; whether it has answered that it knows."""
        meter = self._meters[node_id]
        meter.watch(pids)
        if not meter.knows(pids):
            self._hear([meter])
        return meter.knows(pids)

    def _hear(self, meters: Collection[NodeMeter]) -> None:
        """Answers that come at once are waited for, a moment in all, lest readings be a turn of the study's loop older
        than they must be; not those of nodes that are slow or cut off."""
        futures.wait([answer for meter in meters for answer in meter.prompt()], PROMPT_S)
        for meter in meters:
            meter.listen()
