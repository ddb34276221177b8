"""Every way to fail, played through the study's loop: recorded with its cause, retried or not, and the others go on."""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_events, read_trials
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study import loop as study_loop
from joulelaw.bench.study.attempts import note_lost_attempts
from joulelaw.bench.study.fleet import ByModel
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.trial.running import Event
from joulelaw.bench.trial.watch import NAN_STEPS, LossWatch
from joulelaw.cluster.failures import Cause, ClusterError, NodeLostError, RayLostError
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.power.meter import GPU_LOST, Reading
from joulelaw.cluster.ranks.gang import GangState, RankGang
from joulelaw.cluster.ranks.rank_failures import RankFailure
from joulelaw.cluster.scheduling.retries import TRIES
from joulelaw.cluster.streams.metering import HERE, ClockOffset, readings_batch
from tests.bench.factories import GPU_MODEL, configurations, failure, trial_row
from tests.bench.fake_fleet import DEVICES, NODE, FakeFleet, FakeGang, planned
from tests.bench.test_study_loop import a_window

A, B = (device.uuid for device in DEVICES)


def failing(cause: Cause, count: int = 1, **more: Any) -> FakeGang:
    gang = FakeGang(count, failures=[RankFailure(0, NODE, cause, f"failed of {cause}", "out/rank0.log", **more)])
    gang.log_ends = {0: f"failed of {cause}\n"}
    return gang


def loop_of(fleet: FakeFleet, folder: Path, counts: Sequence[int] = (1,), **limits: Any) -> StudyLoop:
    new = not Dataset.exists(folder)
    dataset = Dataset.create(folder, sweep="", plan={}, environment={}) if new else Dataset.open(folder)
    one = [planned(count) for count in counts]
    trials = [replace(each, spec=replace(each.spec, repeat=repeat)) for repeat, each in enumerate(one)]
    return StudyLoop(trials, dataset, fleet, LimitsSection(**limits), StudyProgress(len(trials), 1.0, 0), Path())


def run(fleet: FakeFleet, folder: Path, counts: Sequence[int] = (1,), **limits: Any) -> list[dict[str, Any]]:
    loop = loop_of(fleet, folder, counts, **limits)
    try:
        loop.run()
    finally:
        loop._dataset.close()
    return loop.rows


def ends(folder: Path) -> list[tuple[str | None, bool]]:
    """Of each attempt: its cause, and whether another followed."""
    events = read_events(folder)
    ended = events[events["kind"] == "attempt_ended"]
    assert len(ended) == (events["kind"] == "attempt_began").sum()
    return [
        (None if pd.isna(cause) else cause, bool(again))
        for cause, again in zip(*(ended[c] for c in COLUMNS), strict=True)
    ]


COLUMNS = ("cause", "retried")
ONCE = [Cause.OUT_OF_MEMORY, Cause.RANK_ERROR]
AGAIN = [Cause.RANK_CRASH, Cause.HANG, Cause.START_TIMEOUT, Cause.NODE_LOST, Cause.NETWORK_CUT]


@pytest.mark.parametrize(("cause", "attempts"), [*((each, 1) for each in ONCE), *((each, TRIES) for each in AGAIN)])
def test_a_failure_is_recorded_with_its_cause_at_each_attempt(cause: Cause, attempts: int, tmp_path: Path) -> None:
    (row,) = run(FakeFleet([failing(cause) for _ in range(attempts)]), tmp_path / "out")
    assert (row["status"], row["cause"], row["attempt"]) == ("failed", cause, attempts - 1)
    assert row["log"] == f"logs/{row['trial_id']}.{attempts - 1}/rank0.log"
    logs = sorted((tmp_path / "out" / "logs").glob("*/*"))
    assert len(logs) == attempts, "a retry leaves the logs of the attempts before"
    assert ends(tmp_path / "out") == [(cause, True)] * (attempts - 1) + [(cause, False)]
    assert read_trials(tmp_path / "out")["cause"].tolist() == [cause]


def test_how_often_to_try_is_the_sweeps_to_say(tmp_path: Path) -> None:
    (row,) = run(FakeFleet([failing(Cause.HANG)]), tmp_path / "out", tries=1)
    assert (row["status"], row["attempt"]) == ("failed", 0)


def test_a_result_is_never_run_again_and_another_failure_by_the_next_run(tmp_path: Path) -> None:
    run(FakeFleet([failing(Cause.OUT_OF_MEMORY)]), tmp_path / "out")
    with Dataset.open(tmp_path / "out") as dataset:
        assert len(dataset.settled_trial_ids()) == 1
    run(FakeFleet([failing(Cause.RANK_ERROR)]), tmp_path / "other")
    with Dataset.open(tmp_path / "other") as dataset:
        assert dataset.settled_trial_ids() == set()


def test_the_next_try_and_the_next_repeat_are_on_other_devices_first(tmp_path: Path) -> None:
    fleet = FakeFleet([failing(Cause.RANK_CRASH), failing(Cause.RANK_ERROR)])
    run(fleet, tmp_path / "out")
    assert fleet.avoided == [[], [A]]


class StubbornGang(FakeGang):
    """Says its events and runs on until it is killed."""

    def poll(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def steps(losses: Sequence[float], rank: int = 0) -> Event:
    return {"kind": "steps", "rank": rank, "rows": [[i, True, i, i + 1, loss] for i, loss in enumerate(losses)]}


def test_a_loss_that_is_no_number_for_some_steps_ends_the_trial_early_and_is_its_result(tmp_path: Path) -> None:
    gang = StubbornGang(1, [steps([0.5, 0.4, *[math.nan] * NAN_STEPS])])
    (row,) = run(FakeFleet([gang]), tmp_path / "out")
    assert (row["status"], row["cause"], gang.state) == ("failed", "nan_loss", GangState.FAILED)
    assert "loss_not_finite" in row["reasons"]
    assert f"not finite in {NAN_STEPS} steps in a row" in row["failure"]


def test_ranks_that_are_through_before_anyone_looks_have_the_same_result(tmp_path: Path) -> None:
    gang = FakeGang(1, [steps([math.nan] * NAN_STEPS), *a_window()[1:]])
    (row,) = run(FakeFleet([gang]), tmp_path / "out")
    assert (row["status"], row["cause"]) == ("failed", "nan_loss")


@pytest.mark.parametrize(
    "told",
    [
        [math.inf] * (NAN_STEPS - 1) + [0.5] + [math.inf] * (NAN_STEPS - 1),
        [math.nan, None, math.nan, 0.5, *[None] * 3 * NAN_STEPS],
    ],
)
def test_single_losses_that_overflow_and_losses_that_were_not_read_end_nothing(told: list[float | None]) -> None:
    """As fp16 has them now and then; of a step that loss scaling leaves out the loss itself is finite."""
    watch = LossWatch()
    assert not any(watch.take(0, [loss]) for loss in told)


def test_losses_are_counted_by_rank_over_messages() -> None:
    watch = LossWatch()
    for _ in range(NAN_STEPS - 1):
        assert not watch.take(0, [math.nan])
        assert not watch.take(1, [math.nan])
    assert "rank 1" in watch.take(1, [math.inf])


def test_a_trial_without_an_end_is_given_up(tmp_path: Path) -> None:
    (row,) = run(FakeFleet([StubbornGang(1)]), tmp_path / "out", trial_timeout_s=0.05)
    assert (row["status"], row["cause"], row["attempt"]) == ("failed", "trial_timeout", 0)


class FleetWithALostGpu(FakeFleet):
    """The driver loses the first device while the first trial runs."""

    def drain_power(self, nodes: Collection[str] | None = None) -> dict[str, pa.RecordBatch]:
        now_ns = time.monotonic_ns()
        error = f"{GPU_LOST}: GPU is lost" if self.lent == 1 else ""
        return {
            NODE: readings_batch("nvml", [Reading(A, now_ns, None, None, error=error), Reading(B, now_ns, 10.0, 1.0)])
        }


@pytest.mark.parametrize("by_rank", [False, True])
def test_a_lost_gpu_is_taken_out_of_use_and_its_trial_goes_to_another(by_rank: bool, tmp_path: Path) -> None:
    first = failing(Cause.GPU_LOST) if by_rank else StubbornGang(1, [steps([0.5])])
    fleet = (FakeFleet if by_rank else FleetWithALostGpu)([first, failing(Cause.RANK_ERROR)])
    (row,) = run(fleet, tmp_path / "out")
    assert row["attempt"] == 1
    assert fleet.retired == {A}
    assert ends(tmp_path / "out") == [("gpu_lost", True), ("rank_error", False)]
    events = read_events(tmp_path / "out")
    (lost,) = events[events["kind"] == "device_lost"]["device_uuids"]
    assert list(lost) == [A]


def test_where_the_hosts_memory_was_shared_a_trial_gets_its_node_for_itself(tmp_path: Path) -> None:
    """What the others took may have been too much; what does not fit alone is a result."""
    fleet = FakeFleet(
        [failing(Cause.OUT_OF_MEMORY, of_host=True), StubbornGang(1), failing(Cause.OUT_OF_MEMORY, of_host=True)]
    )
    rows = run(fleet, tmp_path / "out", [1, 1], trial_timeout_s=0.2)
    assert {row["cause"] for row in rows} == {"out_of_memory", "trial_timeout"}
    assert sorted(ends(tmp_path / "out")) == [
        ("out_of_memory", False),
        ("out_of_memory", True),
        ("trial_timeout", False),
    ]
    (again,) = [row for row in rows if row["cause"] == "out_of_memory"]
    assert again["shared_with"] == [], "the second time it was alone"


class FleetOfTwo(FakeFleet):
    """A second node comes, or the first one goes, as `changes` says: the turn, and what happens."""

    OTHER = "other"

    def __init__(self, gangs: Sequence[FakeGang], there: Collection[str], changes: Sequence[NodeChange]) -> None:
        super().__init__(gangs)
        self.meters = dict.fromkeys((NODE, self.OTHER), self.meters[NODE])
        self.meter_losses = dict.fromkeys(self.meters, 0)
        self.power_dropped = dict.fromkeys(self.meters, 0)
        self.asked: list[Sequence[str] | None] = []
        self._there = list(there)
        self._changes = list(changes)

    def refresh(self) -> list[NodeChange]:
        changes, self._changes = self._changes[:1], self._changes[1:]
        for change in changes:
            if change.kind == "node_joined":
                self._there.append(change.node_id)
            else:
                self._there.remove(change.node_id)
                self.lost_nodes = {change.node_id: (Cause.NODE_LOST, change.text)}
        return changes

    def total_by_model(self) -> ByModel:
        return {GPU_MODEL: dict.fromkeys(self._there, 2)}

    free_by_model = total_by_model

    def acquire(
        self,
        model: str,
        count: int,
        node_count: int = 1,
        nodes: Sequence[str] | None = None,
        avoid: Collection[str] = (),
    ) -> RankGang:
        self.asked.append(nodes)
        if set(nodes or ()) - set(self._there):
            raise NodeLostError("a node is lost")
        return super().acquire(model, count, node_count, nodes, avoid)


JOINED = NodeChange("node_joined", "other", "node other joined")
LOST = NodeChange("node_lost", NODE, "node local is gone", cause=Cause.NODE_LOST)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_loop, "NODES_EVERY_S", 0.0)
    monkeypatch.setattr(study_loop, "NODES_BACK_S", 0.3)


@pytest.mark.usefixtures("quick")
def test_a_late_node_is_taken_up_and_noted(tmp_path: Path) -> None:
    fleet = FleetOfTwo([failing(Cause.RANK_ERROR)], [], [JOINED])
    fleet.more_to_come = lambda: not fleet._there  # type: ignore[method-assign]
    assert len(run(fleet, tmp_path / "out")) == 1
    assert fleet.asked == [("other",)]
    assert "node_joined" in set(read_events(tmp_path / "out")["kind"])


def test_a_node_that_gets_ready_while_nothing_runs_is_not_taken_for_a_lost_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_loop, "FIRST_S", 0.0)
    fleet = FakeFleet([failing(Cause.RANK_ERROR)])
    asked = 0

    def clock_offsets() -> Mapping[str, ClockOffset]:
        nonlocal asked
        asked += 1
        return {NODE: HERE} if asked > 3 else {}

    fleet.clock_offsets = clock_offsets  # type: ignore[method-assign]
    assert len(run(fleet, tmp_path / "out")) == 1


def test_a_node_whose_meter_never_answers_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_loop, "FIRST_S", 0.0)
    monkeypatch.setattr(study_loop, "READY_S", 0.2)
    fleet = FakeFleet([failing(Cause.RANK_ERROR)])
    fleet.clock_offsets = dict  # type: ignore[method-assign]
    with pytest.raises(ClusterError, match="not ready: the meter of node local does not answer"):
        run(fleet, tmp_path / "out")


@pytest.mark.usefixtures("quick")
def test_a_node_that_comes_back_in_time_gets_what_waits_for_it(tmp_path: Path) -> None:
    fleet = FleetOfTwo([failing(Cause.NODE_LOST), failing(Cause.RANK_ERROR)], [NODE], [])
    fleet._changes = [LOST]
    asked = fleet.refresh

    def refresh() -> list[NodeChange]:
        changes = asked() if fleet.lent else []
        if fleet.lost_nodes and not fleet._there:
            fleet._changes = [JOINED]
        return changes

    fleet.refresh = refresh  # type: ignore[method-assign]
    (row,) = run(fleet, tmp_path / "out")
    assert row["attempt"] == 1
    assert fleet.asked[-1] == ("other",)


@pytest.mark.usefixtures("quick")
def test_trials_whose_node_is_gone_for_good_are_left_and_told_after_a_while(tmp_path: Path) -> None:
    fleet = FleetOfTwo([failing(Cause.RANK_ERROR)], [NODE], [LOST])
    fleet.refresh()
    began_s = time.monotonic()
    fleet._changes, fleet._there = [LOST], [NODE]
    with pytest.raises(ClusterError, match="1 trials wait for devices that are no longer there: node local is gone"):
        run(fleet, tmp_path / "out")
    assert time.monotonic() - began_s >= 0.3
    events = read_events(tmp_path / "out")
    (lost,) = events[events["kind"] == "node_lost"]["cause"]
    assert lost == "node_lost"
    assert events["kind"].iloc[-1] == "run_ended"
    assert "no longer there" in events["detail"].iloc[-1]


@pytest.mark.parametrize(
    ("error", "cause"), [(KeyboardInterrupt(), "interrupted"), (RayLostError("gone"), "driver_lost")]
)
def test_what_ends_a_run_ends_its_attempts_and_kills_them_all_before_it_waits(
    error: BaseException, cause: str, tmp_path: Path
) -> None:
    class Fleet(FakeFleet):
        def wait(self, timeout_s: float) -> None:
            raise error

        def release(self, gang: object) -> None:
            assert all(each.state is GangState.FAILED for each in gangs)

    gangs = [StubbornGang(1), StubbornGang(1)]
    with pytest.raises(type(error)):
        run(Fleet(gangs), tmp_path / "out", [1, 1])
    assert ends(tmp_path / "out") == [(cause, False)] * 2


@pytest.mark.parametrize("end", [{}, {**failure(), "cause": "hang"}])
def test_an_attempt_that_has_its_row_ended_as_that_says_though_its_driver_was_lost_before_noting_it(
    end: Mapping[str, Any], tmp_path: Path
) -> None:
    with Dataset.create(tmp_path / "out", sweep="", plan={}, environment={}) as dataset:
        dataset.note("attempt_began", trial_id="a-r0", attempt=1)
        dataset.start_trial("a-r0", 1).finish({**trial_row(next(configurations())), **end})
    with Dataset.open(tmp_path / "out") as dataset:
        assert note_lost_attempts(dataset) == 1
    assert ends(tmp_path / "out") == [(end.get("cause"), False)]


def test_attempts_of_a_driver_that_was_lost_are_closed_by_the_next_run(tmp_path: Path) -> None:
    with Dataset.create(tmp_path / "out", sweep="", plan={}, environment={}) as dataset:
        dataset.note("attempt_began", trial_id="a-r0", attempt=0, nodes=[NODE], device_uuids=[A])
        dataset.note("attempt_ended", trial_id="a-r0", attempt=0, retried=False)
        dataset.note("attempt_began", trial_id="b-r0", attempt=2, nodes=[NODE], device_uuids=[B])
    with Dataset.open(tmp_path / "out") as dataset:
        assert note_lost_attempts(dataset) == 1
    with Dataset.open(tmp_path / "out") as dataset:
        assert note_lost_attempts(dataset) == 0
    last = read_events(tmp_path / "out").iloc[-1]
    assert (last["kind"], last["trial_id"], last["attempt"], last["cause"]) == (
        "attempt_ended",
        "b-r0",
        2,
        "driver_lost",
    )
    assert list(last["device_uuids"]) == [B]


def test_logs_of_other_nodes_are_kept_where_the_row_says(tmp_path: Path) -> None:
    gang = failing(Cause.RANK_ERROR)
    gang.log_ends = {0: "its last words\n", 1: ""}
    (row,) = run(FakeFleet([gang]), tmp_path / "out")
    assert (tmp_path / "out" / row["log"]).read_text() == "its last words\n"
    assert not (tmp_path / "out" / row["log"]).with_name("rank1.log").exists()


def test_no_row_names_a_log_that_went_with_its_node(tmp_path: Path) -> None:
    gang = failing(Cause.RANK_ERROR)
    gang.log_ends = {}
    (row,) = run(FakeFleet([gang]), tmp_path / "out")
    assert row["log"] is None


def test_devices_that_no_trial_can_use_any_more_are_given_back(tmp_path: Path) -> None:
    fleet = FakeFleet([failing(Cause.RANK_ERROR, 1), failing(Cause.RANK_ERROR, 2)])
    run(fleet, tmp_path / "out", [1, 2])
    assert fleet.kept[0] == {GPU_MODEL: 1}


LINKS: Mapping[str, Any] = {
    "kind": "links",
    "transport": "nvlink",
    "probed_link_bytes_per_s": 1e11,
    "probed_network_bytes_per_s": None,
}


def test_a_groups_links_are_probed_once_and_stored_with_each_trial_on_it(tmp_path: Path) -> None:
    class Gang(FakeGang):
        def start(self, entry: str, payload: Mapping[str, Any], *_: Any) -> None:
            super().start()
            probed.append(payload["probe"])

    probed: list[bool] = []
    failures = [RankFailure(0, NODE, Cause.RANK_ERROR, "failed", "log")]
    rows = run(FakeFleet([Gang(2, [LINKS], failures), Gang(2, [], failures)]), tmp_path / "out", [2, 2])
    assert probed == [True, False]
    assert [(row["transport"], row["probed_link_bytes_per_s"]) for row in rows] == [("nvlink", 1e11)] * 2


def test_a_study_that_goes_on_knows_where_its_trials_ran(tmp_path: Path) -> None:
    run(FakeFleet([failing(Cause.RANK_ERROR)]), tmp_path / "out")
    fleet = FakeFleet([failing(Cause.RANK_ERROR)])
    run(fleet, tmp_path / "out")
    assert fleet.avoided == [[A]]
