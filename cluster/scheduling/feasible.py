"""Which groups a cluster can form when all of it is free, and for one that it cannot, the nearest that it can."""

from collections import Counter
from collections.abc import Mapping, Sequence

from joulelaw.cluster.failures import InfeasibleGroupError
from joulelaw.cluster.nodes.inventory import Node

PerNode = Mapping[str, Sequence[int]]
"""Devices on each node that has any, the most first, by model."""


def check_feasible(nodes: Sequence[Node], model: str, count: int, node_count: int = 1) -> None:
    """InfeasibleGroupError where the cluster could never form the group; names the nearest it could."""
    there = per_node(nodes)
    if not fits(there.get(model, []), count, node_count):
        raise _error(model, count, node_count, there)


def per_node(nodes: Sequence[Node]) -> PerNode:
    """What the nodes have."""
    found: dict[str, list[int]] = {}
    for node in nodes:
        for model, number in Counter(device.model for device in node.devices).items():
            found.setdefault(model, []).append(number)
    return {model: sorted(sizes, reverse=True) for model, sizes in sorted(found.items())}


def fits(sizes: Sequence[int], count: int, node_count: int) -> bool:
    """Whether nodes of these sizes (most first) have `count` devices, an equal share on each of `node_count`."""
    return count % node_count == 0 and len(sizes) >= node_count and sizes[node_count - 1] >= count // node_count


def _error(model: str, count: int, node_count: int, there: PerNode) -> InfeasibleGroupError:
    sizes = there.get(model, [])
    asked = f"asked for {count} x {model}" + (f" on {node_count} nodes" if node_count > 1 else " on one node")
    if not sizes:
        return InfeasibleGroupError(f"{asked}, the cluster has none", remedy=f"it has: {', '.join(there) or 'nothing'}")
    near = nearest(sizes, count, node_count)
    remedy = "nearest: " + " or ".join(f"{number} x {model}{_on(nodes)}" for number, nodes in near)
    if count % node_count:
        return InfeasibleGroupError(f"{asked}, which does not divide evenly", remedy=remedy)
    sizes_told = ", ".join(f"{times} x {size}" if times > 1 else f"{size}" for size, times in Counter(sizes).items())
    return InfeasibleGroupError(f"{asked}, the cluster has {sum(sizes)} (per node: {sizes_told})", remedy=remedy)


def nearest(sizes: Sequence[int], count: int, node_count: int) -> list[tuple[int, int]]:
    """What nodes of these sizes (most first) can form instead: as many devices on other nodes, fewer on as many.

    (devices, nodes) each. The first has `count` devices on the number of nodes that is closest to `node_count`, and is
    left out where there is none; the second the most devices, below `count`, that fit on `node_count` nodes; where
    there are too few nodes, the most that fit on all of them.

    >>> nearest([4, 4, 4], count=8, node_count=1)
    [(8, 2), (4, 1)]
    """
    spread = [n for n in range(1, len(sizes) + 1) if fits(sizes, count, n)]
    found = [(count, min(spread, key=lambda n: (abs(n - node_count), n)))] if spread else []
    over = min(node_count, len(sizes))
    share = min(sizes[over - 1], count // over)
    if share and (share * over, over) not in found:
        found.append((share * over, over))
    return found or [(sizes[0], 1)]


def _on(nodes: int) -> str:
    return f" on {nodes} nodes (node_count: {nodes})" if nodes > 1 else ""
