"""Which trial the readings of all nodes belong to, and when a trial has all of its own."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from joulelaw.bench.readings import COUNTER_TICK_S, of_domains
from joulelaw.bench.running_trial import RunningTrial
from joulelaw.bench.spec_schema import MeteringSection
from joulelaw.cluster.metering import ClockOffset, MeterInfo
from joulelaw.cluster.power.meter import MeterOptions

# After its last step a trial waits this long for readings that reach beyond its window.
SETTLE_S = 2.0
# So far beyond: a counter that moves on every 100 ms has then told of the window's end, and needs no extrapolation.
BEYOND_NS = 250_000_000


class PowerFeed(Protocol):
    """The meters of all nodes. A node is named as gangs name it."""

    @property
    def meters(self) -> Mapping[str, MeterInfo]: ...
    @property
    def meter_losses(self) -> Mapping[str, int]:
        """How often each node's sampler was lost so far."""
        ...

    def drain_power(self) -> Mapping[str, pa.RecordBatch]:
        """New readings of each node, as columns of `metering.READINGS`."""
        ...

    def clock_offsets(self) -> Mapping[str, ClockOffset]:
        """Of each node's clock to this process's."""
        ...

    def watch(self, node_id: str, device_uuid: str, pids: Sequence[int]) -> bool:
        """Whether the node's meter knows now."""
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


def hand_out(feed: PowerFeed, trials: Iterable[RunningTrial]) -> None:
    """Gives each trial the new readings of its devices, and of what no trial holds on its nodes."""
    drained = feed.drain_power()
    for trial in trials:
        for node in trial.gang.node_ids:
            if not drained.get(node):
                continue
            meter, readings = feed.meters[node], pa.Table.from_batches([drained[node]])
            if new := of_domains(readings, domains_of(trial, meter)):
                trial.record(node, new)
            if new := of_domains(readings, beside_of(trial, meter)):
                trial.record_beside(node, new)


def watch_ranks(feed: PowerFeed, trial: RunningTrial) -> None:
    """Tells the meters which processes are at work, and once they know all of a trial, its ranks to go on.

    A sampler that is just starting anew is told at a later call.
    """
    for event in list(trial.unwatched):
        if not feed.watch(event["node"], event["device_uuid"], [event["pid"]]):
            return
        trial.rank_is_watched(event)


def lost_meter(feed: PowerFeed, trial: RunningTrial) -> bool:
    """Whether the sampler of one of its nodes was lost since the trial began."""
    return any(feed.meter_losses[node] != before for node, before in trial.meter_losses.items())


def settle(feed: PowerFeed, trial: RunningTrial, trials: Iterable[RunningTrial]) -> None:
    """Waits until every meter of the trial has been read after its window, at most `SETTLE_S`."""
    everyone = list(trials)
    deadline = time.monotonic() + SETTLE_S
    hand_out(feed, everyone)
    while not _read_past_window(feed, trial) and time.monotonic() < deadline:
        time.sleep(0.02)
        hand_out(feed, everyone)


def _read_past_window(feed: PowerFeed, trial: RunningTrial) -> bool:
    ends: dict[str, int] = {}
    for event in trial.windows.values():
        ends[event["node"]] = max(event["end_ns"], ends.get(event["node"], 0))
    return all(
        trial.metered_until_ns.get((node, domain), 0) > end_ns + _beyond_ns(feed.meters[node])
        for node, end_ns in ends.items()
        for domain in domains_of(trial, feed.meters[node])
    )


def _beyond_ns(meter: MeterInfo) -> int:
    """How far beyond a window a meter is to be read: to the next reading where its counter is as fine as that."""
    return 0 if meter.kind == "none" or meter.name in COUNTER_TICK_S else BEYOND_NS
