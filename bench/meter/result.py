"""What a measured window gives: joules per device with their verdict, and beside them what else the node drew."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from joulelaw.bench.energy.energy import GroupEnergy, group_energy
from joulelaw.bench.energy.readings import DeviceReadings, from_tables
from joulelaw.bench.known import largest, total
from joulelaw.bench.trial.checks import TrialFacts, Verdict, verdict
from joulelaw.bench.trial.conditions import NO_CONDITIONS, Conditions, conditions_of
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.power.meter import Meter
from joulelaw.cluster.power.sensor import Sensor

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
        return total(each.energy_j for each in (*self.devices, *self.surroundings))


@dataclass(frozen=True)
class Measured:
    """What was read, and between which two times."""

    parts: Sequence[pa.Table]  # of the `power` table
    begin_ns: int
    end_ns: int
    slept_s: float = 0.0  # how long the machine did, inside the window
    idle_ns: tuple[int, int] | None = None  # a stretch before the window with nothing of ours at work
    others_welcome: bool = False  # other processes on a device are part of what is measured


@dataclass(frozen=True)
class _Group:
    """What has one row in the result: a device, slices of one GPU, or a domain beside them."""

    uuid: str
    gpu_model: str
    role: str
    members: tuple[str, ...]
    covers: Mapping[str, tuple[str, ...]]
    limit_w: float | None = None  # what it draws at most


def made_result(meter: Meter, devices: Sequence[Device], measured: Measured) -> MeterResult:
    """The joules and verdicts of all devices and of what surrounds them."""
    readings = from_tables(measured.parts)
    asked = [_of_devices(meter, group) for group in inseparable(devices, meter.covers)]
    around = [_Group(name, "", role, (name,), {name: (name,)}) for name, role in meter.surroundings.items()]
    beside = replace(measured, others_welcome=True)
    return MeterResult(
        measured.begin_ns,
        measured.end_ns,
        meter.name,
        meter.kind,
        meter.boundary,
        tuple(_joules(group, meter.sensors, readings, measured) for group in asked),
        tuple(_joules(group, meter.sensors, readings, beside) for group in around),
    )


def inseparable(devices: Sequence[Device], covers: Mapping[str, Sequence[str]]) -> list[list[Device]]:
    """The devices in groups that share no metered domain: one each, but for slices of a GPU and cores of a package."""
    groups: list[tuple[set[str], list[Device]]] = []
    for device in devices:
        domains, members = {domain for domain, covered in covers.items() if device.uuid in covered}, [device]
        for group in [group for group in groups if group[0] & domains]:
            groups.remove(group)
            domains, members = domains | group[0], [*group[1], *members]
        groups.append((domains, members))
    return [members for _, members in groups]


def _of_devices(meter: Meter, devices: Sequence[Device]) -> _Group:
    members = tuple(device.uuid for device in devices)
    covers = {domain: tuple(covered) for domain, covered in meter.covers.items() if set(members) & set(covered)}
    name = members[0] if len(members) == 1 else "+".join(covers)
    return _Group(name, devices[0].model, "device", members, covers, devices[0].power_limit_w)


def _joules(
    group: _Group, sensors: Mapping[str, Sensor], readings: Mapping[str, DeviceReadings], measured: Measured
) -> DeviceJoules:
    begin_ns, end_ns = measured.begin_ns, measured.end_ns
    duration_s = (end_ns - begin_ns) / 1e9
    idle_w = idle_stderr_w = None
    if measured.idle_ns is not None:
        idle_s = (measured.idle_ns[1] - measured.idle_ns[0]) / 1e9
        idle = group_energy(readings, group.members, *measured.idle_ns, group.covers, sensors)
        idle_w, idle_stderr_w = (None if each is None else each / idle_s for each in (idle.energy_j, idle.stderr_j))
    limits_w = dict.fromkeys(group.covers, (idle_w or 0.0, group.limit_w)) if len(group.covers) == 1 else None
    energy = group_energy(readings, group.members, begin_ns, end_ns, group.covers, sensors, limits_w)
    conditions = conditions_of(measured.parts, group.covers, begin_ns, end_ns)
    return DeviceJoules(
        group.uuid,
        group.gpu_model,
        group.role,
        energy,
        _verdict(energy, duration_s, conditions, measured),
        duration_s,
        idle_w,
        idle_stderr_w,
        largest(sensors[domain].gain_bound if domain in sensors else None for domain in group.covers),
        conditions,
    )


def _verdict(energy: GroupEnergy, duration_s: float, conditions: Conditions, measured: Measured) -> Verdict:
    if not measured.others_welcome or not conditions.foreign_processes:
        return verdict(TrialFacts(energy, duration_s, slept_s=measured.slept_s, conditions=conditions))
    alone = replace(conditions, foreign_processes=0)
    found = verdict(TrialFacts(energy, duration_s, slept_s=measured.slept_s, conditions=alone))
    return replace(found, remarks=(*found.remarks, OTHERS_AT_WORK))
