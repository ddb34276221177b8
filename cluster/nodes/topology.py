"""How a node's devices are joined, and which of them to take together."""

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from joulelaw.cluster.nodes.inventory import Node

LinkKind = Literal["nvlink", "pcie", "host"]
KINDS: tuple[LinkKind, ...] = ("nvlink", "pcie", "host")  # best first
# NVML's levels of the nearest common ancestor (nvmlGpuTopologyLevel_t): through the CPU's own host bridge at most.
HOST_BRIDGE, FARTHEST = 30, 50
# 16 devices have 12,870 choices of 8; beyond, devices are added one by one.
_MOST_CHOICES = 20_000
_Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Link:
    """The best way between two devices of a node, by UUID.

    `kind`: "nvlink", directly or through NVSwitch; "pcie" below one host bridge; "host" through more of the machine, as
    between its sockets. `lanes`: NVLinks, or PCIe lanes; 0 where unknown. `distance`: NVML's level of the nearest
    common ancestor, from 0 (one board) by 10 (one PCIe switch) to 50 (two sockets).
    """

    one: str
    other: str
    kind: LinkKind
    lanes: int
    distance: int = FARTHEST

    @property
    def rank(self) -> int:
        """Lower is better: the kind first, within PCIe and the host the distance."""
        return KINDS.index(self.kind) * 100 + (0 if self.kind == "nvlink" else self.distance)


_NO_LINK = Link("", "", "host", 0)


def neighbours(
    node: "Node", free_uuids: Collection[str], count: int, model: str, avoid: Iterable[str] = ()
) -> tuple[str, ...]:
    """The `count` free devices of `model` to take together, by index; nothing where there are too few.

    Of all choices the one whose worst link is best; of equal ones that with most NVLinks inside; then with fewest
    NVLinks from it to devices that stay free, so that islands stay whole; then of devices that are least often in
    `avoid`; then of lowest index. All choices of up to 16 devices are looked at; of more, those that grow from each
    device by its best neighbour.
    """
    free = sorted((d for d in node.devices if d.model == model and d.uuid in free_uuids), key=lambda each: each.index)
    if not 1 <= count <= len(free):
        return ()
    uuids = [device.uuid for device in free]
    ranks, lanes = _matrices(node.links, uuids)
    used = Counter(avoid)
    before = np.array([used[uuid] for uuid in uuids])
    if count == len(free):
        choices = np.arange(count)[None]
    elif math.comb(len(free), count) <= _MOST_CHOICES:
        choices = _all_choices(len(free), count)
    elif ranks.min() == ranks[~np.eye(len(free), dtype=bool)].max() and not lanes.any():
        choices = np.sort(np.argsort(before, kind="stable")[:count])[None]
    else:
        choices = np.array([_grown(start, count, ranks, lanes, before) for start in range(len(free))])
    return tuple(uuids[i] for i in choices[_best(choices, ranks, lanes, before)])


def worst_link(node: "Node", uuids: Sequence[str]) -> LinkKind | None:
    """The kind of the worst link among these devices of the node; None for fewer than two."""
    if len(uuids) < 2:
        return None
    ranks, _ = _matrices(node.links, uuids)
    return KINDS[int(ranks.max()) // 100]


def _matrices(links: Iterable[Link], uuids: Sequence[str]) -> tuple[_Indices, _Indices]:
    """The rank of each pair's link and its number of NVLinks. A device is as near to itself as its best neighbour."""
    place = {uuid: i for i, uuid in enumerate(uuids)}
    ranks = np.full((len(uuids), len(uuids)), _NO_LINK.rank)
    lanes = np.zeros_like(ranks)
    for link in links:
        if link.one in place and link.other in place:
            i, j = place[link.one], place[link.other]
            ranks[i, j] = ranks[j, i] = link.rank
            lanes[i, j] = lanes[j, i] = link.lanes if link.kind == "nvlink" else 0
    np.fill_diagonal(ranks, ranks.min())
    return ranks, lanes


@lru_cache(maxsize=64)
def _all_choices(of: int, count: int) -> _Indices:
    return np.array(list(combinations(range(of), count)), dtype=np.intp)


def _best(choices: _Indices, ranks: _Indices, lanes: _Indices, before: _Indices) -> int:
    """The row of the best choice; of equal ones the first, which has the lowest indices."""
    inside = np.zeros((len(choices), len(ranks)), dtype=np.int64)
    np.put_along_axis(inside, choices, 1, axis=1)
    to_others = inside @ lanes
    lanes_inside = (to_others * inside).sum(axis=1) // 2
    lanes_cut = to_others.sum(axis=1) - 2 * lanes_inside
    count = choices.shape[1]
    worst = np.full(len(choices), ranks.min())
    for i, j in combinations(range(count), 2):
        np.maximum(worst, ranks[choices[:, i], choices[:, j]], out=worst)
    return int(np.lexsort((np.arange(len(choices)), inside @ before, lanes_cut, -lanes_inside, worst))[0])


def _grown(start: int, count: int, ranks: _Indices, lanes: _Indices, before: _Indices) -> list[int]:
    """From one device on, always the next whose worst link to those taken is best, then with most NVLinks to them."""
    taken = [start]
    while len(taken) < count:
        rest = [i for i in range(len(ranks)) if i not in taken]
        taken.append(min(rest, key=lambda i: (ranks[i, taken].max(), -lanes[i, taken].sum(), before[i], i)))
    return sorted(taken)
