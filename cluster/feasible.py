"""Which groups a cluster can form when all of it is free, and for those that it cannot, the nearest that it can."""

from collections import Counter
from collections.abc import Iterable, Sequence

from joulelaw.cluster.failures import InfeasibleGroupError
from joulelaw.cluster.inventory import Node

Group = tuple[str, int, int]  # device model, devices, nodes


def check_feasible(nodes: Sequence[Node], model: str, count: int, node_count: int = 1) -> None:
    """InfeasibleGroupError where the cluster could never form the group; names the nearest it could."""
    for error in infeasible(nodes, [(model, count, node_count)]).values():
        raise error


def infeasible(nodes: Sequence[Node], groups: Iterable[Group]) -> dict[Group, InfeasibleGroupError]:
    """Why not, of each of these groups that the cluster could never form: all are told at once."""
    sizes = Counter((device.model, node.node_id) for node in nodes for device in node.devices)
    by_model: dict[str, list[int]] = {}
    for (model, _), number in sizes.items():
        by_model.setdefault(model, []).append(number)
    errors: dict[Group, InfeasibleGroupError] = {}
    for group in dict.fromkeys(groups):
        model, count, node_count = group
        mine = sorted(by_model.get(model, []), reverse=True)
        if count % node_count or len(mine) < node_count or mine[node_count - 1] < count // node_count:
            errors[group] = _error(group, mine, sorted(by_model))
    return errors


def _error(group: Group, sizes: Sequence[int], models: Sequence[str]) -> InfeasibleGroupError:
    """`sizes` are the devices of the model on each node that has any, most first."""
    model, count, node_count = group
    asked = f"asked for {count} x {model}" + (f" on {node_count} nodes" if node_count > 1 else " on one node")
    if not sizes:
        return InfeasibleGroupError(
            f"{asked}, the cluster has none", remedy=f"it has: {', '.join(models) or 'nothing'}"
        )
    near = nearest(sizes, count, node_count)
    remedy = "nearest: " + " or ".join(f"{number} x {model}{_on(nodes)}" for number, nodes in near)
    if count % node_count:
        return InfeasibleGroupError(f"{asked}, which does not divide evenly", remedy=remedy)
    per_node = ", ".join(f"{times} x {size}" if times > 1 else f"{size}" for size, times in Counter(sizes).items())
    return InfeasibleGroupError(f"{asked}, the cluster has {sum(sizes)} (per node: {per_node})", remedy=remedy)


def nearest(sizes: Sequence[int], count: int, node_count: int) -> list[tuple[int, int]]:
    """What nodes of these sizes (most first) can form instead: as many devices on other nodes, fewer on as many.

    (devices, nodes) each. The first has `count` devices on the number of nodes that is closest to `node_count`, and is
    left out where there is none; the second the most devices, below `count`, that fit on `node_count` nodes; where
    there are too few nodes, the most that fit on all of them.

    >>> nearest([4, 4, 4], count=8, node_count=1)
    [(8, 2), (4, 1)]
    """
    spread = [n for n in range(1, len(sizes) + 1) if count % n == 0 and sizes[n - 1] >= count // n]
    found = [(count, min(spread, key=lambda n: (abs(n - node_count), n)))] if spread else []
    over = min(node_count, len(sizes))
    share = min(sizes[over - 1], count // over)
    if share and (share * over, over) not in found:
        found.append((share * over, over))
    return found or [(sizes[0], 1)]


def _on(nodes: int) -> str:
    return f" on {nodes} nodes (node_count: {nodes})" if nodes > 1 else ""
