"""The offset of a node's clock is within the error that is told, however a round trip was divided."""

from hypothesis import given
from hypothesis import strategies as st

from joulelaw.cluster.metering import clock_offset

DELAYS_NS = st.tuples(st.integers(0, 50_000_000), st.integers(0, 50_000_000))


@given(st.integers(-(10**15), 10**15), st.lists(DELAYS_NS, min_size=1, max_size=9))
def test_the_offset_is_within_its_error_of_the_truth(ahead_ns: int, trips: list[tuple[int, int]]) -> None:
    now_ns = 10**16
    left = iter(trips)

    def ask() -> int:
        nonlocal now_ns
        there_ns, back_ns = next(left)
        answer_ns = now_ns + there_ns + ahead_ns
        now_ns += there_ns + back_ns
        return answer_ns

    found = clock_offset(ask, lambda: now_ns, len(trips))
    assert abs(found.offset_ns - ahead_ns) <= found.error_ns
    assert found.error_ns == min((there_ns + back_ns + 1) // 2 for there_ns, back_ns in trips)
