"""NCCL's messages of its connections, in the forms of its versions, and the transports that they stand for."""

import pytest

from joulelaw.bench.training.transports import joined, transports
from joulelaw.cluster.nodes.topology import LinkKind

# By version, as its sources format them: src/transport/{p2p,shm,net}.cc. Hosts, pids and devices are made up.
SAID = {
    "2.4, one node": (
        "here:51:70 [0] NCCL INFO Ring 00 : 0[0] -> 1[1] via P2P/IPC\n"
        "here:51:70 [0] NCCL INFO Ring 01 : 0[0] -> 1[1] via P2P/direct pointer\n",
        {"nvlink"},
    ),
    "2.4, between nodes": (
        "here:51:70 [0] NCCL INFO Ring 00 : 3 -> 0 [receive] via NET/Socket/0\n"
        "here:51:70 [0] NCCL INFO Ring 00 : 0 -> 3 [send] via NET/Socket/0\n",
        {"socket"},
    ),
    "2.8, shared memory": (
        "here:51:70 [0] NCCL INFO Channel 00 : 0[1a000] -> 2[3b000] via direct shared memory\n",
        {"shm"},
    ),
    "2.10, bus ids and read mode": (
        "here:51:70 [1] NCCL INFO Channel 11 : 1[2000] -> 0[1000] via P2P/IPC/read\n"
        "here:51:70 [0] NCCL INFO Channel 11 : 0[1000] -> 5[2000] [send] via NET/IB/1/GDRDMA\n",
        {"nvlink", "infiniband"},
    ),
    "2.12, through another GPU and another's network card": (
        "here:51:70 [0] NCCL INFO Channel 00 : 0[1000] -> 2[3000] via P2P/indirect/1[2000]\n"
        "here:51:70 [0] NCCL INFO Channel 00/0 : 0[1000] -> 6[3000] [send] via NET/IB/2(1)/GDRDMA\n",
        {"nvlink", "infiniband"},
    ),
    "2.18, over the host's memory by copy engine": (
        "here:51:70 [0] NCCL INFO Channel 00 : 0[0] -> 2[2] via SHM/direct/CE\n",
        {"shm"},
    ),
    "2.27, no NVLink between these": (
        "here:51:70 [0] NCCL INFO Channel 00/0 : 0[0] -> 2[2] via P2P/CUMEM\n"
        "here:51:70 [0] NCCL INFO Channel 01/0 : 0[0] -> 2[2] via P2P/CUMEM/read/CE\n"
        "here:51:70 [0] NCCL INFO Channel 01/1 : 2[2] -> 0[0] via P2P/CUMEM\n",
        {"pcie"},
    ),
    "2.27, NVLink between nodes": (
        "here:51:70 [0] NCCL INFO Channel 00/0 : 0[0] -> 4[0] via P2P/MNNVL\n",
        {"nvlink"},
    ),
    "plugins": (
        "here:51:70 [0] NCCL INFO Channel 00/0 : 0[0] -> 4[0] [send] via NET/AWS Libfabric/0/GDRDMA\n"
        "here:51:70 [0] NCCL INFO Channel 01/0 : 4[0] -> 0[0] [receive] via NET/IBext_v8/0/GDRDMA/Shared\n"
        "here:51:70 [0] NCCL INFO Channel 02/0 : 4[0] -> 0[0] [receive] via NET/FasTrak/0\n",
        {"libfabric", "infiniband", "fastrak"},
    ),
    "nothing of connections": (
        "here:51:70 [0] NCCL INFO NET/IB : Using [0]mlx5_0:1/IB [RO]; OOB eth0:192.0.2.1<0>\n"
        "here:51:70 [0] NCCL INFO Trees [0] 1/-1/-1->0->-1 [1] -1/-1/-1->0->1\n"
        "here:51:70 [0] NCCL INFO P2P Chunksize set to 131072\n"
        "here:51:70 [0] NCCL INFO Connected all rings, use ring PXN 0 GDR 1\n",
        set(),
    ),
}


def two_nodes_of_four(one: int, other: int) -> LinkKind | None:
    """0 and 1 are bridged on each node, as are 2 and 3; the pairs are on one host bridge."""
    if one // 4 != other // 4:
        return None
    return "nvlink" if one // 2 == other // 2 else "pcie"


@pytest.mark.parametrize("version", SAID)
def test_every_versions_messages_are_read(version: str) -> None:
    log, names = SAID[version]
    if version.startswith("2.12"):  # 0 and 2 have no link of their own, yet NVLink joins them
        assert two_nodes_of_four(0, 2) == "pcie"
    assert transports(log, two_nodes_of_four) == names


def test_p2p_is_what_the_topology_says_of_the_pair() -> None:
    log = "a:1:1 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via P2P/CUMEM\n"
    kinds: list[LinkKind | None] = ["nvlink", "pcie", "host", None]
    assert [transports(log, lambda one, other, kind=kind: kind) for kind in kinds] == [
        {"nvlink"},
        {"pcie"},
        {"pcie"},
        {"nvlink"},
    ]


def test_several_are_joined_those_within_a_node_first() -> None:
    assert joined(["socket", "pcie", "nvlink", "pcie"]) == "nvlink+pcie+socket"
    assert joined(["libfabric", "shm"]) == "shm+libfabric"
    assert joined(["gloo", "gloo"]) == "gloo"
    assert joined([]) is None
