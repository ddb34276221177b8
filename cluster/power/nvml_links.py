"""How NVIDIA GPUs are joined, as NVML tells: NVLinks, directly or through NVSwitch, else the way through PCIe.

What a driver does not tell is left out: a pair that no call knows anything of has no link here.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from joulelaw.cluster.nodes.topology import FARTHEST, HOST_BRIDGE, Link, LinkKind
from joulelaw.cluster.power.nvml import library, slices_of
from joulelaw.cluster.power.nvml_pci import ask, bus_id_of, pcie_of, text

try:
    import pynvml as nvml
except ImportError:  # the law and its figures install without it
    nvml = None


@dataclass
class _Ports:
    """A GPU's active NVLinks by what is at their other end; by PCI bus id where that is not a switch.

    `unknown` ends are a switch's where the driver, or a virtual machine, does not name the kind of it.
    """

    uuid: str
    handle: Any
    bus_id: str
    pcie_lanes: int
    gpus: Counter[str] = field(default_factory=Counter)
    switches: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


def nvml_links() -> tuple[Link, ...]:
    """A link for each pair of whole GPUs; none without NVML. A slice reaches no other GPU but through the host."""
    if nvml is None:
        return ()
    try:
        with library():
            return tuple(_links())
    except nvml.NVMLError:
        return ()


def _links() -> Iterator[Link]:
    for one, other in combinations(_whole_gpus(), 2):
        level = ask("nvmlDeviceGetTopologyCommonAncestor", one.handle, other.handle)
        distance = FARTHEST if level is None else int(level)
        if lanes := _nvlinks(one, other):
            yield Link(one.uuid, other.uuid, "nvlink", lanes, distance)
        elif level is not None:
            kind: LinkKind = "pcie" if distance <= HOST_BRIDGE else "host"
            yield Link(one.uuid, other.uuid, kind, min(one.pcie_lanes, other.pcie_lanes), distance)


def _whole_gpus() -> list[_Ports]:
    found = []
    for index in range(ask("nvmlDeviceGetCount") or 0):
        handle = ask("nvmlDeviceGetHandleByIndex", index)
        uuid = ask("nvmlDeviceGetUUID", handle) if handle is not None and not slices_of(handle) else None
        if uuid is not None:
            found.append(_Ports(str(uuid), handle, bus_id_of(handle), (pcie_of(handle) or (0, 0))[1]))
    gpus = {gpu.bus_id for gpu in found} - {""}
    for gpu in found:
        _look_at_ports(gpu, gpus)
    return found


def _look_at_ports(gpu: _Ports, gpus: set[str]) -> None:
    for number in range(nvml.NVML_NVLINK_MAX_LINKS):
        active = ask("nvmlDeviceGetNvLinkState", gpu.handle, number)
        if active is None:
            return  # a number beyond its last one
        if not active:
            continue
        remote = ask("nvmlDeviceGetNvLinkRemotePciInfo", gpu.handle, number)
        bus_id = text(remote.busId) if remote else ""
        kind = ask("nvmlDeviceGetNvLinkRemoteDeviceType", gpu.handle, number)
        if bus_id in gpus:
            gpu.gpus[bus_id] += 1
        elif kind == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH:
            gpu.switches += 1
        elif kind in (None, nvml.NVML_NVLINK_DEVICE_TYPE_UNKNOWN):
            gpu.unknown[bus_id] += 1


def _nvlinks(one: _Ports, other: _Ports) -> int:
    """NVLinks between two GPUs. A switch joins all of a node, unless NVML says that the pair cannot use it."""
    status = ask("nvmlDeviceGetP2PStatus", one.handle, other.handle, nvml.NVML_P2P_CAPS_INDEX_NVLINK)
    if status not in (None, nvml.NVML_P2P_STATUS_OK):
        return 0
    shared = sum((one.unknown & other.unknown).values())
    return one.gpus[other.bus_id] + min(one.switches, other.switches) + shared
