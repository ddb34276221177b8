"""Which devices are taken together: against all choices written out plainly, and on machines that everybody knows."""

import random
import time
from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest

from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.topology import Link, neighbours, worst_link
from tests.fake_nvml.topologies import CUBE_MESH

MODEL = "NVIDIA A100"


def node_of(count: int, links: Sequence[tuple[int, int, str, int, int]] = (), model: str = MODEL) -> Node:
    """Links by index: one, other, kind, lanes, distance."""
    devices = tuple(Device(f"GPU-{i}", model, i, "cuda", 2**36, (), 400.0, "580.1") for i in range(count))
    joined = tuple(Link(f"GPU-{one}", f"GPU-{other}", *rest) for one, other, *rest in links)  # type: ignore[arg-type]
    return Node("n", "0a", devices, 2**40, 64, "CPU", joined)


def chosen(
    node: Node, count: int, free: Sequence[int] | None = None, avoid: Sequence[int] = (), model: str = MODEL
) -> list[int]:
    free = range(len(node.devices)) if free is None else free
    found = neighbours(node, {f"GPU-{i}" for i in free}, count, model, [f"GPU-{i}" for i in avoid])
    return [int(uuid.removeprefix("GPU-")) for uuid in found]


def cube_mesh() -> Node:
    far = [(i, j) for i, j in combinations(range(8), 2)]
    return node_of(
        8, [(i, j, "nvlink", CUBE_MESH[i][j], 50) if CUBE_MESH[i][j] else (i, j, "host", 16, 50) for i, j in far]
    )


def plainly(node: Node, free: list[int], count: int, avoid: list[int]) -> list[int]:
    """The same rule over all choices, with nothing clever in it."""
    by_pair = {frozenset((link.one, link.other)): link for link in node.links}

    def link(one: int, other: int) -> tuple[tuple[int, int], int]:
        found = by_pair.get(frozenset((f"GPU-{one}", f"GPU-{other}")))
        if found is None:
            return (2, 50), 0
        if found.kind == "nvlink":
            return (0, 0), found.lanes
        return (("nvlink", "pcie", "host").index(found.kind), found.distance), 0

    def cost(choice: tuple[int, ...]) -> tuple[object, ...]:
        inside = [link(one, other) for one, other in combinations(choice, 2)]
        cut = sum(link(one, other)[1] for one in choice for other in free if other not in choice)
        worst = max((kind for kind, _ in inside), default=(0, 0))
        return worst, -sum(lanes for _, lanes in inside), cut, sum(avoid.count(i) for i in choice), choice

    return list(min(combinations(free, count), key=cost))


def test_every_choice_is_the_best_of_all_by_the_rule_written_plainly() -> None:
    draw = random.Random(6)
    kinds = [("nvlink", draw.randint(1, 4), 50) for _ in range(3)] + [
        ("pcie", 16, 10),
        ("pcie", 16, 30),
        ("host", 8, 50),
    ]
    for _ in range(150):
        size = draw.randint(1, 7)
        pairs = [pair for pair in combinations(range(size), 2) if draw.random() < 0.8]
        node = node_of(size, [(*pair, *draw.choice(kinds)) for pair in pairs])
        free = sorted(draw.sample(range(size), draw.randint(1, size)))
        avoid = draw.choices(range(size), k=draw.randint(0, 5))
        count = draw.randint(1, len(free))
        assert chosen(node, count, free, avoid) == plainly(node, free, count, avoid)


def test_pairs_with_a_bridge_are_taken_together_and_not_broken() -> None:
    node = node_of(4, [(0, 2, "nvlink", 4, 10), (1, 3, "nvlink", 4, 10), (0, 1, "pcie", 16, 10)])
    assert chosen(node, 2) == [0, 2]
    assert chosen(node, 2, avoid=[0, 2]) == [1, 3], "another pair where both are as good"
    assert chosen(node, 1, free=[0, 1, 3]) == [0], "its partner is away, 1 and 3 stay together"
    assert chosen(node, 2, free=[0, 1, 3]) == [1, 3]


def test_four_of_a_cube_mesh_are_one_of_its_squares() -> None:
    """Of all fours only those two are joined by NVLink throughout."""
    node = cube_mesh()
    four = chosen(node, 4)
    assert four == [0, 1, 2, 3]
    assert chosen(node, 4, avoid=four) == [4, 5, 6, 7]
    assert chosen(node, 2)[0] == 0
    assert CUBE_MESH[0][chosen(node, 2)[1]] == 2, "the pair with two links"
    assert chosen(node, 4, free=[0, 4, 5, 6, 7]) == [4, 5, 6, 7]


def test_without_nvlink_one_switch_comes_before_one_host_bridge_before_one_socket() -> None:
    node = node_of(4, [(0, 1, "host", 16, 50), (0, 2, "host", 16, 40), (0, 3, "pcie", 16, 30), (1, 3, "pcie", 16, 20)])
    assert chosen(node, 2) == [1, 3]
    assert chosen(node, 2, free=[0, 1, 2, 3][:3]) == [0, 2]
    assert chosen(node, 2, free=[0, 3]) == [0, 3]


def test_the_kind_of_a_groups_worst_link() -> None:
    node = node_of(4, [(0, 1, "nvlink", 4, 10), (0, 2, "pcie", 16, 20), (1, 2, "pcie", 16, 20), (0, 3, "host", 16, 50)])
    groups = {(0,): None, (0, 1): "nvlink", (0, 1, 2): "pcie", (0, 1, 3): "host", (2, 3): "host"}
    assert {group: worst_link(node, [f"GPU-{i}" for i in group]) for group in groups} == groups


def test_too_few_other_models_and_none_asked_for() -> None:
    node = node_of(2)
    assert chosen(node, 3) == chosen(node, 2, free=[1]) == chosen(node, 0) == chosen(node, 1, model="NVIDIA H100") == []


def test_what_was_used_least_comes_first_then_the_lowest_index() -> None:
    node = node_of(40)
    assert chosen(node, 3) == [0, 1, 2]
    assert chosen(node, 3, avoid=[0, 1, 1, 2]) == [3, 4, 5]
    assert chosen(node, 38, avoid=[0, 1, 1, 2, 2]) == [0, *range(3, 40)]


def test_islands_of_a_machine_too_large_for_all_choices_are_found() -> None:
    """72 devices in islands of 8, their indices shuffled."""
    places = list(range(72))
    random.Random(1).shuffle(places)
    islands = [sorted(places[i : i + 8]) for i in range(0, 72, 8)]
    pairs = [pair for island in islands for pair in combinations(island, 2)]
    node = node_of(72, [(*pair, "nvlink", 18, 50) for pair in pairs])
    assert chosen(node, 8) in islands
    first = next(island for island in islands if 0 in island)
    assert chosen(node, 8, free=[i for i in range(72) if i != 0]) in [each for each in islands if each != first]


@pytest.mark.parametrize("count", [1, 2, 4, 8, 15])
def test_sixteen_devices_take_no_time(count: int) -> None:
    """A few milliseconds for 8 of 16, the worst case: within the 20 ms that a trial may cost even on a busy machine."""
    node = node_of(16, [(*pair, "nvlink", 18, 50) for pair in combinations(range(16), 2)])
    chosen(node, count)
    began = [time.process_time()]
    for _ in range(10):
        chosen(node, count)
        began.append(time.process_time())
    assert min(after - before for before, after in pairwise(began)) < 0.02
