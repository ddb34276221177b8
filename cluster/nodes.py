"""The launcher, the actor on every node that owns its fork server, and what Ray grants of a node's devices."""

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.inventory import Device, Node, inspect_node
from joulelaw.cluster.server import ForkServer, ServerStatus


@dataclass(frozen=True)
class NodeHandle:
    """A node of the cluster as the driver holds it: its inventory, its two actors, and the CPUs that Ray offers."""

    node: Node
    launcher: Any
    sampler: Any
    ray_cpus: float


class Launcher:
    """Knows its node's devices and keeps a fork server there, which ends with this actor."""

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        usual_priority()
        self._server = ForkServer(preload, env)
        self._server.start()  # the libraries load while the driver goes on

    def inspect(self, node_id: str, cores_per_device: int, ray_gpus: int) -> Node:
        """The node, with the devices that Ray offers on it."""
        node = inspect_node(node_id, cores_per_device, cpu_devices=ray_gpus)
        offered = granted_devices(node.devices, ray_gpus, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        return replace(node, devices=offered)

    def address(self) -> str:
        """Where this node's ranks are asked for, once the server can fork."""
        return self._server.address

    def status(self) -> ServerStatus:
        return self._server.wait_ready()

    def stop(self) -> None:
        """Ends the server and its ranks, and waits for them: killing the actor alone would not wait."""
        self._server.close()


def usual_priority() -> None:
    """The raylet's, our parent's: Ray gives its workers a niceness of 15, and ranks and samplers would inherit it.

    On a busy node they would wait for anything else. On a cluster that we did not start only root may take it back;
    for others it is `RAY_worker_niceness=0 ray start`.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, os.getppid()))


def granted_devices(devices: Sequence[Device], ray_gpus: int, visible: str) -> tuple[Device, ...]:
    """The devices behind a node's Ray GPUs: those in the CUDA_VISIBLE_DEVICES that Ray was started with, else all."""
    names = {name.strip() for name in visible.split(",") if name.strip()}
    offered = [d for d in devices if d.kind == "cpu" or not names or {str(d.index), d.uuid} & names]
    if len(offered) < ray_gpus:
        raise InputError(
            f"Ray offers {ray_gpus} GPUs on a node where {len(offered)} are found",
            remedy="start its Ray with --num-gpus as many as it has, and one CUDA_VISIBLE_DEVICES",
        )
    return tuple(offered[:ray_gpus])


def device_of(devices: Sequence[Device], gpu_id: str) -> Device:
    """The device behind a Ray GPU id, which is an index or, where Ray was started so, a UUID."""
    for device in devices:
        if gpu_id in (str(device.index), device.uuid):
            return device
    raise ClusterError(f"Ray granted GPU {gpu_id!r}, which is none of {[device.index for device in devices]}")
