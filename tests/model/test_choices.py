"""Pareto fronts are those of comparing everything with everything."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw.model.choices import pareto_front

COST = st.one_of(st.integers(0, 4).map(float), st.just(float("nan")), st.floats(0.1, 10.0))


def beaten(at: int, costs: list[tuple[float, float]]) -> bool:
    """Whether another is as low in both, and lower in one."""
    a, b = costs[at]
    return any(x <= a and y <= b and (x < a or y < b) for x, y in costs)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(COST, COST), max_size=30))
def test_the_front_is_what_no_other_beats(costs: list[tuple[float, float]]) -> None:
    first, second = (np.array([each[k] for each in costs], dtype=float) for k in (0, 1))
    found = pareto_front(first, second)
    known = [at for at, each in enumerate(costs) if not any(np.isnan(each))]
    assert sorted(found) == [at for at in known if not beaten(at, costs)]
    assert (np.diff(first[found]) >= 0).all(), "sorted by the first cost"


def test_equal_candidates_stay_together_and_a_nan_beats_nothing() -> None:
    seconds, joules = np.array([2.0, 1.0, 1.0, 3.0, np.nan]), np.array([1.0, 2.0, 2.0, 1.0, 0.0])
    assert pareto_front(seconds, joules).tolist() == [1, 2, 0]
