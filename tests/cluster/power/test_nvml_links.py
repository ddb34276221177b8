"""Links between GPUs as NVML tells them, on machines whose joints are known, and where the driver tells less."""

from typing import Any

import pytest

from tests.fake_nvml.build import FakeNvml
from tests.fake_nvml.devices import FakeGpu
from tests.fake_nvml.topologies import CUBE_MESH, bridged, meshed, plain, switched, uuid

SHOW = """
from joulelaw.cluster.power.nvml_links import nvml_links
show([[link.one, link.other, link.kind, link.lanes, link.distance] for link in nvml_links()])
"""
CALLS = (
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetNvLinkState",
    "nvmlDeviceGetNvLinkRemotePciInfo_v2",
    "nvmlDeviceGetNvLinkRemoteDeviceType",
    "nvmlDeviceGetTopologyCommonAncestor",
    "nvmlDeviceGetP2PStatus",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
)
pytestmark = pytest.mark.xdist_group("fake_nvml")


def links_of(fake: FakeNvml, gpus: list[FakeGpu]) -> dict[tuple[int, int], tuple[str, int, int]]:
    """By the pair's indices: kind, lanes, distance."""
    places = {gpu.uuid: i for i, gpu in enumerate(gpus)}
    return {(places[one], places[other]): tuple(rest) for one, other, *rest in fake.run(gpus, SHOW)}  # type: ignore[misc]


def test_a_switch_joins_all_at_full_width(fake_nvml: Any) -> None:
    links = links_of(fake_nvml, switched(8, links=12))
    assert len(links) == 28
    assert {(kind, lanes) for kind, lanes, _ in links.values()} == {("nvlink", 12)}
    assert (links[0, 1][2], links[0, 7][2]) == (40, 50), "one socket, and two"


def test_direct_links_are_counted_by_pair(fake_nvml: Any) -> None:
    links = links_of(fake_nvml, meshed())
    for (one, other), (kind, lanes, distance) in links.items():
        assert (kind, lanes) == (("nvlink", CUBE_MESH[one][other]) if CUBE_MESH[one][other] else ("host", 16))
        assert distance == (50 if one // 4 != other // 4 else 10 if one // 2 == other // 2 else 40)
    assert len(links) == 28


def test_bridged_pairs_reach_others_through_the_host_only(fake_nvml: Any) -> None:
    links = links_of(fake_nvml, bridged(2, links=4))
    assert links[0, 1] == links[2, 3] == ("nvlink", 4, 10)
    assert {links[pair] for pair in ((0, 2), (0, 3), (1, 2), (1, 3))} == {("host", 16, 40)}


def test_pcie_is_told_from_the_way_through_the_host(fake_nvml: Any) -> None:
    """0 and 1 on one board, 2 on the same switch, 3 below the next, 4 below the same host bridge, 5, and a socket."""
    paths = ["0.0.0.0.0", "0.0.0.0.0", "0.0.0.0.1", "0.0.0.1.0", "0.0.1.0.0", "0.1.0.0.0", "1.0.0.0.0"]
    links = links_of(fake_nvml, plain(paths, lanes=8))
    found = [links[0, other] for other in range(1, 7)]
    assert found == [("pcie", 8, level) for level in (0, 10, 20, 30)] + [("host", 8, level) for level in (40, 50)]


def test_ends_of_unknown_kind_are_a_switch_where_nvml_says_that_the_pair_can_use_it(fake_nvml: Any) -> None:
    """So a virtual machine shows the links of an H100: their other ends have no place on its PCI bus."""
    assert {each[:2] for each in links_of(fake_nvml, switched(4, 18, end="?")).values()} == {("nvlink", 18)}
    assert {each[0] for each in links_of(fake_nvml, switched(4, 18, end="?", p2p=0)).values()} == {"host"}


def test_a_fabric_that_is_down_and_links_to_processors_join_nothing(fake_nvml: Any) -> None:
    assert {each[0] for each in links_of(fake_nvml, switched(4, p2p=0)).values()} == {"host"}
    assert {each[0] for each in links_of(fake_nvml, switched(4, 3, end="n")).values()} == {"host"}


def test_slices_have_no_links(fake_nvml: Any) -> None:
    cut = [FakeGpu(gpu.uuid, settings={**gpu.settings, "slices": 2}) for gpu in switched(2)]
    assert links_of(fake_nvml, cut) == {}


def test_each_missing_function_costs_its_own_fact_at_most() -> None:
    gpus = bridged(2, links=4)
    known = {call: links_of(FakeNvml(without=[call]), gpus) for call in CALLS}
    plainly = known["nvmlDeviceGetNvLinkRemoteDeviceType"]
    assert plainly[0, 1] == ("nvlink", 4, 10)
    assert known["nvmlDeviceGetP2PStatus"] == known["nvmlDeviceGetMaxPcieLinkGeneration"] | plainly == plainly
    assert known["nvmlDeviceGetTopologyCommonAncestor"] == {(0, 1): ("nvlink", 4, 50), (2, 3): ("nvlink", 4, 50)}
    assert known["nvmlDeviceGetNvLinkState"][0, 1] == ("pcie", 16, 10)
    assert known["nvmlDeviceGetCurrPcieLinkWidth"][0, 2] == ("host", 0, 40)
    assert links_of(FakeNvml(without=CALLS), gpus) == {}
    switches = links_of(FakeNvml(without=["nvmlDeviceGetNvLinkRemoteDeviceType"]), switched(4, links=12))
    assert {each[:2] for each in switches.values()} == {("nvlink", 12)}, "by the switches that both lead to"


def test_a_lost_gpu_leaves_the_links_of_the_others(fake_nvml: Any) -> None:
    gpus = switched(3)
    gpus[1] = FakeGpu(gpus[1].uuid, settings={**gpus[1].settings, "lost_s": 0})
    assert links_of(fake_nvml, gpus).keys() == {(0, 2)}


INVENTORY = """
from joulelaw.cluster.nodes.inventory import inspect_node
node = inspect_node()
show({"devices": [[d.uuid, d.pci_bus_id, d.pcie, d.driver, d.power_limit_w, d.memory_bytes] for d in node.devices],
      "links": [[link.one, link.other, link.kind] for link in node.links]})
"""


def test_a_nodes_inventory_has_them(fake_nvml: Any) -> None:
    gpus = bridged(1)
    gpus[0] = FakeGpu(gpus[0].uuid, settings={**gpus[0].settings, "driver": "570.86.15", "pcie_generation": 5})
    shown = fake_nvml.run(gpus, INVENTORY)
    assert shown["links"] == [[uuid(0), uuid(1), "nvlink"]]
    limits = ["570.86.15", 400.0, 40960 * 2**20]
    assert shown["devices"] == [
        [uuid(0), "00000000:01:00.0", [5, 16], *limits],
        [uuid(1), "00000000:02:00.0", [4, 16], *limits],
    ]
