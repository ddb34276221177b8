"""The devices that the processes of one node train on, as its meter knows them, and that meter."""

from collections.abc import Sequence

from joulelaw import InputError
from joulelaw.bench.live.ranks import Member
from joulelaw.bench.meter.devices import open_for
from joulelaw.cluster.nodes.inventory import (
    Device,
    cpu_model,
    cuda_devices,
    hostname_hash,
    logical_devices,
    memory_bytes,
    usable_cores,
)
from joulelaw.cluster.power.meter import Meter, MeterOptions, NoMeter, open_meter

# Processes that load data live as long as an epoch; to look for them takes as long as twenty readings.
LOOK_EVERY_NS = 5_000_000_000


def devices_of(members: Sequence[Member]) -> tuple[Device, ...]:
    """One for each process of a node, in their order: its GPU by UUID, or as many cores as it has threads.

    Raises:
        InputError: a GPU that NVML does not show.
    """
    if all(member.device is not None for member in members):
        known = cuda_devices()
        return tuple(_gpu(known, member) for member in members)
    cores = usable_cores()
    each = max(1, min(members[0].threads, len(cores) // len(members)))
    return logical_devices(cores, each, cpu_model(), memory_bytes(), hostname_hash(), len(members))


def _gpu(known: Sequence[Device], member: Member) -> Device:
    uuid = member.device[1] if member.device else ""
    for device in known:
        if device.uuid.partition("-")[2].lower() == uuid.lower() or device.uuid.lower() == uuid.lower():
            return device
    what = f"GPU {uuid} of rank {member.rank} is not among those that NVML shows"
    raise InputError(what, where="meter", remedy="see joulelaw doctor")


def meter_of(devices: Sequence[Device], options: MeterOptions) -> Meter:
    """The best meter of these devices, or the one asked for; of one process an estimate counts what it starts, too.

    Raises:
        InputError: there is none: joules that nobody reads are not 0 J.
    """
    if len(devices) == 1:
        return open_for(devices, options, "program", LOOK_EVERY_NS)
    meter = open_meter(devices, options)
    if isinstance(meter, NoMeter):
        remedy = "see joulelaw doctor; cpu_w_per_core=W estimates the joules of a training from its CPU time"
        raise InputError(f"nothing here can be metered ({meter.why})", where="meter", remedy=remedy)
    return meter


def pids_on(devices: Sequence[Device], members: Sequence[Member]) -> dict[str, list[int]]:
    """The processes at work on each device; a process counts with all that it starts where a meter can see them."""
    found: dict[str, list[int]] = {}
    for device, member in zip(devices, members, strict=True):
        found.setdefault(device.uuid, []).append(member.pid)
    return found
