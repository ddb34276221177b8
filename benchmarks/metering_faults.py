"""Every fault that a device can have in a window, played and judged: the verdict must name it.

Faults begin at FAULT_S after the origin; the window is from 3 s before that to 3 s after.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from metering_ours import Recording

from joulelaw.bench.energy.energy import group_energy
from joulelaw.bench.energy.readings import from_table, power_table
from joulelaw.bench.trial.checks import TrialFacts, Verdict, verdict
from joulelaw.bench.trial.conditions import conditions_of
from tests.fake_nvml.devices import FakeGpu

FAULT_S = 14.0
BEGIN_S, END_S = FAULT_S - 3, FAULT_S + 3
RECORD_UNTIL_S = END_S + 2


def settings() -> dict[str, tuple[str, Mapping[str, Any]]]:
    """By fault: the reason that must be among the verdict's, or the remark; and what the device is told."""
    gone = FAULT_S + 2
    return {
        "none": ("valid", {}),
        "error codes for 2 s": ("gap", {"counter": 0, "error_from_s": FAULT_S, "error_to_s": gone}),
        "counter reset": ("counter_reset", {"reset_s": FAULT_S}),
        "GPU lost": ("gpu_lost", {"lost_s": FAULT_S}),
        "frozen readings": ("gap", {"frozen_s": FAULT_S}),
        "frozen counter": ("gap", {"counter_frozen_s": FAULT_S}),
        "frozen before the window": ("frozen", {"counter": 0, "frozen_s": 0}),
        "frozen power, counter moves": ("counter_trace_disagree", {"power_frozen_s": 0}),
        "neither counter nor power": ("no_reading", {"counter": 0, "fields": 0, "power": 0}),
        "foreign process": ("foreign_process", {"foreign_from_s": FAULT_S, "foreign_to_s": gone}),
        "slowed by heat": ("throttled_heat", {"heat_from_s": FAULT_S, "heat_to_s": gone}),
        "slowed by the power limit": ("power_capped", {"cap_from_s": FAULT_S, "cap_to_s": gone}),
        "one slice of a GPU cut by MIG": ("shared_domain", {"slices": 2}),
    }


def devices() -> list[FakeGpu]:
    """A slow square by an A100's sensor each; the one whose power is frozen at 0 W draws more later."""
    found = []
    for index, (_, told) in enumerate(settings().values()):
        gpu = FakeGpu(f"GPU-fault-{index:02d}", low_w=150, high_w=300, period_ms=1300, tick_phase_ms=7 * index)
        gpu = replace(gpu, settings={"limit_w": 400, **told})
        if told.get("power_frozen_s") == 0 or told.get("frozen_s") == 0:
            gpu = replace(gpu, low_w=0.0 if "frozen_s" in told else 150.0, phase_ms=1250.0)
        found.append(gpu)
    return found


def judged(recording: Recording, origin_ns: int) -> list[dict[str, Any]]:
    """A row for each fault, and for those of the window itself; `held` where the verdict names what it must."""
    table = power_table("nvml", recording.readings)
    rows = []
    begin_ns, end_ns = (origin_ns + round(at_s * 1e9) for at_s in (BEGIN_S, END_S))
    for index, (fault, (expected, told)) in enumerate(settings().items()):
        uuid = f"GPU-fault-{index:02d}"
        covers = {uuid: (f"MIG-0-{uuid}", f"MIG-1-{uuid}") if "slices" in told else (uuid,)}
        rows.append(_row(fault, expected, _verdict(recording, table, covers, begin_ns, end_ns)))
    sound = {"GPU-fault-00": ("GPU-fault-00",)}
    rows.append(
        _row("half a second", "window_too_short", _verdict(recording, table, sound, begin_ns, begin_ns + 5 * 10**8))
    )
    late_ns = recording.end_ns + 10**9
    rows.append(_row("readings end before it", "gap", _verdict(recording, table, sound, begin_ns, late_ns)))
    rows.append(
        _row("no reading at all", "no_reading", _verdict(recording, table, sound, late_ns, late_ns + 3 * 10**9))
    )
    back = replace(recording, readings=[
        replace(each, time_ns=each.time_ns - (10**9 if each.time_ns > begin_ns + 2 * 10**9 else 0))
        for each in recording.readings
    ])  # fmt: skip
    stamped = power_table("nvml", back.readings)
    rows.append(_row("clock put back by 1 s", "clock_jump", _verdict(back, stamped, sound, begin_ns, end_ns)))
    asleep = _verdict(recording, table, sound, begin_ns, end_ns, slept_s=2.0)
    return [*rows, _row("machine asleep for 2 s", "clock_jump", asleep)]


def _verdict(
    recording: Recording,
    table: Any,
    covers: Mapping[str, tuple[str, ...]],
    begin_ns: int,
    end_ns: int,
    slept_s: float = 0,
) -> tuple[Verdict, float | None]:
    group = [next(iter(devices)) for devices in covers.values()]
    energy = group_energy(from_table(table), group, begin_ns, end_ns, covers, recording.sensors)
    conditions = conditions_of([table], covers, begin_ns, end_ns)
    facts = TrialFacts(energy, (end_ns - begin_ns) / 1e9, slept_s=slept_s, conditions=conditions)
    return verdict(facts), energy.energy_j


def _row(fault: str, expected: str, found: tuple[Verdict, float | None]) -> dict[str, Any]:
    judgement, energy_j = found
    said = [*judgement.reasons, *judgement.remarks] or ["valid"]
    return {"fault": fault, "verdict": said, "has_number": energy_j is not None, "held": expected in said}
