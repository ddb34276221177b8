"""The devices behind the GPUs that a node's Ray offers and grants: Ray knows them by numbers, a study by UUID."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import ray

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node


def inspect_offered(node_id: str, cores_per_device: int, ray_gpus: int) -> Node:
    """The node that this worker of Ray runs on, with the devices that Ray offers there."""
    node = inspect_node(node_id, cores_per_device, cpu_devices=ray_gpus)
    visible, order = _of_raylet("CUDA_VISIBLE_DEVICES"), _of_raylet("CUDA_DEVICE_ORDER")
    offered = granted_devices(node.devices, ray_gpus, visible)
    clear = order == "PCI_BUS_ID" or _are_uuids(visible)
    mixed = len({device.model for device in offered if device.kind == "cuda"}) > 1
    address = str(ray.util.get_node_ip_address())
    return replace(node, devices=offered, address=address, numbered_by_cuda=mixed and not clear)


def _of_raylet(name: str) -> str:
    """A variable that this node's raylet, our parent, was started with: ours may be what Ray made of it."""
    try:
        environment = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ.get(name, "")
    found = [value for each, _, value in (line.partition(b"=") for line in environment) if each == name.encode()]
    return found[0].decode(errors="replace") if found else ""


def _are_uuids(visible: str) -> bool:
    return all(name.strip().startswith(("GPU-", "MIG-")) for name in visible.split(","))


def granted_devices(devices: Sequence[Device], ray_gpus: int, visible: str) -> tuple[Device, ...]:
    """The devices behind a node's Ray GPUs, by index: the first of those in the CUDA_VISIBLE_DEVICES that Ray was
    started with, in its order, else the first of all."""
    names = [name.strip() for name in visible.split(",") if name.strip()]
    offered = list(devices)
    if names and any(device.kind == "cuda" for device in devices):
        offered = [device for name in names for device in devices if _is_called(device, name)]
    if len(offered) < ray_gpus:
        raise InputError(
            f"Ray offers {ray_gpus} GPUs on a node where {len(offered)} are found",
            remedy="start its Ray with --num-gpus as many as it has, and one CUDA_VISIBLE_DEVICES",
        )
    if not _are_uuids(visible) and len({device.index for device in offered[:ray_gpus]}) < ray_gpus:
        raise InputError(
            "Ray's numbers do not tell the slices of a GPU apart (MIG)",
            remedy="start its Ray with CUDA_VISIBLE_DEVICES naming the slices by UUID, as nvidia-smi -L shows them",
        )
    return tuple(sorted(offered[:ray_gpus], key=lambda device: device.index))


def device_of(devices: Sequence[Device], gpu_id: str) -> Device:
    """The device behind a Ray GPU id, which is an index or, where Ray was started so, a UUID or its beginning."""
    found = [device for device in devices if _is_called(device, gpu_id)]
    if len(found) != 1:
        raise ClusterError(f"Ray granted GPU {gpu_id!r}, which is none of {[device.index for device in devices]}")
    return found[0]


def _is_called(device: Device, name: str) -> bool:
    """CUDA takes an index, or as much of a UUID as tells it from others (CUDA C++ Programming Guide, environment)."""
    return name == str(device.index) or (name.startswith(("GPU-", "MIG-")) and device.uuid.startswith(name))
