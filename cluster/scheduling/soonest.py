"""The nodes that will have room the soonest, without looking at all of them at each decision."""

import heapq
from collections.abc import Callable, Iterable


class Soonest:
    """Nodes by the time at which they have room. Whatever changes on a node is told with `forget`."""

    def __init__(self, nodes: Iterable[str], ready_s: Callable[[str], float | None]) -> None:
        """`ready_s` is when a node has room, None where it never has."""
        self._ready_s = ready_s
        self._known: dict[str, float] = {}
        self._unknown = set(nodes)
        self._heap: list[tuple[float, str]] = []  # with entries that hold no more

    def forget(self, node: str) -> None:
        """The node is looked at anew before the next answer."""
        self._unknown.add(node)

    def take(self, number: int) -> list[tuple[float, str]]:
        """The first `number` nodes, or as many as there are: (when, node), soonest first."""
        for node in self._unknown:
            ready_s = self._ready_s(node)
            if ready_s is None:
                self._known.pop(node, None)
            elif self._known.get(node) != ready_s:
                self._known[node] = ready_s
                heapq.heappush(self._heap, (ready_s, node))
        self._unknown.clear()
        found: dict[str, float] = {}
        while self._heap and len(found) < number:
            ready_s, node = heapq.heappop(self._heap)
            if self._known.get(node) == ready_s:
                found[node] = ready_s
        for node, ready_s in found.items():
            heapq.heappush(self._heap, (ready_s, node))
        return [(ready_s, node) for node, ready_s in found.items()]
