"""The loop's decisions: what is tried again, and how a study's time left is told."""

from pathlib import Path

import pytest

from joulelaw.bench.dataset import Dataset
from joulelaw.bench.progress import StudyProgress, time_left_s
from joulelaw.bench.spec_schema import LimitsSection
from joulelaw.bench.study_loop import MAX_ATTEMPTS, StudyLoop, worth_another_try
from joulelaw.cluster.failures import FailureKind, GroupTimeoutError, RankFailure
from tests.bench.fake_fleet import FakeFleet, FakeGang, planned


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


def loop_of(fleet: FakeFleet, folder: Path) -> StudyLoop:
    dataset = Dataset.create(folder, sweep="", plan={}, environment={})
    return StudyLoop([planned(1), planned(2)], dataset, fleet, LimitsSection(), StudyProgress(2, 1.0, 0), Path())


def test_a_group_that_is_not_granted_leaves_the_trials_that_run_alone_and_is_asked_for_again(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(2), FakeGang(1)])
    fleet.refusals[1] = GroupTimeoutError("other Ray jobs hold the devices")
    loop = loop_of(fleet, tmp_path / "out")
    loop.run()
    assert len(loop.rows) == 2


def test_a_group_that_is_not_granted_while_nothing_runs_ends_the_study(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(2), FakeGang(1)])
    fleet.refusals[0] = GroupTimeoutError("other Ray jobs hold the devices")
    with pytest.raises(GroupTimeoutError):
        loop_of(fleet, tmp_path / "out").run()
