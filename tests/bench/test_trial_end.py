"""The end of a trial: no reading of its devices is missed, and what only some ranks did is not the group's."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_steps
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.power_feed import BEYOND_NS, SETTLE_S, SILENT_S, hand_out, is_settled
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.trial.end import ended_row
from joulelaw.bench.trial.running import RunningTrial
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.power.meter import Reading
from joulelaw.cluster.ranks.gang import Gang
from joulelaw.cluster.ranks.rank_failures import RankFailure
from joulelaw.cluster.scheduling.retries import TRIES
from joulelaw.cluster.streams.metering import ClockOffset, readings_batch
from tests.bench.fake_fleet import DEVICES, NODE, SECOND, FakeFleet, FakeGang, planned

KILLED = RankFailure(0, NODE, Cause.RANK_CRASH, "killed by signal 9", "rank0.log")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset.create(tmp_path / "out", sweep="", plan={}, environment={})


def running(dataset: Dataset, gang: FakeGang) -> RunningTrial:
    trial = planned(gpu_count=len(gang.devices))
    return RunningTrial(trial, cast(Gang, gang), dataset.start_trial(trial.trial_id))


def window(rank: int, begin_ns: int, end_ns: int) -> dict[str, Any]:
    return {"kind": "window", "rank": rank, "node": NODE, "begin_ns": begin_ns, "end_ns": end_ns}


@pytest.mark.parametrize(("meter", "beyond_ns"), [("nvml", BEYOND_NS), ("cpu_time_estimate", 0)])
def test_a_coarse_counter_is_read_until_it_has_told_of_the_windows_end(
    dataset: Dataset, meter: str, beyond_ns: int
) -> None:
    trial, fleet = running(dataset, FakeGang(1)), FakeFleet(meter=meter)
    end_ns = time.monotonic_ns()
    trial.windows[0] = window(0, end_ns - SECOND, end_ns)
    while not is_settled(fleet, trial):
        hand_out(fleet, [trial])
        time.sleep(0.01)
    assert trial.metered_until_ns[NODE, DEVICES[0].uuid] > end_ns + beyond_ns


class SilentFleet(FakeFleet):
    """Nothing has come since `drained_s`."""

    drained_s = 0.0

    @property
    def power_drained_s(self) -> Mapping[str, float]:
        return {NODE: self.drained_s}


def test_a_trial_whose_node_is_silent_waits_for_its_readings_and_not_for_ever(dataset: Dataset) -> None:
    trial, fleet, now_s = running(dataset, FakeGang(1)), SilentFleet(), time.monotonic()
    trial.meter_losses, trial.ended_s = {NODE: 0}, now_s - SILENT_S / 2
    end_ns = round(1e9 * trial.ended_s)
    trial.windows[0] = window(0, end_ns - SECOND, end_ns)
    fleet.drained_s = trial.ended_s - 0.5
    assert not is_settled(fleet, trial), "half a minute of silence"
    fleet.meter_losses[NODE] = 1
    assert is_settled(fleet, trial), "its sampler is lost: what it had read will never come"
    fleet.meter_losses[NODE] = 0
    fleet.drained_s = trial.ended_s + SETTLE_S + 0.1
    assert is_settled(fleet, trial), "it answers again, and has nothing to tell"
    fleet.drained_s, trial.ended_s = 0.0, now_s - SILENT_S - 1
    assert is_settled(fleet, trial), "a minute of silence"


def test_readings_that_come_late_are_given_to_who_held_the_device_then(dataset: Dataset) -> None:
    """The node's clock is a minute ahead; of its last 30 s one trial held the device for 20, then another."""
    ahead_ns, now_ns, fleet = 60 * SECOND, time.monotonic_ns(), FakeFleet()
    first, second = (running(dataset, FakeGang(1)) for _ in range(2))
    first.held_since_ns, first.ended_s = now_ns - 30 * SECOND, 1e-9 * now_ns - 10
    second.held_since_ns = now_ns - 10 * SECOND
    uuid, meter = DEVICES[0].uuid, fleet.meters[NODE].name
    readings = [Reading(uuid, now_ns + ahead_ns - second * SECOND, 10.0) for second in range(40, -1, -1)]
    fleet.clock_offsets = lambda: {NODE: ClockOffset(ahead_ns, 1000)}  # type: ignore[method-assign]
    fleet.drain_power = lambda nodes=None: {NODE: readings_batch(meter, readings)}  # type: ignore[method-assign]
    hand_out(fleet, [first, second])
    ages = [
        [
            (now_ns + ahead_ns - time_ns) // SECOND
            for part in trial.power[NODE]
            for time_ns in part["time_ns"].to_pylist()
        ]
        for trial in (first, second)
    ]
    assert ages == [list(range(30, 10 - round(SETTLE_S) - 1, -1)), list(range(10, -1, -1))]


def test_the_energy_of_the_ranks_that_got_through_is_not_the_groups(dataset: Dataset) -> None:
    trial, fleet = running(dataset, FakeGang(2, failures=[KILLED])), FakeFleet()
    begin_ns = time.monotonic_ns()
    for _ in range(8):
        hand_out(fleet, [trial])
        time.sleep(0.02)
    trial.windows[1] = window(1, begin_ns, time.monotonic_ns())
    hand_out(fleet, [trial])
    row = ended_row(trial, fleet)
    assert (row["status"], row["energy_j"], row["energy_trace_j"]) == ("failed", None, None)
    assert "rank_failed" in row["reasons"]


@pytest.mark.parametrize(("skipped", "reasons"), [((0, 0), set()), ((2, 2), set()), ((0, 3), {"steps_skipped"})])
def test_a_window_whose_optimizer_mostly_did_not_run_is_invalid(
    dataset: Dataset, skipped: tuple[int, ...], reasons: set[str]
) -> None:
    """Of four measured steps, on the rank that left out most."""
    trial, end_ns = running(dataset, FakeGang(2)), time.monotonic_ns()
    for rank, skipped_steps in enumerate(skipped):
        trial.windows[rank] = window(rank, end_ns - 2 * SECOND, end_ns) | {"measured_steps": 4}
        trial.done[rank] = {"rank": rank, "skipped_steps": skipped_steps}
    assert set(ended_row(trial, FakeFleet())["reasons"]) & {"steps_skipped"} == reasons


def test_what_a_trial_did_before_it_is_tried_again_stays_on_disk(dataset: Dataset) -> None:
    steps = {"kind": "steps", "rank": 0, "rows": [[0, True, 1, 2, 0.5]]}
    fleet = FakeFleet([FakeGang(1, [steps], [KILLED]) for _ in range(TRIES)])
    loop = StudyLoop([planned()], dataset, fleet, LimitsSection(), StudyProgress(1, 1.0, 0), Path())
    loop.run()
    (row,) = loop.rows
    assert (row["status"], row["attempt"]) == ("failed", TRIES - 1)
    (dataset.folder / "trials" / f"{row['trial_id']}.parquet").unlink()  # then all attempts are read
    assert read_steps(dataset.folder, row["trial_id"])["attempt"].tolist() == list(range(TRIES))
