"""What a measured window gives: joules per device with their verdict, and beside them what else the node drew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from joulelaw.bench.checks import TrialFacts, Verdict, verdict
from joulelaw.bench.conditions import NO_CONDITIONS, Conditions, conditions_of
from joulelaw.bench.energy import GroupEnergy, group_energy
from joulelaw.bench.readings import DeviceReadings, from_tables
from joulelaw.cluster.inventory import Device
from joulelaw.cluster.power.meter import Meter

# Without a command, whoever is at work on a device is what was to be measured: a remark, and no fault.
OTHERS_AT_WORK = "foreign_process"


@dataclass(frozen=True)
class DeviceJoules:
    """The joules of one device; or of the slices of one GPU together, which only its whole has a meter for."""

    uuid: str
    gpu_model: str
    role: str  # device; of what stands beside them: gpu, cpu, dram
    energy: GroupEnergy  # its facts, domain by domain
    verdict: Verdict
    duration_s: float
    idle_w: float | None = None  # before the window; None where it was not measured
    idle_stderr_w: float | None = None
    gain_bound: float | None = None  # systematic: the sensor's gain, as a share of energy_j; None where not known
    conditions: Conditions = NO_CONDITIONS

    @property
    def energy_j(self) -> float | None:
        return self.energy.energy_j

    @property
    def energy_stderr_j(self) -> float | None:
        """The random part, as one standard error."""
        return self.energy.stderr_j

    @property
    def mean_power_w(self) -> float | None:
        return None if self.energy_j is None else self.energy_j / self.duration_s

    @property
    def energy_net_j(self) -> float | None:
        """Less the idle power over the same time; None where either is not known."""
        return None if self.energy_j is None or self.idle_w is None else self.energy_j - self.idle_w * self.duration_s

    @property
    def energy_net_stderr_j(self) -> float | None:
        if self.energy_net_j is None or self.energy_stderr_j is None or self.idle_stderr_w is None:
            return None
        return math.hypot(self.energy_stderr_j, self.idle_stderr_w * self.duration_s)


@dataclass(frozen=True)
class MeterResult:
    """`begin_ns` and `end_ns` are of CLOCK_MONOTONIC, and exactly what the joules are of."""

    begin_ns: int
    end_ns: int
    meter: str
    meter_kind: str
    boundary: str
    devices: tuple[DeviceJoules, ...]
    surroundings: tuple[DeviceJoules, ...]  # what else of the node is metered: other GPUs, CPU packages, memory

    @property
    def duration_s(self) -> float:
        return (self.end_ns - self.begin_ns) / 1e9

    @property
    def valid(self) -> bool:
        """Whether the joules of all devices may be believed."""
        return all(device.verdict.valid for device in self.devices)

    @property
    def node_total_j(self) -> float | None:
        """All that is metered on this node; None as soon as a part of it is missing."""
        parts = [each.energy_j for each in (*self.devices, *self.surroundings)]
        known = [joules for joules in parts if joules is not None]
        return math.fsum(known) if len(known) == len(parts) else None


@dataclass(frozen=True)
class Measured:
    """What was read, and between which two times."""

    parts: Sequence[pa.Table]
    begin_ns: int
    end_ns: int
    slept_s: float  # how long the machine did, inside the window
    idle_ns: tuple[int, int] | None  # a stretch before the window with nothing of ours at work
    others_welcome: bool  # other processes on a device are part of what is measured


def made_result(meter: Meter, devices: Sequence[Device], measured: Measured) -> MeterResult:
    """The joules and verdicts of all devices and of what surrounds them."""
    readings = from_tables(measured.parts)
    asked = tuple(_judged(meter, group, readings, measured) for group in inseparable(devices, meter.covers))
    around = tuple(
        _joules((domain,), {domain: (domain,)}, readings, replace(measured, others_welcome=True), (domain, "", role))
        for domain, role in meter.surroundings.items()
    )
    begin_ns, end_ns = measured.begin_ns, measured.end_ns
    return MeterResult(begin_ns, end_ns, meter.name, meter.kind, meter.boundary, asked, around)


def inseparable(devices: Sequence[Device], covers: Mapping[str, Sequence[str]]) -> list[list[Device]]:
    """The devices in groups that share no metered domain: one each, but for slices of a GPU and cores of a package."""
    groups: list[tuple[set[str], list[Device]]] = []
    for device in devices:
        domains = {domain for domain, covered in covers.items() if device.uuid in covered}
        together = [group for group in groups if group[0] & domains]
        groups = [group for group in groups if not group[0] & domains]
        groups.append(
            (domains.union(*(each[0] for each in together)), [*(d for each in together for d in each[1]), device])
        )
    return [group for _, group in groups]


def _judged(
    meter: Meter, group: Sequence[Device], readings: Mapping[str, DeviceReadings], measured: Measured
) -> DeviceJoules:
    uuids = tuple(device.uuid for device in group)
    domains = [domain for domain, covered in meter.covers.items() if set(uuids) & set(covered)]
    name = uuids[0] if len(uuids) == 1 else "+".join(domains)
    covers = {domain: tuple(meter.covers[domain]) for domain in domains}
    made = _joules(uuids, covers, readings, measured, (name, group[0].model, "device"))
    bounds = [sensor.gain_bound for domain in domains if (sensor := meter.sensors.get(domain)) is not None]
    known = [bound for bound in bounds if bound is not None]
    return replace(made, gain_bound=max(known) if known and len(known) == len(domains) else None)


def _joules(
    uuids: Sequence[str],
    covers: Mapping[str, Sequence[str]],
    readings: Mapping[str, DeviceReadings],
    measured: Measured,
    called: tuple[str, str, str],
) -> DeviceJoules:
    begin_ns, end_ns = measured.begin_ns, measured.end_ns
    energy = group_energy(readings, uuids, begin_ns, end_ns, covers)
    conditions = conditions_of(measured.parts, covers, begin_ns, end_ns)
    judged = replace(conditions, foreign_processes=0) if measured.others_welcome else conditions
    duration_s = (end_ns - begin_ns) / 1e9
    found = verdict(TrialFacts(energy, duration_s, slept_s=measured.slept_s, conditions=judged))
    if conditions.foreign_processes and measured.others_welcome:
        found = replace(found, remarks=(*found.remarks, OTHERS_AT_WORK))
    idle_w, idle_stderr_w = _idle(readings, uuids, covers, measured.idle_ns)
    return DeviceJoules(*called, energy, found, duration_s, idle_w, idle_stderr_w, None, conditions)


def _idle(
    readings: Mapping[str, DeviceReadings],
    uuids: Sequence[str],
    covers: Mapping[str, Sequence[str]],
    idle_ns: tuple[int, int] | None,
) -> tuple[float | None, float | None]:
    """Power (W) of these devices before the window, and its standard error."""
    if idle_ns is None:
        return None, None
    energy = group_energy(readings, uuids, *idle_ns, covers)
    seconds = (idle_ns[1] - idle_ns[0]) / 1e9
    return (
        None if energy.energy_j is None else energy.energy_j / seconds,
        None if energy.stderr_j is None else energy.stderr_j / seconds,
    )
