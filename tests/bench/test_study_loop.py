"""The loop's decisions: what is tried again, and how a study's time left is told."""

import pytest

from joulelaw.bench.progress import time_left_s
from joulelaw.bench.study_loop import MAX_ATTEMPTS, worth_another_try
from joulelaw.cluster.failures import FailureKind, RankFailure


def failed(*kinds: FailureKind) -> list[RankFailure]:
    return [RankFailure(rank, "node", kind, "cause", "log") for rank, kind in enumerate(kinds)]


@pytest.mark.parametrize("kinds", [("killed",), ("lost",), ("hang",), ("start_timeout",), ("killed", "error")])
def test_what_the_machine_did_is_tried_again_but_not_for_ever(kinds: tuple[FailureKind, ...]) -> None:
    assert worth_another_try(0, failed(*kinds))
    assert not worth_another_try(MAX_ATTEMPTS - 1, failed(*kinds))


@pytest.mark.parametrize("kinds", [(), ("error",), ("error", "exited")])
def test_an_exception_would_only_come_again(kinds: tuple[FailureKind, ...]) -> None:
    assert not worth_another_try(0, failed(*kinds))


def test_time_left_is_right_whatever_the_forecasts_scale() -> None:
    """A third of the work took 10 s, so two thirds take 20 s, if forecasts are off by any one factor."""
    for factor in (0.1, 1.0, 7.0):
        assert time_left_s(30 * factor, 10 * factor, 10.0) == pytest.approx(20.0)
    assert time_left_s(30.0, 0.0, 10.0) is None
