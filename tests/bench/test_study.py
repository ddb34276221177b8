"""A whole study through the real program: interrupted, hurt, resumed, read while it runs, and taken to a report."""

import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from tests.bench.studies import TINY, Finished, Running, program

pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(400)]

READERS: dict[str, Callable[[Path, str], pd.DataFrame]] = {
    "pandas": lambda folder, table: pd.read_parquet(folder / table),
    "polars": lambda folder, table: pl.read_parquet(f"{folder}/{table}/*.parquet").to_pandas(),
    "duckdb": lambda folder, table: duckdb.sql(f"from '{folder}/{table}/*.parquet'").to_arrow_table().to_pandas(),
}
KEYS = {
    "trials": ["trial_id"],
    "steps": ["trial_id", "attempt", "rank", "step"],
    "power": ["trial_id", "attempt", "device_uuid", "time_ns"],
}


@dataclass
class Told:
    """What happened to the study."""

    folder: Path
    stopped: Finished
    resumed: Finished
    kept: dict[str, bytes]
    left_behind: dict[int, str]
    refused: Finished
    hurt: str
    reads: dict[str, list[int]] = field(default_factory=dict)
    doubled: list[str] = field(default_factory=list)


def commits(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in (folder / "trials").glob("*.parquet")}


def read_on(folder: Path, told: Told, over: threading.Event) -> None:
    """Reads every table with every reader, again and again; counts rows, and notes any that it sees twice."""
    while not over.wait(0.1):
        for name, read in READERS.items():
            for table, key in KEYS.items():
                if not any((folder / table).glob("*.parquet")):
                    continue
                rows = read(folder, table)
                told.reads.setdefault(f"{name} {table}", []).append(len(rows))
                if rows.duplicated(key).any():
                    told.doubled.append(f"{name} {table}")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    home = tmp_path_factory.mktemp("study")
    (home / "tiny.yaml").write_text(TINY)
    folder = home / "out"
    command = ("run", "tiny.yaml", "--into", "out")

    first = Running(*command, cwd=home)
    first.wait_for(lambda: len(commits(folder)) >= 2)
    refused = program(*command, cwd=home)
    first.interrupt()
    stopped = first.end()
    told = Told(folder, stopped, stopped, commits(folder), first.marked(), refused, hurt="")

    second = Running(*command, cwd=home)
    ranks = second.wait_for(second.ranks)  # what the first run's cut trials left is removed by then
    over = threading.Event()
    reader = threading.Thread(target=read_on, args=(folder, told, over))
    reader.start()
    try:
        os.kill(ranks[0], signal.SIGKILL)
        told.resumed = second.end()
    finally:
        over.set()
        reader.join()
    told.left_behind |= second.marked()
    return told


def planned(told: Told) -> list[str]:
    return [trial["trial_id"] for trial in json.loads((told.folder / "plan.json").read_text())["trials"]]


def test_ctrl_c_stops_cleanly_and_says_how_to_go_on(told: Told) -> None:
    assert told.stopped.code == 130
    assert told.stopped.last["interrupted"] is True
    assert "joulelaw run tiny.yaml --into out" in told.stopped.errors
    assert "Traceback" not in told.stopped.errors


def test_a_second_driver_on_the_folder_is_refused(told: Told) -> None:
    assert told.refused.code == 2
    assert "another run is writing to it" in told.refused.errors


def test_running_again_finishes_the_rest_and_repeats_nothing(told: Told) -> None:
    # On a busy machine the energy of a window this short can be too uncertain: said, kept, and no failure.
    assert told.resumed.code == (3 if told.resumed.last["invalid"] else 0)
    assert told.resumed.last["failed"] == 0
    assert 2 <= len(told.kept) < len(planned(told))
    assert told.resumed.last["already_done"] == len(told.kept)
    assert told.resumed.last["done"] == len(planned(told)) - len(told.kept)
    now = commits(told.folder)
    assert all(now[trial_id] == content for trial_id, content in told.kept.items())
    assert sorted(now) == sorted(planned(told))


def test_a_finished_study_is_told_at_once_with_the_same_verdict(told: Told) -> None:
    before = commits(told.folder)
    again = program("run", "tiny.yaml", "--into", "out", cwd=told.folder.parent)
    assert again.code == told.resumed.code
    assert again.last["invalid"] == told.resumed.last["invalid"]
    assert (again.last["done"], again.last["already_done"]) == (0, len(planned(told)))
    assert commits(told.folder) == before


def test_a_killed_rank_costs_its_trial_one_more_attempt_and_nothing_else(told: Told) -> None:
    trials = pd.read_parquet(told.folder / "trials")
    assert (trials.status == "done").all()
    later = trials[~trials.trial_id.isin(told.kept)]
    # A busy machine makes some invalid: they are run again too.
    again = [line for line in told.resumed.errors.splitlines() if "  once more: " in line]
    assert sum("once more: rank_crash: rank" in line for line in again) == 1
    assert sorted(later.attempt) == [0] * (len(later) - len(again)) + [1] * len(again)


def test_nothing_is_left_running(told: Told) -> None:
    assert told.left_behind == {}


def test_tables_are_read_whole_while_trials_run(told: Told) -> None:
    """With pandas, Polars and DuckDB: no row twice, and none that was there goes away."""
    assert told.doubled == []
    assert set(told.reads) == {f"{reader} {table}" for reader in READERS for table in KEYS}
    for name, counts in told.reads.items():
        assert counts == sorted(counts), name
        assert len(set(counts)) > 1, f"{name} never grew while it was read"


def test_the_plan_and_its_hold_out_are_older_than_the_first_trial(told: Told) -> None:
    trials = pd.read_parquet(told.folder / "trials")
    plan = json.loads((told.folder / "plan.json").read_text())
    split = {trial["trial_id"]: trial["split"] for trial in plan["trials"]}
    assert trials.set_index("trial_id").split.to_dict() == split
    assert set(split.values()) == {"fit", "hold_out"}
    first_s = trials.started_at.min().timestamp()
    for name in ("sweep.yaml", "plan.json", "environment.json", "devices.toml"):
        assert (told.folder / name).stat().st_mtime < first_s


def test_every_step_is_timed_on_every_rank_within_the_window(told: Told) -> None:
    trials = pd.read_parquet(told.folder / "trials")
    steps = pd.read_parquet(told.folder / "steps").merge(trials, on=["trial_id", "attempt"])
    by_rank = steps[steps.measured].groupby(["trial_id", "rank"])
    measured = by_rank.agg(n=("step", "size"), asked=("measured_steps", "max"))
    assert (measured.n == measured.asked).all()
    assert (measured.n >= 20).all()
    assert measured.groupby("trial_id").size().to_dict() == trials.set_index("trial_id").gpu_count.to_dict()
    inside = steps[steps.measured & (steps["rank"] == 0)]
    assert (inside.begin_ns >= inside.window_begin_ns).all()
    assert (inside.end_ns <= inside.window_end_ns).all()


def test_an_estimate_is_watts_times_the_cpu_time_of_the_window(told: Told) -> None:
    """From the stored readings alone: at most a core's worth of the stated 10 W each."""
    trials = pd.read_parquet(told.folder / "trials")
    assert set(trials.meter_kind) == {"estimated"}
    power = pd.read_parquet(told.folder / "power").dropna(subset="energy_counter_j")
    for trial in trials.itertuples():
        rows = power[(power.trial_id == trial.trial_id) & (power.attempt == trial.attempt)]
        inside = rows[rows.time_ns.between(trial.window_begin_ns - 60e6, trial.window_end_ns + 60e6)]
        span = inside.groupby("device_uuid").energy_counter_j.agg(lambda counter: counter.max() - counter.min())
        assert trial.energy_j == pytest.approx(span.sum(), rel=0.25)
        assert trial.energy_j <= 1.02 * 10.0 * trial.gpu_count * trial.duration_s


def test_neighbours_on_the_node_are_recorded(told: Told) -> None:
    trials = pd.read_parquet(told.folder / "trials").set_index("trial_id")
    single = trials[trials.gpu_count == 1]
    assert (single.shared_with.map(len) > 0).any(), "two groups ran at once"
    assert (trials[trials.gpu_count == 2].shared_with.map(len) == 0).all()
    for trial_id, row in trials.iterrows():
        for other in row.shared_with:
            if trials.attempt[other] == 0 and row.attempt == 0:
                assert trial_id in trials.shared_with[other]


def test_the_dataset_goes_on_to_a_law_its_scores_and_a_report(told: Told) -> None:
    home = told.folder.parent
    for command in (
        ("fit", "out", "--out", "law.json"),
        ("validate", "out", "--out", "validation.json"),
        ("export", "law.json", "--format", "csv", "--out", "coefficients.csv"),
        ("report", "out", "--law", "law.json", "--validation", "validation.json", "--out", "report.html"),
    ):
        assert program(*command, cwd=home).code == 0, command
    law = json.loads((home / "law.json").read_text())
    assert "cpu_time_estimate" in json.dumps(law)
    coefficients = pd.read_csv(home / "coefficients.csv")
    assert (coefficients.low <= coefficients.value).all()
    assert (coefficients.value <= coefficients.high).all()
    assert "estimated" in (home / "report.html").read_text()
