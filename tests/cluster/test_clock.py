"""The offset of a node's clock is within the error that is told, however its round trips were divided or lost."""

from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulelaw.cluster.streams.clock import AGAIN_S, ASKS, PATIENCE_S, ClockComparison

SECOND = 1_000_000_000
DELAYS_NS = st.tuples(st.integers(0, 50_000_000), st.integers(0, 50_000_000))


class Node:
    """Its clock is `ahead_ns` of ours; its answers come when `arrive` is called, some of them never."""

    def __init__(self, ahead_ns: int = 0) -> None:
        self.now_ns, self.ahead_ns = 10**16, ahead_ns
        self.asked: list[Future[int]] = []

    def ask(self) -> "Future[int]":
        self.asked.append(Future())
        return self.asked[-1]

    def arrive(self, there_ns: int, back_ns: int) -> None:
        answer_ns = self.now_ns + there_ns + self.ahead_ns
        self.now_ns += there_ns + back_ns
        self.asked[-1].set_result(answer_ns)


@given(st.integers(-(10**15), 10**15), st.lists(DELAYS_NS, min_size=1, max_size=9), st.integers(0, 10 * SECOND))
def test_the_offset_is_within_its_error_of_the_truth(
    ahead_ns: int, trips: list[tuple[int, int]], looked_later_ns: int
) -> None:
    node = Node(ahead_ns)
    comparison = ClockComparison(node.ask, lambda: node.now_ns, len(trips))
    for there_ns, back_ns in trips:
        assert comparison.offset is None
        comparison.advance()
        node.arrive(there_ns, back_ns)
        node.now_ns += looked_later_ns
    comparison.advance()
    assert comparison.offset is not None
    assert abs(comparison.offset.offset_ns - ahead_ns) <= comparison.offset.error_ns
    assert comparison.offset.error_ns == min((there_ns + back_ns + 1) // 2 for there_ns, back_ns in trips)


def test_answers_that_are_lost_or_errors_are_asked_for_again() -> None:
    node = Node(ahead_ns=77)
    comparison = ClockComparison(node.ask, lambda: node.now_ns)
    comparison.advance()
    comparison.advance()
    assert len(node.asked) == 1, "one at a time"
    node.now_ns += round(PATIENCE_S * SECOND) + 1
    comparison.advance()
    node.asked[-1].set_exception(ConnectionError("cut"))
    for _ in range(ASKS):
        comparison.advance()
        node.arrive(1000, 1000)
    comparison.advance()
    assert comparison.offset is not None
    assert comparison.offset.offset_ns == 77
    assert len(node.asked) == ASKS + 2


@pytest.mark.parametrize("drift_ns", [-5_000_000, 5_000_000])
def test_clocks_that_drift_are_compared_again(drift_ns: int) -> None:
    node = Node()
    comparison = ClockComparison(node.ask, lambda: node.now_ns)
    for expected_ns in (0, drift_ns):
        node.ahead_ns = expected_ns
        for _ in range(ASKS):
            comparison.advance()
            node.arrive(1000, 1000)
        comparison.advance()
        comparison.advance()
        assert len(node.asked) % ASKS == 0, "nothing more is asked"
        assert comparison.offset is not None
        assert comparison.offset.offset_ns == expected_ns
        node.now_ns += round(AGAIN_S * SECOND) + 1
