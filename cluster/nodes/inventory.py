"""Which devices a node has: its GPUs as NVML names them, or its cores as logical devices where it has none."""

import hashlib
import os
import platform
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from joulelaw import InputError
from joulelaw.cluster.nodes.topology import Link
from joulelaw.cluster.nodes.versions import installed, own_epoch_ns


@dataclass(frozen=True)
class Device:
    """One GPU, or one logical CPU device: a set of cores that a rank is pinned to.

    `index` is NVML's index, or the logical one; Ray's GPU ids on the node mean the same numbers. `memory_bytes` of
    a logical device is its even share of the machine's. `cores` is empty for a GPU, whose ranks are not pinned.
    """

    uuid: str
    model: str
    index: int
    kind: Literal["cuda", "cpu"]
    memory_bytes: int
    cores: tuple[int, ...]
    power_limit_w: float | None
    driver: str
    compute_capability: tuple[int, int] | None = None  # of a GPU, where NVML gives it
    pci_bus_id: str = ""  # as NVML writes it
    pcie: tuple[int, int] | None = None  # the generation that GPU and machine can do, and the lanes that are in use


@dataclass(frozen=True)
class Node:
    """One machine and its devices. The host's name is kept as a hash only: datasets are published.

    `links` are those between its whole GPUs; devices without one are joined through the host. `software` is what is
    installed there (`versions.installed`). `epoch_ns`: its wall clock's time (Unix, ns) when its CLOCK_MONOTONIC was 0.
    `address` is where the other nodes reach it; it is in no saved file. `numbered_by_cuda`: its Ray calls GPUs of
    several models by numbers, which are NVML's here, and in other programs may be CUDA's own order (fastest first).
    """

    node_id: str
    hostname_hash: str
    devices: tuple[Device, ...]
    memory_bytes: int
    cpu_count: int
    cpu_model: str
    links: tuple[Link, ...] = ()
    software: tuple[tuple[str, str], ...] = ()
    epoch_ns: int | None = field(default=None, compare=False)
    address: str = field(default="", repr=False, compare=False)
    numbered_by_cuda: bool = field(default=False, repr=False, compare=False)


def inspect_node(node_id: str = "local", cores_per_device: int = 1, cpu_devices: int | None = None) -> Node:
    """The node that this process runs on. Asks NVML and /proc; creates no CUDA context and imports no torch.

    Without a GPU the node is cut into logical devices of `cores_per_device` cores: as many as whole ones fit, or
    `cpu_devices` of them, which then share cores where there are too few.
    """
    cores = usable_cores()
    memory = memory_bytes()
    host = hostname_hash()
    model = cpu_model()
    devices = cuda_devices() or logical_devices(cores, cores_per_device, model, memory, host, cpu_devices)
    links = cuda_links() if any(device.kind == "cuda" for device in devices) else ()
    return Node(node_id, host, devices, memory, len(cores), model, links, installed(), own_epoch_ns())


def cuda_devices() -> tuple[Device, ...]:
    """The node's GPUs by NVML, or nothing where there is no driver or no GPU."""
    from joulelaw.cluster.power.nvml import nvml_devices  # here: it loads the vendor's library

    return tuple(
        Device(
            uuid=gpu.uuid,
            model=gpu.name,
            index=gpu.index,
            kind="cuda",
            memory_bytes=gpu.memory_bytes,
            cores=(),
            power_limit_w=gpu.power_limit_w,
            driver=gpu.driver,
            compute_capability=gpu.compute_capability,
            pci_bus_id=gpu.pci_bus_id,
            pcie=gpu.pcie,
        )
        for gpu in nvml_devices()
    )


def cuda_links() -> tuple[Link, ...]:
    """How the node's GPUs are joined, by NVML."""
    from joulelaw.cluster.power.nvml_links import nvml_links  # here: it loads the vendor's library

    return nvml_links()


def logical_devices(
    cores: Sequence[int], cores_per_device: int, cpu: str, memory: int, host: str, count: int | None = None
) -> tuple[Device, ...]:
    """`cores` cut into devices of `cores_per_device`; `count` of them, going round the cores where they run out."""
    if not 1 <= cores_per_device <= len(cores):
        raise InputError(
            f"{cores_per_device} cores per device, but this process may use {len(cores)}",
            where="cores_per_device",
            remedy=f"choose 1 to {len(cores)}",
        )
    whole = len(cores) // cores_per_device
    number = whole if count is None else count
    slices = [tuple(cores[i * cores_per_device : (i + 1) * cores_per_device]) for i in range(whole)]
    model = f"{cpu} ({cores_per_device} core{'s' if cores_per_device > 1 else ''})"
    return tuple(
        Device(
            uuid=f"CPU-{host}-{slices[i % whole][0]}" + (f"-{i // whole}" if i >= whole else ""),
            model=model,
            index=i,
            kind="cpu",
            memory_bytes=memory // number,
            cores=slices[i % whole],
            power_limit_w=None,
            driver="",
        )
        for i in range(number)
    )


def named_by_node(node: Node) -> Node:
    """Several Ray nodes on one machine see the same cores: adds the node's id to the names of such devices."""

    def name(device: Device) -> Device:
        return replace(device, uuid=f"{device.uuid}@{node.node_id[:6]}") if device.kind == "cpu" else device

    return replace(node, devices=tuple(name(device) for device in node.devices))


def usable_cores() -> list[int]:
    """The cores this process may run on; the first few of them where a container's quota allows fewer."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else cores[: max(1, int(quota) // int(period))]


def memory_bytes() -> int:
    """The machine's memory, or the container's limit where that is lower."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup file, or "max"
        return total


def hostname_hash() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def cpu_model() -> str:
    """The processor's name without marks and clock, e.g. "AMD EPYC"; the architecture where Linux tells no name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    name = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*", " ", found.group(1)) if found else ""
    return " ".join(name.split()) or f"{platform.machine()} CPU"
