"""The launcher, the actor on every node that owns its fork server, and what Ray grants of a node's devices."""

import contextlib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ray

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.inventory import Device, Node, inspect_node
from joulelaw.cluster.server import ForkServer, ServerStatus

FILES_REMEDY = "submit the job with a --working-dir that holds them, or put them on every node at the same path"


class Launcher:
    """Knows its node's devices and keeps a fork server there, which ends with this actor."""

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        usual_priority()
        self._server = ForkServer(preload, env)
        self._server.start()  # the libraries load while the driver goes on

    def inspect(self, node_id: str, cores_per_device: int, ray_gpus: int) -> Node:
        """The node, with the devices that Ray offers on it."""
        return inspect_offered(node_id, cores_per_device, ray_gpus)

    def find_files(self, root: str, working: str, sha256: Mapping[str, str]) -> str:
        """What the folder `root` of the driver's machine is called here, by the files in it and their SHA-256.

        Below the driver's working folder it is looked for below this actor's: Ray puts a copy of a job's working folder
        on every node. InputError where a file is not here, or another.
        """
        candidates = [Path(root)]
        with contextlib.suppress(ValueError):
            candidates.insert(0, Path.cwd() / Path(root).relative_to(working))
        wrong = {folder: wrong_files(folder, sha256) for folder in candidates}
        for folder, names in wrong.items():
            if not names:
                return str(folder)
        names = min(wrong.values(), key=len)
        shown = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
        raise InputError(f"{shown} not found there, or other content", remedy=FILES_REMEDY)

    def address(self) -> str:
        """Where this node's ranks are asked for, once the server can fork."""
        return self._server.address

    def status(self) -> ServerStatus:
        return self._server.wait_ready()

    def stop(self) -> None:
        """Ends the server and its ranks, and waits for them: killing the actor alone would not wait."""
        self._server.close()


def inspect_offered(node_id: str, cores_per_device: int, ray_gpus: int) -> Node:
    """The node that this worker of Ray runs on, with the devices that Ray offers there."""
    node = inspect_node(node_id, cores_per_device, cpu_devices=ray_gpus)
    visible, order = _of_raylet("CUDA_VISIBLE_DEVICES"), _of_raylet("CUDA_DEVICE_ORDER")
    offered = granted_devices(node.devices, ray_gpus, visible)
    clear = order == "PCI_BUS_ID" or _are_uuids(visible)
    mixed = len({device.model for device in offered if device.kind == "cuda"}) > 1
    address = str(ray.util.get_node_ip_address())
    return replace(node, devices=offered, address=address, numbered_by_cuda=mixed and not clear)


def usual_priority() -> None:
    """The raylet's, our parent's: Ray gives its workers a niceness of 15, and ranks and samplers would inherit it.

    On a busy node they would wait for anything else. On a cluster that we did not start only root may take it back;
    for others it is `RAY_worker_niceness=0 ray start`.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, os.getppid()))


def wrong_files(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    """The files that the folder lacks or has with other content."""
    return [name for name, digest in sha256.items() if _sha256(folder / name) != digest]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


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
