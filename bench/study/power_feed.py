"""Which trial the readings of all nodes belong to, and when a trial has all of its own."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from joulelaw.bench.energy.readings import COUNTER_TICK_S, between, of_domains
from joulelaw.bench.spec.schema import MeteringSection
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.streams.metering import ClockOffset, MeterInfo

# After its end a trial waits this long for readings that reach beyond its window, of meters that answer.
SETTLE_S = 2.0
# And so long for those of a node that is silent: a link that drops for half a minute costs no trial its joules.
SILENT_S = 60.0
# So far beyond: a counter that moves on every 100 ms has then told of the window's end, and needs no extrapolation.
BEYOND_NS = 250_000_000
# The next reading after that: one at 20 Hz, and a moment to be taken.
NEXT_READING_S = 0.06
# What could not be settled yet is looked at again after this time.
SETTLING_EVERY_S = 0.1
_EVER = (-(2**63), 2**63 - 1)


class PowerFeed(Protocol):
    """The meters of all nodes. A node is named as gangs name it."""

    @property
    def meters(self) -> Mapping[str, MeterInfo]: ...
    @property
    def meter_losses(self) -> Mapping[str, int]:
        """How often each node's sampler was lost so far."""
        ...

    def drain_power(self, nodes: Collection[str] | None = None) -> Mapping[str, pa.RecordBatch]:
        """New readings of each node, or of each of these, as columns of `metering.READINGS`."""
        ...

    @property
    def power_drained_s(self) -> Mapping[str, float]:
        """By time.monotonic, until when each node's readings were drained; a node that is silent falls behind."""
        ...

    @property
    def power_dropped(self) -> Mapping[str, int]:
        """How many readings of each node's sampler nobody fetched in time: gaps."""
        ...

    def clock_offsets(self) -> Mapping[str, ClockOffset]:
        """Of each node's clock to this process's; of nodes where it is known."""
        ...

    def watch(self, node_id: str, pids: Mapping[str, Sequence[int]]) -> bool:
        """Tells who works on devices, by UUID. Whether the node's meter knows now."""
        ...


def meter_options(metering: MeteringSection) -> MeterOptions:
    """What a sweep says about metering, as meters take it."""
    path = metering.replay_path
    return MeterOptions(
        rate_hz=metering.rate_hz,
        kind=metering.meter,
        cpu_w_per_core=metering.cpu_w_per_core,
        replay_path=None if path is None else str(path),
    )


def domains_of(trial: RunningTrial, meter: MeterInfo) -> set[str]:
    """The metered domains of one node that hold energy of the trial's devices."""
    mine = {device.uuid for device in trial.gang.devices}
    return {domain for domain, devices in meter.covers.items() if mine & set(devices)}


def beside_of(trial: RunningTrial, meter: MeterInfo) -> set[str]:
    """The metered domains of one node that hold no energy of any trial at the time."""
    unheld = {domain for domain, devices in meter.covers.items() if not trial.busy_devices & set(devices)}
    return unheld | set(meter.surroundings)


def hand_out(
    feed: PowerFeed, trials: Iterable[RunningTrial], nodes: Collection[str] | None = None
) -> Mapping[str, pa.RecordBatch]:
    """Gives each trial the new readings of its devices, and of what no trial holds on its nodes; returns all of them.

    `nodes`: where to look for any, None for everywhere. Of its own time: readings that come late, over a bad link, may
    have been taken before it held its devices.
    """
    drained, meters, offsets = feed.drain_power(nodes), feed.meters, feed.clock_offsets()
    for trial in trials:
        for node in trial.gang.node_ids:
            if node in drained:
                begin_ns, end_ns = _held_on(trial, offsets.get(node))
                readings = between(pa.Table.from_batches([drained[node]]), begin_ns, end_ns)
                if new := of_domains(readings, domains_of(trial, meters[node])):
                    trial.record(node, new)
                if new := of_domains(readings, beside_of(trial, meters[node])):
                    trial.record_beside(node, new)
    return drained


def _held_on(trial: RunningTrial, offset: ClockOffset | None) -> tuple[int, int]:
    """When a trial held its devices, and what settles its window was read, on a node's clock: at least so long."""
    if offset is None:
        return _EVER
    end_ns = _EVER[1] if trial.ended_s is None else round(1e9 * (trial.ended_s + SETTLE_S)) + offset.offset_ns
    return trial.held_since_ns + offset.offset_ns - offset.error_ns, end_ns + offset.error_ns


def watch_ranks(feed: PowerFeed, trial: RunningTrial) -> None:
    """Tells the meters which processes are at work, and once they know all of a trial, its ranks to go on.

    A sampler that is just starting anew is told at a later call.
    """
    for node in dict.fromkeys(event["node"] for event in trial.unwatched):
        ready = [event for event in trial.unwatched if event["node"] == node]
        if feed.watch(node, {event["device_uuid"]: [event["pid"]] for event in ready}):
            for event in ready:
                trial.rank_is_watched(event)


def lost_meter(feed: PowerFeed, trial: RunningTrial) -> bool:
    """Whether the sampler of one of its nodes was lost since the trial began."""
    return any(feed.meter_losses[node] != before for node, before in trial.meter_losses.items())


def settling_due_s(feed: PowerFeed, trials: Iterable[RunningTrial]) -> float:
    """By time.monotonic, when readings are to be drained for trials that are over and wait for their last ones.

    Infinity where none does, or where what is missing will come when it comes.
    """
    now_s = time.monotonic()
    waiting = [trial for trial in trials if trial.ended_s is None or now_s < trial.ended_s + 2 * SETTLE_S]
    return min((_last_readings_s(feed, trial) for trial in waiting), default=float("inf"))


def _last_readings_s(feed: PowerFeed, trial: RunningTrial) -> float:
    """When what settles a trial will have been read, by the driver's clock; a moment from now where that has passed, or
    where a node's clock is not known; at once for one that has failed, which is settled with what has been read."""
    if not trial.succeeded:
        return 0.0
    offsets, soon_s = feed.clock_offsets(), time.monotonic() + SETTLING_EVERY_S
    ends = [
        1e-9 * (event["end_ns"] + _beyond_ns(feed.meters[event["node"]]) - offsets[event["node"]].offset_ns)
        for event in trial.windows.values()
        if event["node"] in offsets
    ]
    return max(soon_s, max(ends) + NEXT_READING_S) if ends else soon_s


def is_settled(feed: PowerFeed, trial: RunningTrial) -> bool:
    """Whether a trial that is over has all the readings that tell of its window, or will get no more of them.

    A node that does not answer is not lost: its sampler keeps what it reads, for minutes. It is waited for as long as
    `SILENT_S`; one whose sampler was lost, or that answers and has nothing to tell, is not.
    """
    now_s = time.monotonic()
    ended_s = now_s if trial.ended_s is None else trial.ended_s
    return now_s > ended_s + SILENT_S or all(
        _read_past_window(feed.meters[node], trial, node)
        or feed.meter_losses[node] != trial.meter_losses.get(node, feed.meter_losses[node])
        or feed.power_drained_s[node] > ended_s + SETTLE_S
        for node in {event["node"] for event in trial.windows.values()}
    )


def _read_past_window(meter: MeterInfo, trial: RunningTrial, node: str) -> bool:
    end_ns = max(event["end_ns"] for event in trial.windows.values() if event["node"] == node) + _beyond_ns(meter)
    return all(trial.metered_until_ns.get((node, domain), 0) > end_ns for domain in domains_of(trial, meter))


def _beyond_ns(meter: MeterInfo) -> int:
    """How far beyond a window a meter is to be read: to the next reading where its counter is as fine as that."""
    return 0 if meter.kind == "none" or meter.name in COUNTER_TICK_S else BEYOND_NS
