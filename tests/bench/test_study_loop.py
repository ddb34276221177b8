"""The loop's decisions: what is tried again, and how a study's time left is told."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pandas as pd
import pyarrow as pa
import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_steps, read_trials
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress, time_left_s
from joulelaw.bench.trial.running import Event, RunningTrial, Span
from joulelaw.cluster.failures import Cause, ClusterError, GroupTimeoutError, NodeLostError
from joulelaw.cluster.power.meter import MeterKind, Reading
from joulelaw.cluster.ranks.gang import Gang, GangState, RankGang
from joulelaw.cluster.ranks.rank_failures import RankFailure
from joulelaw.cluster.scheduling.retries import TRIES
from joulelaw.cluster.streams.metering import readings_batch
from tests.bench.factories import GPU_MODEL
from tests.bench.fake_fleet import DEVICES, NODE, FakeFleet, FakeGang, planned


def failed(*causes: Cause) -> list[RankFailure]:
    return [RankFailure(rank, "node", cause, "what", "log") for rank, cause in enumerate(causes)]


def test_time_left_is_right_whatever_the_forecasts_scale() -> None:
    """A third of the work took 10 s, so two thirds take 20 s, if forecasts are off by any one factor."""
    for factor in (0.1, 1.0, 7.0):
        assert time_left_s(30 * factor, 10 * factor, 10.0) == pytest.approx(20.0)
    assert time_left_s(30.0, 0.0, 10.0) is None


def loop_of(fleet: FakeFleet, folder: Path, counts: Sequence[int] = (1, 2), repeats: int = 1) -> StudyLoop:
    new = not Dataset.exists(folder)
    dataset = Dataset.create(folder, sweep="", plan={}, environment={}) if new else Dataset.open(folder)
    asked = [planned(count) for count in counts]
    trials = [replace(one, spec=replace(one.spec, repeat=repeat)) for one in asked for repeat in range(repeats)]
    return StudyLoop(trials, dataset, fleet, LimitsSection(), StudyProgress(len(trials), 1.0, 0), Path())


STEPS = {"kind": "steps", "rank": 0, "rows": [[0, True, 1, 2, 0.5]]}


def test_a_failed_trial_is_tried_again_by_the_next_run_and_its_attempts_count_on(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for run in range(3):
        killed = [FakeGang(1, [STEPS], failed(Cause.RANK_CRASH)) for _ in range(TRIES)]
        loop = loop_of(FakeFleet(killed), folder, [1])
        loop.run()
        (row,) = loop.rows
        assert (row["status"], row["attempt"]) == ("failed", TRIES * (run + 1) - 1)
        assert read_trials(folder)["attempt"].tolist() == [row["attempt"]]
        assert read_steps(folder, row["trial_id"])["attempt"].tolist() == [row["attempt"]]
        loop._dataset.close()
    everything = pd.read_parquet(folder / "steps")
    assert sorted(everything["attempt"]) == list(range(3 * TRIES)), "what each attempt did stays, told apart"


def a_window(seconds: float = 1.2) -> list[Event]:
    """What a rank says that is through with its trial: its window is just over."""
    end_ns = time.monotonic_ns()
    begin_ns = end_ns - int(seconds * 1e9)
    window = {"begin_ns": begin_ns, "end_ns": end_ns, "measured_steps": 1, "warmup_steps": 0}
    done = dict.fromkeys(("micro_steps", "tokens", "padded_tokens", "num_parameters", "threads"), 1)
    done["skipped_steps"] = 0
    memory = {"peak_memory_bytes": 2, "base_memory_bytes": 1, "backend": "", "loss_first": 0.5, "loss_last": 0.5}
    steps = {"kind": "steps", "rank": 0, "rows": [[0, True, begin_ns, end_ns, 0.5]]}
    place = {"rank": 0, "node": NODE}
    return [steps, {"kind": "window", **place, **window}, {"kind": "done", **place, **done, **memory}]


def test_devices_that_become_free_go_to_the_next_trial_at_once(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(count, failures=failed(Cause.RANK_ERROR)) for count in (2, 1)])
    loop_of(fleet, tmp_path / "out", [1, 2]).run()
    assert (fleet.lent, fleet.waits) == (2, 0)


class FleetThatLosesSamplers(FakeFleet):
    """Its meter tells nothing; its sampler is lost while each of the first `lost` trials runs."""

    def __init__(self, gangs: Sequence[FakeGang], lost: int, kind: MeterKind = "measured") -> None:
        super().__init__(gangs, kind=kind)
        self._every_gang, self._lost = list(gangs), lost

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        over = sum(gang.state is GangState.DONE for gang in self._every_gang)
        self.meter_losses[NODE] = min(over, self._lost)
        return {}


@pytest.mark.parametrize(("lost", "ends"), [(0, ("done", 1)), (1, ("done", 1)), (3, ("failed", 2))])
def test_joules_that_went_with_a_sampler_are_measured_again_and_never_kept_as_invalid(
    tmp_path: Path, lost: int, ends: tuple[str, int]
) -> None:
    """An invalid trial is done for good; one that a kill made so is tried again, in this run or in the next."""
    loop = loop_of(FleetThatLosesSamplers([FakeGang(1, a_window()) for _ in range(3)], lost), tmp_path / "out", [1])
    loop.run()
    (row,) = loop.rows
    assert (row["status"], row["attempt"]) == ends
    assert row["verdict"] == "invalid"
    assert ("sampler" in row["failure"]) == (ends[0] == "failed")


@pytest.mark.parametrize(("begin_s", "losses", "ended"), [(0.0, 1, True), (3.9, 1, False), (0.0, 0, False)])
def test_a_trial_whose_sampler_was_lost_within_its_window_is_ended_at_once(
    tmp_path: Path, begin_s: float, losses: int, ended: bool
) -> None:
    """Its last reading before the loss at 1 s, its next at 4 s; of a window that began later little is missing."""
    gang, fleet = FakeGang(1), FakeFleet()
    loop = loop_of(fleet, tmp_path / "out", [1])
    trial = RunningTrial(planned(), cast(Gang, gang), loop._dataset.start_trial("one-r0"), meter_losses={NODE: 0})
    gang.state = GangState.RUNNING
    trial.spans[0] = Span(NODE, round(1e9 * begin_s), 10**10)
    for second in (1, 4):
        reading = Reading(DEVICES[0].uuid, second * 10**9, 10.0, 1.0)
        trial.record(NODE, pa.Table.from_batches([readings_batch("nvml", [reading])]))
    fleet.meter_losses[NODE] = losses
    loop._ender.give_up_if_hopeless(trial)
    assert trial.cause is (Cause.SAMPLER_LOST if ended else Cause.RANK_ERROR)
    assert bool(trial.given_up) == ended


@pytest.mark.parametrize(("kind", "attempt"), [("measured", 1), ("none", 0)])
def test_a_trial_that_something_passing_made_invalid_is_run_once_more_where_there_is_a_meter(
    kind: MeterKind, attempt: int, tmp_path: Path
) -> None:
    """Here no reading came, twice: the second attempt is kept as it is, and the steps of both."""
    gangs = [FakeGang(1, a_window()) for _ in range(2)]
    loop = loop_of(FleetThatLosesSamplers(gangs, 0, kind), tmp_path / "out", [1])
    loop.run()
    (row,) = loop.rows
    assert (row["status"], row["attempt"], row["reasons"]) == ("done", attempt, ["no_reading"])
    everything = pd.read_parquet(tmp_path / "out" / "steps")
    assert sorted(everything["attempt"]) == list(range(attempt + 1))


def test_a_group_that_is_not_granted_leaves_the_trials_that_run_alone_and_is_asked_for_again(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(1), FakeGang(1)])
    fleet.refusals[1] = GroupTimeoutError("other Ray jobs hold the devices")
    loop = loop_of(fleet, tmp_path / "out", [1], repeats=2)
    loop.run()
    assert len(loop.rows) == 2


def test_a_group_that_is_not_granted_while_nothing_runs_ends_the_study(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(2), FakeGang(1)])
    fleet.refusals[0] = GroupTimeoutError("other Ray jobs hold the devices")
    with pytest.raises(GroupTimeoutError):
        loop_of(fleet, tmp_path / "out").run()


class FleetThatLosesANode(FakeFleet):
    """Its devices are gone after the first trial."""

    def free_by_model(self) -> dict[str, dict[str, int]]:
        return {GPU_MODEL: {NODE: 0}} if self.lent else super().free_by_model()

    total_by_model = free_by_model

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        if self.lent:
            raise NodeLostError("node local is lost")
        return super().acquire(model, count, node_count, nodes, avoid)


def test_trials_whose_devices_are_gone_for_good_end_the_study_and_are_not_waited_for(tmp_path: Path) -> None:
    fleet = FleetThatLosesANode([FakeGang(1)])
    with pytest.raises(ClusterError, match="1 trials wait for devices that are no longer there: their node is lost"):
        loop_of(fleet, tmp_path / "out").run()
    assert len(read_trials(tmp_path / "out")) == 1


class FleetWithALostNode(FakeFleet):
    """Two nodes, or one; the first is lost, which only shows when a group is asked for there."""

    def __init__(self, gangs: Sequence[FakeGang], others: Sequence[str]) -> None:
        super().__init__(gangs)
        self._free = {"lost": 2, **dict.fromkeys(others, 2)}
        self.meters = dict.fromkeys([NODE, *self._free], self.meters[NODE])
        self.asked: list[Sequence[str] | None] = []

    def free_by_model(self) -> dict[str, dict[str, int]]:
        return {GPU_MODEL: self._free}

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        self.asked.append(nodes)
        if "lost" in (nodes or ()):
            self._free["lost"] = 0
            raise NodeLostError("node lost is lost")
        return super().acquire(model, count, node_count, nodes, avoid)


def test_a_lost_node_sends_its_trials_to_the_others(tmp_path: Path) -> None:
    fleet = FleetWithALostNode([FakeGang(2), FakeGang(1)], ["still there"])
    loop = loop_of(fleet, tmp_path / "out")
    loop.run()
    assert len(loop.rows) == 2
    assert fleet.asked == [("lost",), ("still there",), ("still there",)]


def test_a_study_whose_only_node_is_lost_ends(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="1 trials wait for devices that are no longer there: their node is lost"):
        loop_of(FleetWithALostNode([], []), tmp_path / "out", [1]).run()


def test_actors_that_die_on_a_node_that_lives_end_the_study_and_are_not_asked_for_for_ever(tmp_path: Path) -> None:
    fleet = FakeFleet([FakeGang(1)])
    fleet.refusals[0] = NodeLostError("opening 1 x device: ActorDiedError")
    with pytest.raises(NodeLostError):
        loop_of(fleet, tmp_path / "out", [1]).run()
