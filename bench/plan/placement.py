"""What a plan tells of a group that the nodes cannot form: why, and the nearest that they can."""

from collections.abc import Sequence

from joulelaw.bench.plan.runnable import Misfit
from joulelaw.bench.spec.errors import close_match
from joulelaw.bench.spec.schema import EACH
from joulelaw.cluster.scheduling.feasible import PerNode, fits


def no_such(wanted: str, there: PerNode) -> Misfit:
    """No node has the model that was asked for."""
    reason = f"no node has a {wanted!r}"
    return Misfit("gpu_model", reason, close_match(wanted, [*there, EACH]), reason)


def too_many(count: int, node_count: int, there: PerNode) -> Misfit:
    """No model of these forms the group that was asked for."""
    have = ", ".join(_most(model, counts, node_count) for model, counts in there.items()) or "none"
    on, each = ("one node", "") if node_count == 1 else (f"{node_count} nodes", f"{count // node_count} on each: ")
    where = "the most that one has" if node_count == 1 else "the most that so many have"
    reason = f"{count} ranks need {each}{count} devices on {on}; {where}: {have}"
    return Misfit("gpu_count" if node_count == 1 else "node_count", reason, _nearest(count, node_count, there), reason)


def _most(model: str, counts: Sequence[int], node_count: int) -> str:
    if len(counts) < node_count:
        return f"{sum(counts)} x {model} on {len(counts)} node{'s' if len(counts) > 1 else ''}"
    return f"{counts[node_count - 1] * node_count} x {model}"


def _nearest(count: int, node_count: int, there: PerNode) -> str:
    """The largest group on as many nodes, or on as many as there are; and the nodes that would do."""
    nodes = min(node_count, max(map(len, there.values()), default=1))
    most = max((counts[nodes - 1] * nodes for counts in there.values() if len(counts) >= nodes), default=0)
    ask = f"ask for at most {most}" + (f" on {nodes} node{'s' if nodes > 1 else ''}" if node_count > 1 else "")
    for other in range(node_count + 1, max(map(len, there.values()), default=0) + 1):
        if any(fits(counts, count, other) for counts in there.values()):
            return f"{ask}, or for node_count: {other}"
    return ask
