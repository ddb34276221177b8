"""What NCCL says of the ways it took between ranks, read from its log, and their names in the `transport` column.

nvlink, pcie    from one GPU's memory into the other's; NCCL calls both P2P, which it was is the machine's topology
shm             through the host's memory
infiniband      verbs, over InfiniBand or RoCE alike: NCCL's NET/IB
socket          TCP
gloo            PyTorch's own, between CPU devices
A network plugin's own name stands as it is, in lower case.
"""

import re
from collections.abc import Callable, Iterable

from joulelaw.cluster.nodes.topology import LinkKind

# The messages of NCCL since 2.4 (src/transport/{p2p,shm,net}.cc) differ before "via" in channel or ring and in how a
# device is written, and after it in details: "Channel 02/0 : 0[0] -> 1[1] via P2P/CUMEM/read".
_CONNECTION = re.compile(r"(\d+)(?:\[[^]]*\])? -> (\d+)(?:\[[^]]*\])?(?: \[(?:send|receive)\])? via ([^\n]+)")
_NETWORKS = {"socket": "socket", "ib": "infiniband", "aws libfabric": "libfabric"}
_ORDER = ("nvlink", "pcie", "shm", "infiniband", "socket")

# Of two ranks: the kind of their devices' link, or None where they are on two nodes.
Between = Callable[[int, int], LinkKind | None]


def transports(log: str, between: Between) -> set[str]:
    """The transports of all connections that an NCCL log tells of."""
    return {_name(way, between(int(one), int(other))) for one, other, way in _CONNECTION.findall(log)} - {""}


def joined(names: Iterable[str]) -> str | None:
    """Several transports as one value, those within a node first; None for none."""
    order = {name: place for place, name in enumerate(_ORDER)}
    return "+".join(sorted(set(names), key=lambda name: (order.get(name, len(order)), name))) or None


def _name(way: str, link: LinkKind | None) -> str:
    kind, _, rest = way.strip().partition("/")
    match kind.upper():
        case "P2P":  # between nodes, or through a third GPU, there is NVLink only
            return "nvlink" if link in (None, "nvlink") or rest.startswith("indirect") else "pcie"
        case "SHM" | "DIRECT SHARED MEMORY":
            return "shm"
        case "NET":
            name = rest.partition("/")[0].strip().lower()
            return "infiniband" if name.startswith("ibext") else _NETWORKS.get(name, name)
        case _:
            return ""
