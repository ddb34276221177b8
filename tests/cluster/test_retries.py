"""The policy of retries: what is a result, what is left to a later run, and what the machine did."""

import pytest

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.scheduling.retries import TRIES, next_step

RESULTS = {Cause.OUT_OF_MEMORY, Cause.NAN_LOSS}
LEFT = {Cause.RANK_ERROR, Cause.TRIAL_TIMEOUT}


@pytest.mark.parametrize("cause", Cause)
def test_each_cause_has_its_next_step(cause: Cause) -> None:
    first = "result" if cause in RESULTS else "failed" if cause in LEFT else "retry"
    assert next_step(cause, 1) == first


@pytest.mark.parametrize("cause", sorted(set(Cause) - RESULTS))
def test_no_cause_is_tried_more_often_than_the_limit(cause: Cause) -> None:
    assert next_step(cause, TRIES) == "failed"
    assert next_step(cause, 1, limit=1) == "failed"


@pytest.mark.parametrize("cause", sorted(RESULTS))
def test_a_result_stays_one_however_often_it_was_tried(cause: Cause) -> None:
    """A retry after a node's loss may end out of memory: that is still the trial's result."""
    assert next_step(cause, TRIES) == "result"
