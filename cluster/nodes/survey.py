"""Which devices a Ray cluster has, for a plan: its nodes are asked once, and nothing stays there."""

from collections.abc import Sequence

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from joulelaw import InputError
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.members import cores_of
from joulelaw.cluster.nodes.node_watch import NodeWatch, RayNode
from joulelaw.cluster.nodes.ray_devices import inspect_offered
from joulelaw.cluster.raycalls import fetch
from joulelaw.cluster.raystart import open_ray

_ANSWER_S = 60.0


def survey(address: str | None = None, cores_per_device: int = 1) -> tuple[Node, ...]:
    """The nodes of the Ray at `address` or RAY_ADDRESS that offer GPUs. No fork server and no meter is started.

    InputError where there is no such node, ClusterError where one does not answer within a minute.
    """
    session = open_ray(address, cores_per_device)
    try:
        watch = NodeWatch()
        watch.close()
        return _inspected([node for node in watch.nodes.values() if node.death is None], cores_per_device)
    finally:
        session.close()


def _inspected(nodes: Sequence[RayNode], cores_per_device: int) -> tuple[Node, ...]:
    asked = []
    for node in nodes:
        if node.gpus < 1:
            continue
        cores = cores_of(node, cores_per_device)
        if isinstance(cores, InputError):
            raise cores
        task = ray.remote(inspect_offered).options(
            num_cpus=0, num_gpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        )
        asked.append(task.remote(node.node_id, cores, node.gpus))
    if not asked:
        raise InputError(
            "no node of the Ray cluster offers a GPU", remedy="start nodes with --num-gpus, logical ones on a CPU"
        )
    return tuple(fetch(asked, _ANSWER_S, "taking the nodes' inventory"))
