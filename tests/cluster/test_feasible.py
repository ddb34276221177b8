"""A group that a cluster can never form is told, with the nearest that it can."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from joulelaw.cluster.failures import InfeasibleGroupError
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.scheduling.feasible import check_feasible
from joulelaw.cluster.scheduling.scheduler import choose_nodes


def node(name: str, *models: str) -> Node:
    devices = tuple(
        Device(f"{name}-{i}", model, i, "cuda", 80 << 30, (), None, "580") for i, model in enumerate(models)
    )
    return Node(name, name, devices, 1 << 40, 64, "x")


def test_what_the_cluster_can_never_form_is_told_with_the_nearest_thing() -> None:
    nodes = [node("a", "A100", "A100"), node("b", "V100", "A100")]
    check_feasible(nodes, "A100", 2)
    check_feasible(nodes, "A100", 2, node_count=2)
    for group, told in {
        ("A100", 4, 1): r"asked for 4 x A100 on one node, the cluster has 3 \(per node: 2, 1\).*nearest: 2 x A100$",
        ("A100", 4, 2): r"asked for 4 x A100 on 2 nodes.*nearest: 2 x A100 on 2 nodes \(node_count: 2\)$",
        ("A100", 3, 2): r"does not divide evenly.*nearest: 2 x A100 on 2 nodes \(node_count: 2\)$",
        ("H100", 1, 1): r"asked for 1 x H100 on one node, the cluster has none.*it has: A100, V100$",
    }.items():
        with pytest.raises(InfeasibleGroupError, match=told):
            check_feasible(nodes, *group)


def test_a_group_too_big_for_a_node_is_shown_the_way_across_nodes() -> None:
    nodes = [node(name, *["A100"] * 8) for name in "abc"]
    with pytest.raises(InfeasibleGroupError, match=r"nearest: 16 x A100 on 2 nodes \(node_count: 2\) or 8 x A100$"):
        check_feasible(nodes, "A100", 16)
    with pytest.raises(InfeasibleGroupError, match=r"the cluster has 24 \(per node: 3 x 8\)"):
        check_feasible(nodes, "A100", 25)


@given(some.lists(some.integers(1, 9), min_size=1, max_size=5), some.integers(1, 20), some.integers(1, 6))
def test_exactly_what_fits_no_nodes_is_infeasible_and_the_nearest_can_be_had(
    sizes: list[int], count: int, node_count: int
) -> None:
    nodes = [node(f"n{i}", *["A"] * size) for i, size in enumerate(sizes)]
    free = {f"n{i}": size for i, size in enumerate(sizes)}
    try:
        check_feasible(nodes, "A", count, node_count)
    except InfeasibleGroupError as error:
        assert choose_nodes(free, count, node_count) is None
        for told in error.remedy.removeprefix("nearest: ").split(" or "):
            number, _, on_nodes = told.partition(" x A")
            across = int(on_nodes.split()[1]) if on_nodes else 1
            assert choose_nodes(free, int(number), across), told
    else:
        assert choose_nodes(free, count, node_count) is not None
