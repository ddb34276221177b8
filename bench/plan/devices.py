"""This machine's devices for a plan, or a cluster's, with stand-in figures for those that no catalogue file lists.

The stand-ins give rough times before a device is measured. They serve the plan's seconds and nothing else: a study
measures such devices (`bench.probe`) before its first trial, and no law is ever fitted on an assumed figure.
"""

import datetime
from collections.abc import Sequence

from joulelaw import InputError
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.training.precision import trainable
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node
from joulelaw.model.hardware import Catalogue, DeviceSpec, UnknownDevice

# One core of a present server processor; a present mid-range GPU.
CORE_FLOP_PER_S, CORE_BYTES_PER_S, CORE_LINK_BYTES_PER_S = 100e9, 12e9, 1e9
GPU_FLOP_PER_S, GPU_BYTES_PER_S, GPU_LINK_BYTES_PER_S = 30e12, 500e9, 12e9


def local_nodes(sweep: Sweep) -> tuple[Node, ...]:
    """This machine, divided as the sweep says.

    Raises:
        InputError: with the sweep's line, where there are fewer cores than one device is to have.
    """
    try:
        return (inspect_node(cores_per_device=sweep.devices.cores_per_device),)
    except InputError as error:
        if error.where != "cores_per_device":
            raise
        where = sweep.file.where(("devices", "cores_per_device"))
        raise InputError(error.what, where=where, remedy=error.remedy) from None


def cluster_nodes(sweep: Sweep) -> tuple[Node, ...]:
    """The nodes with devices of the Ray cluster that RAY_ADDRESS names. Takes Ray's seconds."""
    from joulelaw.cluster.nodes.survey import survey  # here: a plan for this machine needs no Ray

    return survey(cores_per_device=sweep.devices.cores_per_device)


def with_assumed(catalogue: Catalogue, nodes: Sequence[Node]) -> tuple[Catalogue, tuple[str, ...]]:
    """The catalogue with a stand-in for every device model of the nodes that it lacks, and the names of those."""
    assumed: dict[str, DeviceSpec] = {}
    for device in (device for node in nodes for device in node.devices):
        try:
            catalogue.get(device.model)
        except UnknownDevice:
            assumed.setdefault(device.model, _assumed(device))
    return Catalogue({**catalogue.devices, **assumed}), tuple(assumed)


def _assumed(device: Device) -> DeviceSpec:
    cores = len(device.cores)
    flop_per_s, bytes_per_s, link = (
        (CORE_FLOP_PER_S * cores, CORE_BYTES_PER_S * cores, CORE_LINK_BYTES_PER_S)
        if device.kind == "cpu"
        else (GPU_FLOP_PER_S, GPU_BYTES_PER_S, GPU_LINK_BYTES_PER_S)
    )
    return DeviceSpec(
        name=device.model,
        peak_flop_per_s=dict.fromkeys(trainable(device.kind, device.compute_capability), flop_per_s),
        bandwidth_bytes_per_s=bytes_per_s,
        memory_bytes=device.memory_bytes,
        link="assumed",
        link_bytes_per_s=link,
        source="assumed for planning",
        date=datetime.date(2026, 11, 21),
        power_limit_w=device.power_limit_w,
        kind=device.kind,
    )
