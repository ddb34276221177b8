"""What a trial leaves in the trials table: its configuration, what it took, and whether to believe it."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.bench.energy.energy import GroupEnergy
from joulelaw.bench.study.probed_links import ProbedLinks
from joulelaw.bench.trial.checks import Verdict
from joulelaw.bench.trial.conditions import Conditions
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.topology import KINDS, LinkKind, worst_link

# The trial's key is added by its tables.
COLUMNS = tuple(name for name in TRIALS.names if name not in ("trial_id", "attempt"))


@dataclass(frozen=True)
class MeterFacts:
    """Which meter a group's joules come from, for all of its nodes."""

    name: str
    kind: str
    boundary: str


def trial_row(
    trial: RunningTrial, meter: MeterFacts, energy: GroupEnergy, around: Conditions, verdict: Verdict
) -> dict[str, Any]:
    """The row of TRIALS without its key. What a failed trial never got to is null, never 0."""
    planned = trial.planned
    configuration = planned.spec.configuration
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {name: value for name, value in configuration.to_dict().items() if name in row}
    row |= {
        "configuration_id": configuration.configuration_id,
        "case_id": configuration.case_id,
        "repeat": planned.spec.repeat,
        "seed": planned.spec.seed,
        "split": planned.split,
        "data": configuration.data.path if configuration.data else "synthetic",
        "status": "done" if trial.succeeded else "failed",
        "failure": "" if trial.succeeded else trial.failure,
        "energy_j": energy.energy_j,
        "energy_trace_j": energy.trace_j,
        "energy_disagreement": energy.disagreement,
        "energy_stderr_j": energy.stderr_j,
        "boundary": meter.boundary,
        "meter": meter.name,
        "meter_kind": meter.kind,
        "verdict": verdict.text,
        "reasons": verdict.codes,
        "temperature_begin_c": around.temperature_begin_c,
        "temperature_max_c": around.temperature_max_c,
        "clock_mhz_mean": around.clock_mhz_mean,
    }
    return row | _place(trial) | (_measured(trial) if trial.succeeded else {})


def of_its_cluster(trial: RunningTrial, nodes: Iterable[Node], links: ProbedLinks) -> dict[str, Any]:
    """Where it ran, and what became of it there: columns of TRIALS that one machine's trial has not, or few of."""
    uuids = [device.uuid for device in trial.gang.devices]
    known = links.of(uuids)
    drivers = {device.driver for device in trial.gang.devices} - {""}
    return {
        "cause": trial.cause,
        "driver": "+".join(sorted(drivers)) or None,
        "transport": known.transport,
        "probed_link_bytes_per_s": known.probed_link_bytes_per_s,
        "probed_network_bytes_per_s": known.probed_network_bytes_per_s,
        "link": _worst_link(trial, nodes),
    }


def _worst_link(trial: RunningTrial, nodes: Iterable[Node]) -> str | None:
    """Between its GPUs of one node; logical devices of a CPU have none."""
    here = {node.node_id: node for node in nodes}
    found: set[LinkKind] = set()
    for node_id in trial.gang.node_ids:
        if node_id in here:
            mine = {device.uuid for device in here[node_id].devices if device.kind == "cuda"}
            worst = worst_link(here[node_id], [each.uuid for each in trial.gang.devices if each.uuid in mine])
            found |= {worst} if worst else set()
    return max(found, key=KINDS.index, default=None)


def duration_s(trial: RunningTrial) -> float:
    """Of the window: the longest over the ranks, as the group is held until its last rank is through; 0 without one."""
    return max((1e-9 * (each["end_ns"] - each["begin_ns"]) for each in trial.windows.values()), default=0.0)


def _place(trial: RunningTrial) -> dict[str, Any]:
    devices = trial.gang.devices
    limits = {device.power_limit_w for device in devices}
    return {
        "started_at": trial.started_at,
        "trial_s": trial.elapsed_s,
        "nodes": list(trial.gang.node_ids),
        "device_uuids": [device.uuid for device in devices],
        "shared_with": sorted(trial.shared_with),
        "power_limit_w": limits.pop() if len(limits) == 1 else None,
        "node_count": len(trial.gang.node_ids),
        "cooldown_s": trial.cooldown_s,
    }


def _measured(trial: RunningTrial) -> dict[str, Any]:
    """Of a window that every rank was through with."""
    first, window = trial.done[0], trial.windows[0]
    largest = max(trial.done.values(), key=lambda each: each["peak_memory_bytes"])
    return {
        "micro_steps": first["micro_steps"],
        "duration_s": duration_s(trial),
        "window_begin_ns": window["begin_ns"],
        "window_end_ns": window["end_ns"],
        "warmup_steps": window["warmup_steps"],
        "warmup_s": window.get("warmup_s"),
        "jitter_s": window.get("jitter_s"),
        "measured_steps": window["measured_steps"],
        "skipped_steps": max(each["skipped_steps"] for each in trial.done.values()),
        "tokens": _over_data_ranks(trial, "tokens"),
        "padded_tokens": _over_data_ranks(trial, "padded_tokens"),
        "step_s_median": statistics.median(trial.step_s),
        "loss_first": _finite(first["loss_first"]),
        "loss_last": _finite(first["loss_last"]),
        "num_parameters": first["num_parameters"],
        "peak_memory_bytes": largest["peak_memory_bytes"],
        "base_memory_bytes": largest["base_memory_bytes"],
        "threads_per_rank": first["threads"],
        "backend": first["backend"],
    }


def _over_data_ranks(trial: RunningTrial, name: str) -> int:
    """The sum over data-parallel ranks; tensor-parallel ranks have the same data."""
    return int(sum(each[name] for each in trial.done.values())) // trial.planned.spec.configuration.tensor_parallel


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
