"""The session of one run: each node's clock is compared, its idle power read, and both saved, before its first trial.

A study begins with the first node that is ready, and others may come at any time: each is made ready beside those that
work already, and nobody waits for it.
"""

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime

import pyarrow as pa

from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.meters_table import meter_rows
from joulelaw.bench.energy.idle import Idle, IdlePhase
from joulelaw.bench.study.power_feed import PowerFeed, hand_out
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.failures import Cause


class Session:
    """`ready` are the nodes that may have trials, `idle` the power of their domains at idle, by node and domain."""

    def __init__(self, feed: PowerFeed, dataset: Dataset, idle_s: float) -> None:
        self.ready: set[str] = set()
        self.idle: dict[tuple[str, str], Idle] = {}
        self._feed, self._dataset, self._idle_s = feed, dataset, idle_s
        self._started_at = datetime.now(UTC)
        self._phases: dict[str, IdlePhase] = {}
        self._losses: Mapping[str, int] = {}
        self._dropped: Mapping[str, int] = {}

    def hand_out(
        self, trials: Iterable[RunningTrial], nodes: Collection[str] | None = None
    ) -> Mapping[str, pa.RecordBatch]:
        """The new readings of all nodes, or of these, given to the trials that they belong to and to nodes that get
        ready."""
        drained = hand_out(self._feed, trials, nodes)
        self._advance(drained)
        self._note_gaps()
        return drained

    def _note_gaps(self) -> None:
        """What tells of readings that nobody will ever have; a node's own loss is noted by who sees it."""
        losses, dropped, drained_s = self._feed.meter_losses, self._feed.power_dropped, self._feed.power_drained_s
        for node, count in losses.items():
            if count > self._losses.get(node, 0) and drained_s[node] < float("inf"):
                self._dataset.note("sampler_lost", nodes=[node], cause=Cause.SAMPLER_LOST)
            if (more := dropped[node] - self._dropped.get(node, 0)) > 0:
                self._dataset.note("readings_dropped", nodes=[node], detail=f"{more} readings, unfetched for minutes")
        self._losses, self._dropped = dict(losses), dict(dropped)

    def _advance(self, drained: Mapping[str, pa.RecordBatch]) -> None:
        offsets = self._feed.clock_offsets()
        fresh = {}
        for node, meter in self._feed.meters.items():
            if node in self.ready or node not in offsets:
                continue
            if node not in self._phases:
                self._phases[node] = IdlePhase(meter, self._idle_s, offsets[node], time.monotonic())
            phase = self._phases[node]
            if node in drained:
                phase.add(drained[node])
            if phase.is_over(self._feed.power_drained_s[node]):
                fresh[node] = meter
                self.idle |= {(node, domain): idle for domain, idle in self._phases.pop(node).result().items()}
        if fresh:
            self._dataset.save_meters(meter_rows(fresh, self.idle, offsets, self._started_at))
            self.ready |= fresh.keys()
