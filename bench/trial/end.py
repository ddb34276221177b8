"""The end of a trial: its readings and windows become joules, a verdict and the one row that commits it."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from joulelaw.bench.energy.energy import GroupEnergy, combine, group_energy
from joulelaw.bench.energy.idle import IdleByDomain
from joulelaw.bench.energy.node_energy import NodeEnergy, around, systematic
from joulelaw.bench.energy.readings import from_tables
from joulelaw.bench.known import total
from joulelaw.bench.study.power_feed import PowerFeed, domains_of, lost_meter
from joulelaw.bench.trial.checks import TrialFacts, Verdict, verdict
from joulelaw.bench.trial.conditions import Conditions, conditions_of, together
from joulelaw.bench.trial.row import MeterFacts, duration_s, trial_row
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.streams.metering import MeterInfo

NO_IDLE: IdleByDomain = MappingProxyType({})
METER_LOST = "the power sampler of its node was lost while it ran"


def ended_row(trial: RunningTrial, feed: PowerFeed, idle: IdleByDomain = NO_IDLE) -> dict[str, Any]:
    """The row of a trial that is over, without its key. `idle` is the power of its nodes' domains before the study.

    Where a sampler was lost and with it the energy, the trial has failed: tried again, it can be measured.
    """
    row = _judged_row(trial, feed, idle)
    if row["status"] == "done" and row["verdict"] == "invalid" and lost_meter(feed, trial):
        trial.spoil(Cause.SAMPLER_LOST, METER_LOST)
        return _judged_row(trial, feed, idle)
    return row


def _judged_row(trial: RunningTrial, feed: PowerFeed, idle: IdleByDomain) -> dict[str, Any]:
    meters = [feed.meters[node] for node in trial.gang.node_ids]
    whole = len(trial.windows) == len(trial.gang.devices)  # else the energy of some ranks would pass for the group's
    nodes = trial.gang.node_ids if whole else ()
    energy = combine([on_node(trial, node, feed.meters[node], trial.window_on(node), idle) for node in nodes])
    conditions = together([_conditions(trial, node, feed.meters[node]) for node in nodes])
    row = trial_row(trial, one_meter(meters), energy, conditions, _judge(trial, energy, conditions))
    beside = around(trial, feed.meters, idle) if whole else NodeEnergy()
    return row | {
        "energy_net_j": total([energy.energy_j, None if beside.idle_j is None else -beside.idle_j]),
        "energy_systematic": systematic(trial, feed.meters),
        "energy_others_j": beside.others_j,
        "host_cpu_j": beside.host_cpu_j,
        "host_dram_j": beside.host_dram_j,
    }


def on_node(
    trial: RunningTrial, node: str, meter: MeterInfo, window: tuple[int, int], idle: IdleByDomain = NO_IDLE
) -> GroupEnergy:
    """One node's part, over a stretch of that node's own time."""
    begin_ns, end_ns = window
    mine = trial.devices_on(node)
    # A domain's idle devices count as the trial's own: the energy is gross, and nobody else had a part in it. Of
    # devices that are not the study's nobody knows what they did.
    free = set(meter.device_uuids) - trial.busy_devices
    covers = {domain: tuple(uuid for uuid in devices if uuid not in free) for domain, devices in meter.covers.items()}
    readings = from_tables(trial.power.get(node, ()))
    return group_energy(readings, mine, begin_ns, end_ns, covers, meter.sensors, _limits_w(trial, node, meter, idle))


def _limits_w(
    trial: RunningTrial, node: str, meter: MeterInfo, idle: IdleByDomain
) -> dict[str, tuple[float, float | None]]:
    """What each of the trial's domains draws at least, as far as is known, and at most: its devices' power limits."""
    by_uuid = {device.uuid: device.power_limit_w for device in trial.gang.devices}
    limits = {}
    for domain in domains_of(trial, meter):
        least_w = idle[node, domain].power_w if (node, domain) in idle else None
        limits[domain] = (least_w or 0.0, total(by_uuid.get(uuid) for uuid in meter.covers[domain]))
    return limits


def _conditions(trial: RunningTrial, node: str, meter: MeterInfo) -> Conditions:
    return conditions_of(trial.power.get(node, ()), domains_of(trial, meter), *trial.window_on(node))


def _judge(trial: RunningTrial, energy: GroupEnergy, conditions: Conditions) -> Verdict:
    skipped = [each["skipped_steps"] / trial.windows[rank]["measured_steps"] for rank, each in trial.done.items()]
    return verdict(
        TrialFacts(
            energy,
            duration_s(trial),
            rank_failed=not trial.ranks_succeeded,
            losses=trial.losses,
            skipped_share=max(skipped, default=0.0),
            slept_s=max((1e-9 * window.get("slept_ns", 0) for window in trial.windows.values()), default=0.0),
            conditions=conditions,
        )
    )


def one_meter(meters: Sequence[MeterInfo]) -> MeterFacts:
    """The meter of a group whose nodes may differ: joined with "+", so that no mixture passes for one meter."""
    names, kinds, boundaries = (
        "+".join(sorted({str(getattr(meter, field)) for meter in meters})) for field in ("name", "kind", "boundary")
    )
    return MeterFacts(names, kinds, boundaries)
