"""What a running trial is told by who sees its meters: that its devices are warm, that its energy is known well enough.

The ranks go on without this word, at most as long as their window says; so a driver that is late costs time only.
"""

import time
from collections.abc import Mapping
from dataclasses import replace

from joulelaw.bench.energy.energy import combine
from joulelaw.bench.spec.configuration import Window
from joulelaw.bench.study.power_feed import domains_of
from joulelaw.bench.training import warmup
from joulelaw.bench.training.aliasing import sees_partly
from joulelaw.bench.trial.end import on_node
from joulelaw.bench.trial.enough import half_width
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.streams.metering import MeterInfo

# A judgement is made no more often, and not before so much of the window was seen.
JUDGE_EVERY_S = 1.0
# Nor for more than this share of the driver's time in a long window.
JUDGE_SHARE = 0.05
# Without a number for so long beyond the minimum there will be none: the verdict says why.
PATIENCE_S = 5.0
# A device that has told no temperature by then tells none.
NO_TEMPERATURE_S = 1.5


def has_joules(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> bool:
    """Whether every node of the trial has a meter."""
    return all(meters[node].kind != "none" for node in trial.gang.node_ids)


def sensor_update_s(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> float | None:
    """The update interval of the trial's power sensors, where one of them sees only part of the time."""
    sensors = [
        meters[node].sensors.get(domain) for node in trial.gang.node_ids for domain in domains_of(trial, meters[node])
    ]
    partly = [sensor.power_update_s for sensor in sensors if sensor is not None and sees_partly(sensor)]
    return max((update_s for update_s in partly if update_s is not None), default=None)


def advise(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> None:
    """Tells the ranks what there is to tell, each thing once. To be called about once a second."""
    if trial.over or not trial.steps:
        return
    if "warm" not in trial.told and is_warm(trial):
        trial.tell("warm")
    if trial.window.tolerance is None or "enough" in trial.told or time.monotonic() < trial.judge_from_s:
        return
    began_s = time.monotonic()
    if is_enough(trial, meters):
        trial.tell("enough")
    trial.judge_from_s = began_s + max(JUDGE_EVERY_S, (time.monotonic() - began_s) / JUDGE_SHARE) - 0.1


def is_warm(trial: RunningTrial) -> bool:
    """Whether every device that tells its temperature has settled since the first step."""
    since_s = time.monotonic() - (trial.first_step_s or time.monotonic())
    if since_s < NO_TEMPERATURE_S:
        return False
    heard = [[each for each in readings if each[0] >= -since_s] for readings in trial.temperatures()]
    return all(warmup.settled([at_s for at_s, _ in one], [c for _, c in one]) for one in heard if one)


def is_enough(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> bool:
    """Whether the window so far tells the energy per step within its tolerance, or never will."""
    window, seen_s = trial.window, trial.measured_s
    if len(trial.spans) < len(trial.gang.devices) or seen_s < min(JUDGE_EVERY_S, 0.5 * window.min_s):
        return False
    energy = combine([on_node(trial, node, meters[node], trial.seen_on(node)) for node in trial.gang.node_ids])
    if energy.energy_j is None or energy.stderr_j is None:
        return seen_s > window.min_s + PATIENCE_S
    known = half_width(energy.energy_j, energy.stderr_j, trial.step_s)
    return known is not None and window.tolerance is not None and known <= window.tolerance


def window_of(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> Window:
    """The trial's window; where nothing meters its joules, its minimum ends it.

    An estimate is made of the seconds of the processor: a longer window tells no more of the machine's joules.
    """
    metered = all(meters[node].kind in ("measured", "replayed") for node in trial.gang.node_ids)
    return trial.window if metered else replace(trial.window, tolerance=None)
