"""Which devices `joulelaw meter` measures, and the meter that does."""

from collections.abc import Sequence
from typing import Literal

from joulelaw import InputError
from joulelaw.bench.meter.processes import LOOK_EVERY_NS, OwnEstimate
from joulelaw.cluster.nodes.inventory import (
    Device,
    cpu_model,
    cuda_devices,
    hostname_hash,
    logical_devices,
    memory_bytes,
    usable_cores,
)
from joulelaw.cluster.power.meter import Meter, MeterChoice, MeterOptions, NoMeter, open_meter

# Whose work is measured: this program's and all it starts, that of what it starts alone, or whatever the devices do.
Subject = Literal["program", "children", "devices"]
_OF_CPUS: tuple[MeterChoice, ...] = ("rapl", "estimate")


def node_devices(meter: MeterChoice = "auto") -> tuple[Device, ...]:
    """All GPUs of this node, whatever CUDA_VISIBLE_DEVICES says; where there is none, or the meter is one of CPUs,
    all cores that this process may use, as one device. InputError where the driver does not answer.
    """
    gpus = () if meter in _OF_CPUS else cuda_devices()
    cores = usable_cores()
    return gpus or logical_devices(cores, len(cores), cpu_model(), memory_bytes(), hostname_hash())


def chosen(devices: Sequence[Device], names: Sequence[str]) -> tuple[Device, ...]:
    """Those of `devices` that are named: by UUID, by a beginning of it that no other has, or by index (as nvidia-smi
    counts; of a GPU cut by MIG it means all slices). In the order of the names; all where none is given.

    Raises InputError for a name that means no device, or several.
    """
    if not names:
        return tuple(devices)
    found = [device for name in names for device in _named(devices, name.strip())]
    return tuple(dict.fromkeys(found))


def _named(devices: Sequence[Device], name: str) -> list[Device]:
    if name.isdecimal():
        found = [device for device in devices if device.index == int(name)]
    else:
        whole = [device for device in devices if device.uuid == name]
        found = whole or [device for device in devices if name and device.uuid.startswith(name)]
        if len(found) > 1:
            raise InputError(f"{name!r} is the beginning of several UUIDs", where="--devices", remedy=_listed(found))
    if not found:
        raise InputError(f"no device {name!r} on this node", where="--devices", remedy=_listed(devices))
    return found


def _listed(devices: Sequence[Device]) -> str:
    return "choose of " + ", ".join(f"{device.index} = {device.uuid}" for device in devices)


def open_for(
    devices: Sequence[Device], options: MeterOptions, of: Subject, look_every_ns: int = LOOK_EVERY_NS
) -> Meter:
    """The best meter, or the one asked for. An estimate is of this program's own processes, and looks for new ones so
    often; see OwnEstimate.

    Raises InputError where there is none: joules that nobody reads are not 0 J.
    """
    meter = open_meter(devices, options)
    if isinstance(meter, NoMeter):
        remedy = "see joulelaw doctor; --cpu-w-per-core W estimates the joules of a command from its CPU time"
        raise InputError(f"nothing here can be metered ({meter.why})", where="--meter", remedy=remedy)
    if meter.kind != "estimated" or options.cpu_w_per_core is None:
        return meter
    meter.close()
    if len(devices) > 1:
        what = f"{len(devices)} CPU devices, and one estimate of all processes"
        raise InputError(what, where="--devices", remedy="name one device")
    if of == "devices":
        what = "the estimate counts the CPU time of a command, and none is given"
        raise InputError(what, where="--meter", remedy="name the command after --")
    only = of == "children"
    return OwnEstimate(meter.device_uuids, options.cpu_w_per_core, children_only=only, look_every_ns=look_every_ns)
