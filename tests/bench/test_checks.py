"""Verdicts: each fact has its reason, the reasons name themselves, and nothing without joules is valid."""

import itertools
import math
from dataclasses import replace

import pytest

from joulelaw.bench.energy.energy import DeviceEnergy, GroupEnergy
from joulelaw.bench.trial import checks
from joulelaw.bench.trial.checks import Reason, TrialFacts, may_pass, verdict
from joulelaw.bench.trial.conditions import Conditions

GOOD_DEVICE = DeviceEnergy(
    "A",
    energy_j=1000.0,
    source="counter",
    counter_j=1000.0,
    trace_j=1010.0,
    stderr_j=5.0,
    readings=200,
    ticks=100,
    largest_gap_s=0.11,
)


def facts(device: DeviceEnergy = GOOD_DEVICE, **changes: object) -> TrialFacts:
    group = GroupEnergy(device.energy_j, device.trace_j, device.stderr_j, device.disagreement, (device,), ())
    return replace(TrialFacts(group, duration_s=10.0, losses=(0.7, None, 0.5)), **changes)  # type: ignore[arg-type]


NO_NUMBER = {"energy_j": None, "counter_j": None, "stderr_j": None}


def test_a_good_trial_is_valid_without_reasons() -> None:
    judged = verdict(facts())
    assert (judged.valid, judged.reasons, judged.text) == (True, (), "valid")


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        (DeviceEnergy("A"), "no_reading"),
        (replace(GOOD_DEVICE, readings=1, ticks=1, **NO_NUMBER), "too_few_readings"),
        (replace(GOOD_DEVICE, ticks=1, **NO_NUMBER), "too_few_readings"),
        (replace(GOOD_DEVICE, largest_gap_s=checks.MAX_GAP_S + 0.01), "gap"),
        (replace(GOOD_DEVICE, **NO_NUMBER), "gap"),
        (replace(GOOD_DEVICE, counter_resets=1, largest_gap_s=math.inf, **NO_NUMBER), "counter_reset"),
        (replace(GOOD_DEVICE, frozen=True, ticks=0, **NO_NUMBER), "frozen"),
        (replace(GOOD_DEVICE, lost=True, readings=0, largest_gap_s=math.inf, **NO_NUMBER), "gpu_lost"),
        (replace(GOOD_DEVICE, clock_jumps=1, largest_gap_s=math.inf, **NO_NUMBER), "clock_jump"),
        (replace(GOOD_DEVICE, trace_j=1101.0), "counter_trace_disagree"),
        (replace(GOOD_DEVICE, trace_j=899.0), "counter_trace_disagree"),
        (replace(GOOD_DEVICE, stderr_j=25.1), "window_too_short"),
    ],
)
def test_a_device_at_fault_makes_the_trial_invalid_for_just_that(device: DeviceEnergy, reason: str) -> None:
    judged = verdict(facts(device))
    assert (judged.valid, judged.reasons, judged.text) == (False, (reason,), "invalid")


@pytest.mark.parametrize(
    "device",
    [
        replace(GOOD_DEVICE, readings=2, ticks=2),
        replace(GOOD_DEVICE, largest_gap_s=checks.MAX_GAP_S),
        replace(GOOD_DEVICE, trace_j=1099.0),
        replace(GOOD_DEVICE, trace_j=None),
        replace(GOOD_DEVICE, stderr_j=24.9),
        replace(GOOD_DEVICE, source="trace", counter_j=None, ticks=0),
    ],
)
def test_what_is_within_its_threshold_is_valid(device: DeviceEnergy) -> None:
    assert verdict(facts(device)).reasons == ()


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"rank_failed": True}, ("rank_failed",)),
        ({"losses": (0.7, math.nan)}, ("loss_not_finite",)),
        ({"losses": (math.inf,)}, ("loss_not_finite",)),
        ({"losses": (None,)}, ()),
        ({"skipped_share": 0.5}, ()),
        ({"skipped_share": 0.51}, ("steps_skipped",)),
        ({"duration_s": 0.99}, ("window_too_short",)),
        ({"duration_s": 0.0}, ("window_too_short", "clock_jump")),
        ({"slept_s": 0.2}, ("clock_jump",)),
        ({"slept_s": 1e-5}, ()),
        ({"steps_differ": True}, ("steps_differ",)),
        ({"waited_share": 0.19}, ()),
        ({"waited_share": 0.21}, ("waited",)),
        ({"conditions": Conditions(foreign_processes=1)}, ("foreign_process",)),
        *(({"conditions": Conditions(throttle=bit)}, ("throttled_heat",)) for bit in (0x8, 0x20, 0x40, 0x80, 0x24)),
        *(({"conditions": Conditions(throttle=bit)}, ()) for bit in (0x0, 0x1, 0x2, 0x4, 0x10, 0x100)),
    ],
)
def test_the_ranks_and_the_window_count_too(changes: dict[str, object], reasons: tuple[str, ...]) -> None:
    assert verdict(facts(**changes)).reasons == reasons


def test_a_power_cap_is_told_of_a_valid_trial_and_does_not_make_it_invalid() -> None:
    capped = Conditions(throttle=0x4)
    judged = verdict(facts(conditions=capped))
    assert (judged.valid, judged.reasons, judged.codes) == (True, (), ["power_capped"])
    spoilt = verdict(facts(conditions=capped, duration_s=0.5))
    assert (spoilt.valid, spoilt.codes) == (False, ["window_too_short"]), "a remark is no reason"


@pytest.mark.parametrize(
    ("reasons", "asked_s", "helps"),
    [
        (["gap"], 2.0, True),
        (["foreign_process", "throttled_heat"], 2.0, True),
        (["gpu_lost", "counter_trace_disagree"], 2.0, True),
        (["counter_trace_disagree"], 2.0, False),
        (["gap", "loss_not_finite"], 2.0, False),
        (["steps_skipped"], 2.0, False),
        (["shared_domain", "gap"], 2.0, False),
        (["window_too_short"], 2.0, True),
        (["window_too_short", "too_few_readings"], 0.0, False),
        (["too_few_readings"], 0.0, True),
        ([], 2.0, False),
    ],
)
def test_another_run_helps_against_what_came_from_outside(reasons: list[str], asked_s: float, helps: bool) -> None:
    assert may_pass(reasons, asked_s) is helps


def test_a_shared_domain_is_named() -> None:
    shared = GroupEnergy(None, None, None, None, (GOOD_DEVICE,), ("package-0",))
    assert verdict(facts(energy=shared)).reasons == ("shared_domain",)


def test_every_reason_is_kept_in_a_fixed_order() -> None:
    lost = replace(GOOD_DEVICE, lost=True, readings=0, **NO_NUMBER)
    group = GroupEnergy(None, None, None, None, (lost, DeviceEnergy("B"), DeviceEnergy("C")), ())
    judged = verdict(TrialFacts(group, 0.5, rank_failed=True))
    assert judged.reasons == ("rank_failed", "no_reading", "gpu_lost", "window_too_short")


def test_no_combination_of_facts_is_valid_without_joules() -> None:
    """Whatever else is known of a device: a group without a number has at least one reason."""
    sources, counts, gaps = ("counter", "trace", ""), (0, 1, 5), (0.1, 3.0, math.inf)
    for source, readings, ticks, gap_s in itertools.product(sources, counts, counts, gaps):
        device = replace(GOOD_DEVICE, source=source, readings=readings, ticks=ticks, largest_gap_s=gap_s, **NO_NUMBER)  # type: ignore[arg-type]
        assert not verdict(facts(device)).valid
    assert verdict(facts(energy=GroupEnergy(None, None, None, None, (), ()))).reasons == ("no_reading",)


def test_codes_are_unique_plain_and_explained_in_a_line() -> None:
    assert {reason.value for reason in Reason} == {
        "rank_failed",
        "loss_not_finite",
        "steps_skipped",
        "no_reading",
        "too_few_readings",
        "gap",
        "counter_reset",
        "frozen",
        "gpu_lost",
        "counter_trace_disagree",
        "window_too_short",
        "clock_jump",
        "foreign_process",
        "throttled_heat",
        "shared_domain",
        "steps_differ",
        "waited",
        "invalid_at_source",
        "ambiguous_steps",
        "power_above_limit",
        "power_below_idle",
        "flop_above_peak",
    }
    for reason in Reason:
        assert len(reason.explanation) > 20
        assert "\n" not in reason.explanation
    assert "10%" in Reason.COUNTER_TRACE_DISAGREE.explanation, "the threshold that holds is the one that is told"
