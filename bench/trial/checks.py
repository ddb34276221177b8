"""Whether a trial's joules may be believed: a verdict with reason codes. Invalid trials are kept, and shown as such."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from joulelaw.bench.energy.energy import DeviceEnergy, GroupEnergy
from joulelaw.bench.trial.conditions import NO_CONDITIONS, Conditions

# Below this a counter that ticks every 100 ms leaves a tenth of the energy to its two edges.
MIN_WINDOW_S = 1.0
# Two standard errors within 5 %: what a ranking of strategies needs, and a window of 2 s gives at 20 Hz.
MAX_RELATIVE_STDERR = 0.025
# One reading tells nothing of a stretch of time.
MIN_READINGS = 2
# Ten readings of the slowest sensor (100 ms): by then a step, a stall or a reset may have passed unseen.
MAX_GAP_S = 1.0
# A sensor that sees a quarter of the time is a few percent off its own counter, one that beats with the steps more.
MAX_DISAGREEMENT = 0.10
# An fp16 scale that is too high leaves out a few steps on its way down, and they cost but the update. Beyond half of
# them even the median step has none: time and joules are then of steps without an optimizer.
MAX_SKIPPED_SHARE = 0.5
# A user's own training may wait for its data, or do other things between steps; laws know of neither. On a GPU as fast
# as the host such a wait is all lost.
MAX_WAITED_SHARE = 0.2
# CLOCK_BOOTTIME runs on while a machine sleeps, CLOCK_MONOTONIC does not; read one after the other they agree within
# microseconds, or a scheduler's slice.
MAX_SLEPT_S = 0.1

# NVML's clocks-event (throttle) reasons, bits of a mask (nvml.h, nvmlClocksEventReason*).
POWER_CAP = 0x4  # SwPowerCap: the clocks are lowered to stay below the power limit
# HwSlowdown, SwThermalSlowdown, HwThermalSlowdown, HwPowerBrakeSlowdown: the clocks give way to heat or to the supply.
HEAT = 0x8 | 0x20 | 0x40 | 0x80


class _Code(StrEnum):
    """The value is the code in the `trials` table; `explanation` is for people."""

    explanation: str

    def __new__(cls, code: str, explanation: str) -> Self:
        reason = str.__new__(cls, code)
        reason._value_ = code
        reason.explanation = explanation
        return reason


class Remark(_Code):
    """What is worth knowing of a valid trial."""

    IMPORTED = (
        "imported",
        "its values were looked at, as far as a row alone can tell: its readings did not come with it",
    )
    POWER_CAPPED = "power_capped", "the power limit held the clocks down in the window, as laws of power caps expect"


class Reason(_Code):
    """Why a trial is invalid."""

    RANK_FAILED = "rank_failed", "a rank failed, or did not finish its window"
    LOSS_NOT_FINITE = "loss_not_finite", "the loss became infinite or not a number: the steps did no real training"
    STEPS_SKIPPED = (
        "steps_skipped",
        f"more than {MAX_SKIPPED_SHARE:.0%} of the measured steps had no update: their fp16 gradients overflowed",
    )
    NO_READING = "no_reading", "a device of the group has no reading of energy or power in the window"
    TOO_FEW_READINGS = "too_few_readings", f"fewer than {MIN_READINGS} readings, or counter ticks, in the window"
    GAP = "gap", f"no news of a device's energy for more than {MAX_GAP_S:g} s, or none at an edge of the window"
    COUNTER_RESET = "counter_reset", "a device's energy counter went backwards in the window"
    FROZEN = "frozen", "a device's meter stood still in the window: no device that works uses 0 J"
    GPU_LOST = "gpu_lost", "the driver lost a GPU of the group in the window"
    COUNTER_TRACE_DISAGREE = (
        "counter_trace_disagree",
        f"integrated power is more than {MAX_DISAGREEMENT:.0%} off the energy counter",
    )
    WINDOW_TOO_SHORT = (
        "window_too_short",
        f"the window is under {MIN_WINDOW_S:g} s, or its energy uncertain by more than {2 * MAX_RELATIVE_STDERR:.0%}",
    )
    CLOCK_JUMP = (
        "clock_jump",
        "the clock went backwards between readings, the machine slept in the window, or the window has no length",
    )
    FOREIGN_PROCESS = "foreign_process", "a process that is not the trial's was at work on a GPU of the group"
    THROTTLED_HEAT = "throttled_heat", "heat, or the power supply, slowed a GPU of the group in the window"
    SHARED_DOMAIN = "shared_domain", "the meter's domain also holds the energy of devices outside the group"
    # Of users' own trainings (bench.live).
    STEPS_DIFFER = "steps_differ", "the window's steps were not alike: their micro-batches changed in size or number"
    WAITED = (
        "waited",
        f"more than {MAX_WAITED_SHARE:.0%} of the window passed between steps: data were loaded, or other things done",
    )
    # Of imported rows, whose trials nobody here saw.
    INVALID_AT_SOURCE = "invalid_at_source", "the imported table itself calls the row invalid"
    AMBIGUOUS_STEPS = "ambiguous_steps", "the imported table is not certain of the row's number of steps"
    POWER_ABOVE_LIMIT = "power_above_limit", "joules over seconds are far more than the devices may draw"
    POWER_BELOW_IDLE = "power_below_idle", "joules over seconds are below what idle devices draw: another unit?"
    FLOP_ABOVE_PEAK = "flop_above_peak", "the counted arithmetic per second is above the devices' peak"


# What came from outside, and may not come again: such a trial is worth a second attempt.
PASSING = frozenset(
    {
        Reason.NO_READING,
        Reason.TOO_FEW_READINGS,
        Reason.GAP,
        Reason.COUNTER_RESET,
        Reason.FROZEN,
        Reason.GPU_LOST,
        Reason.WINDOW_TOO_SHORT,
        Reason.CLOCK_JUMP,
        Reason.FOREIGN_PROCESS,
        Reason.THROTTLED_HEAT,
    }
)
# What the trial itself did, and would do again.
LASTING = frozenset(
    {
        Reason.RANK_FAILED,
        Reason.LOSS_NOT_FINITE,
        Reason.STEPS_SKIPPED,
        Reason.SHARED_DOMAIN,
        Reason.STEPS_DIFFER,
        Reason.WAITED,
    }
)

# Of every code in the `reasons` column, in words.
EXPLANATIONS: dict[str, str] = {each.value: each.explanation for each in (*Reason, *Remark)}


@dataclass(frozen=True)
class TrialFacts:
    """What the verdict is made from: the group's energy, the window's length and how the ranks and devices fared.

    `skipped_share` is that of the measured steps whose fp16 update was left out; `slept_s` how long the machine did
    inside the window. Of a user's own training, `steps_differ` and the `waited_share` of the window between steps.
    """

    energy: GroupEnergy
    duration_s: float
    rank_failed: bool = False
    losses: Sequence[float | None] = ()  # None where a loss was not read back
    skipped_share: float = 0.0
    slept_s: float = 0.0
    conditions: Conditions = NO_CONDITIONS
    steps_differ: bool = False
    waited_share: float = 0.0


@dataclass(frozen=True)
class Verdict:
    """Valid, with remarks or none, or the codes of all reasons why not; in the order of `Reason` and `Remark`."""

    valid: bool
    reasons: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> Literal["valid", "invalid"]:
        """As the `trials` table has it."""
        return "valid" if self.valid else "invalid"

    @property
    def codes(self) -> list[str]:
        """As the `trials` table has them: the reasons against a trial, or the remarks on a valid one."""
        return list(self.reasons or self.remarks)


def verdict(facts: TrialFacts) -> Verdict:
    """Every reason against the trial; none makes it valid, and no trial without joules is."""
    found = {reason for device in facts.energy.devices for reason in _device_reasons(device)} | _group_reasons(facts)
    if facts.energy.energy_j is None and not found:
        found.add(Reason.NO_READING)
    capped = facts.conditions.throttle & POWER_CAP
    remarks = (Remark.POWER_CAPPED.value,) if capped else ()
    return Verdict(not found, tuple(reason.value for reason in Reason if reason in found), remarks)


def may_pass(reasons: Sequence[str], asked_s: float) -> bool:
    """Whether another run may help an invalid trial whose window was asked to be at least `asked_s` long."""
    found = set(reasons)
    short_by_choice = Reason.WINDOW_TOO_SHORT in found and asked_s < MIN_WINDOW_S
    return bool(found & PASSING) and not found & LASTING and not short_by_choice


def _group_reasons(facts: TrialFacts) -> set[Reason]:
    energy_j, stderr_j = facts.energy.energy_j, facts.energy.stderr_j
    too_uncertain = energy_j is not None and stderr_j is not None and stderr_j > MAX_RELATIVE_STDERR * energy_j
    checks = {
        Reason.RANK_FAILED: facts.rank_failed,
        Reason.LOSS_NOT_FINITE: any(loss is not None and not math.isfinite(loss) for loss in facts.losses),
        Reason.STEPS_SKIPPED: facts.skipped_share > MAX_SKIPPED_SHARE,
        Reason.WINDOW_TOO_SHORT: facts.duration_s < MIN_WINDOW_S or too_uncertain,
        Reason.CLOCK_JUMP: facts.duration_s <= 0 or abs(facts.slept_s) > MAX_SLEPT_S,
        Reason.FOREIGN_PROCESS: facts.conditions.foreign_processes > 0,
        Reason.THROTTLED_HEAT: bool(facts.conditions.throttle & HEAT),
        Reason.SHARED_DOMAIN: bool(facts.energy.shared_domains),
        Reason.STEPS_DIFFER: facts.steps_differ,
        Reason.WAITED: facts.waited_share > MAX_WAITED_SHARE,
    }
    return {reason for reason, holds in checks.items() if holds}


def _device_reasons(device: DeviceEnergy) -> set[Reason]:
    enough = device.readings >= MIN_READINGS and (device.source != "counter" or device.ticks >= MIN_READINGS)
    explained = device.lost or device.clock_jumps or device.counter_resets or device.frozen
    checks = {
        Reason.GPU_LOST: device.lost,
        Reason.CLOCK_JUMP: device.clock_jumps > 0,
        Reason.COUNTER_RESET: device.counter_resets > 0,
        Reason.FROZEN: device.frozen,
        Reason.NO_READING: not explained and device.readings == 0,
        Reason.TOO_FEW_READINGS: not explained and device.readings > 0 and not enough,
        Reason.GAP: not explained and enough and (device.largest_gap_s > MAX_GAP_S or device.energy_j is None),
        Reason.COUNTER_TRACE_DISAGREE: abs(device.disagreement or 0.0) > MAX_DISAGREEMENT,
    }
    return {reason for reason, holds in checks.items() if holds}
