"""What `joulelaw meter` says: a table for people, and the values of its last line for programs."""

from collections.abc import Iterator, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.meter.result import OTHERS_AT_WORK, DeviceJoules, MeterResult
from joulelaw.bench.trial.checks import EXPLANATIONS

_NUMERIC = ("energy J", "± J (95 %)", "mean W", "idle W", "net J")
_TWO_SIDED_95 = 1.96


def shown(result: MeterResult) -> Table:
    """A row a device, and below them what surrounds them and the sum."""
    seconds = duration(result.duration_s)
    made = table(f"{seconds}, {result.meter} ({result.meter_kind})", ["", *_NUMERIC, "verdict"], _NUMERIC)
    for each in (*result.devices, *result.surroundings):
        error_j = each.energy_stderr_j
        numbers = [
            each.energy_j,
            None if error_j is None else _TWO_SIDED_95 * error_j,
            each.mean_power_w,
            each.idle_w,
            each.energy_net_j,
        ]
        verdict = " ".join([each.verdict.text, *each.verdict.codes])
        name = each.uuid if each.role == "device" else f"{each.uuid} (beside: {each.role})"
        made.add_row(escape(name), *map(number, numbers), verdict)
    if len(result.devices) + len(result.surroundings) > 1:
        made.add_row("all that is metered here", number(result.node_total_j))
    return made


def notes(result: MeterResult) -> Iterator[str]:
    """What the numbers do not say of themselves."""
    if result.meter_kind == "estimated":
        yield "Estimated: CPU time x the watts stated for a core. It says nothing of the machine's real power."
    bounds = {device.gain_bound for device in result.devices if device.gain_bound is not None}
    for bound in sorted(bounds):
        yield f"The gain of such a sensor may be off by {bound:.0%}: the same in every window, and not in ±."
    codes = [code for device in result.devices for code in device.verdict.codes]
    for code in dict.fromkeys(codes):
        yield f"{code}: {explanation(code, result)}"


def explanation(code: str, result: MeterResult) -> str:
    """A reason or remark in words."""
    if code == OTHERS_AT_WORK and all(code not in device.verdict.reasons for device in result.devices):
        return "processes are at work on the device; their joules are in the sum"
    return EXPLANATIONS[code]


def as_json(result: MeterResult) -> dict[str, Any]:
    """For the last line."""
    return {
        "begin_ns": result.begin_ns,
        "end_ns": result.end_ns,
        "duration_s": result.duration_s,
        "meter": result.meter,
        "meter_kind": result.meter_kind,
        "boundary": result.boundary,
        "devices": [_device(each, result) for each in result.devices],
        "surroundings": [{**_energy(each), "domain": each.uuid, "role": each.role} for each in result.surroundings],
        "node_total_j": result.node_total_j,
        "node_total_of": _covered(result.devices, result.surroundings),
    }


def _device(device: DeviceJoules, result: MeterResult) -> dict[str, Any]:
    conditions = device.conditions
    return {
        "uuid": device.uuid,
        "gpu_model": device.gpu_model,
        **_energy(device),
        "meter": result.meter,
        "source": "+".join(dict.fromkeys(each.source for each in device.energy.devices if each.source)) or None,
        "domains": [each.domain for each in device.energy.devices],
        "energy_trace_j": device.energy.trace_j,
        "energy_systematic": device.gain_bound,
        "idle_w": device.idle_w,
        "energy_net_j": device.energy_net_j,
        "energy_net_stderr_j": device.energy_net_stderr_j,
        "temperature_max_c": conditions.temperature_max_c,
        "clock_mhz_mean": conditions.clock_mhz_mean,
        "foreign_processes": conditions.foreign_processes,
    }


def _energy(each: DeviceJoules) -> dict[str, Any]:
    return {
        "energy_j": each.energy_j,
        "energy_stderr_j": each.energy_stderr_j,
        "duration_s": each.duration_s,
        "mean_power_w": each.mean_power_w,
        "verdict": each.verdict.text,
        "reasons": each.verdict.codes,
    }


def _covered(devices: Sequence[DeviceJoules], surroundings: Sequence[DeviceJoules]) -> list[str]:
    """What the sum is of: `devices`, and the kinds of what is metered beside them."""
    return ["devices"] * bool(devices) + list(dict.fromkeys(each.role for each in surroundings))
