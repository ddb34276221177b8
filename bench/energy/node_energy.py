"""What the energy of a trial's nodes was besides the trial's own, and what its own is beyond idling.

Over one window a node's total is what each trial on it is given, and `others` and the hosts' joules once. Devices
that another trial held in the window are that trial's, not others; what such a device drew before or after it was
held is nobody's. Trials side by side each have the whole of what is beside them: `shared_with` names them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.bench.energy.idle import IdleByDomain
from joulelaw.bench.energy.readings import DeviceReadings, from_tables
from joulelaw.bench.known import largest, total
from joulelaw.bench.study.power_feed import beside_of, domains_of
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.power.sensor import Sensor
from joulelaw.cluster.streams.metering import MeterInfo


@dataclass(frozen=True)
class NodeEnergy:
    """Joules over a trial's window, of all its nodes together; None where one of them does not tell."""

    others_j: float | None = None
    host_cpu_j: float | None = None
    host_dram_j: float | None = None
    idle_j: float | None = None
    """Of the trial's own domains at their idle power, over the same time."""


def around(trial: RunningTrial, meters: Mapping[str, MeterInfo], idle: IdleByDomain) -> NodeEnergy:
    """Of a trial whose ranks all got through their windows."""
    parts = [_on_node(trial, node, meters[node], idle) for node in trial.gang.node_ids]
    return NodeEnergy(
        total(part.others_j for part in parts),
        total(part.host_cpu_j for part in parts),
        total(part.host_dram_j for part in parts),
        total(part.idle_j for part in parts),
    )


def systematic(trial: RunningTrial, meters: Mapping[str, MeterInfo]) -> float | None:
    """The largest share that the gain of a sensor of the group may put its joules off; None where one is unknown."""
    return largest(
        sensor.gain_bound if (sensor := meters[node].sensors.get(domain)) else None
        for node in trial.gang.node_ids
        for domain in domains_of(trial, meters[node])
    )


def _on_node(trial: RunningTrial, node: str, meter: MeterInfo, idle: IdleByDomain) -> NodeEnergy:
    begin_ns, end_ns = trial.window_on(node)
    seconds = 1e-9 * (end_ns - begin_ns)
    mine = domains_of(trial, meter)
    own_w = total((each.power_w if (each := idle.get((node, domain))) else None) for domain in mine)
    idle_j = None if own_w is None else own_w * seconds
    if meter.kind != "measured":
        return NodeEnergy(idle_j=idle_j)
    readings = from_tables(trial.beside.get(node, ()))
    roles = {role: [domain for domain, each in meter.surroundings.items() if each == role] for role in ("cpu", "dram")}
    others = beside_of(trial, meter) - {*roles["cpu"], *roles["dram"]}
    known = {each: (readings.get(each), meter.sensors.get(each)) for each in [*meter.covers, *meter.surroundings]}
    others_j = _joules([known[each] for each in sorted(others)], begin_ns, end_ns) if others else 0.0
    hosts = {role: _joules([known[each] for each in domains], begin_ns, end_ns) for role, domains in roles.items()}
    return NodeEnergy(others_j, hosts["cpu"], hosts["dram"], idle_j)


def _joules(domains: Sequence[tuple[DeviceReadings | None, Sensor | None]], begin_ns: int, end_ns: int) -> float | None:
    energies = [
        DeviceEnergy("") if readings is None else window_energy(readings, begin_ns, end_ns, sensor)
        for readings, sensor in domains
    ]
    return total(None if each.counter_resets or each.lost else each.energy_j for each in energies)
