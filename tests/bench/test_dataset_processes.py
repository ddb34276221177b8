"""A dataset survives its driver: killed at any moment it reads back whole, and goes on where it stopped."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest

from joulelaw.bench.dataset.dataset import Dataset, DatasetError
from joulelaw.bench.dataset.measurements import read_power, read_trials

ROOT = Path(__file__).resolve().parents[2]

# Runs the synthetic trials one after the other, as a driver would, until it is done or killed; resumes.
DRIVER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from joulelaw.bench.dataset.dataset import Dataset
from tests.bench.factories import configurations, new_dataset, power_rows, step_rows, trial_row
folder = Path(sys.argv[1])
dataset = Dataset.open(folder, flush_every_s=0) if Dataset.exists(folder) else new_dataset(folder, flush_every_s=0)
print("open", flush=True)
for number, configuration in enumerate(configurations()):
    trial_id = configuration.configuration_id + "-r0"
    if trial_id in dataset.finished_trial_ids():
        continue
    print(trial_id, flush=True)
    row = trial_row(configuration, number=number)
    tables = dataset.start_trial(trial_id)
    readings = power_rows(row)
    for k in range(0, len(readings), 4):
        tables.add_power("local", readings[k : k + 4])
    tables.add_steps(step_rows(row))
    tables.finish(row)
"""


def driver(folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], stdout=subprocess.PIPE, text=True)


def test_the_lock_ends_with_the_process_that_held_it(tmp_path: Path) -> None:
    process = driver(tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(DatasetError, match=f"process {process.pid}"):
        Dataset.open(tmp_path)
    process.kill()
    process.wait()
    process.stdout.close()
    Dataset.open(tmp_path).close()


def test_kill_and_resume_finishes_every_trial_once(tmp_path: Path) -> None:
    begun: list[str] = []
    kills = 0
    while True:
        process = driver(tmp_path)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        if kills < 6:
            time.sleep(0.02 * kills)
            process.kill()
            kills += 1
        done = process.wait() == 0
        begun += process.stdout.read().split()
        process.stdout.close()
        table = read_trials(tmp_path)
        assert table["trial_id"].is_unique
        for trial_id in table["trial_id"]:
            assert len(read_power(tmp_path, trial_id)) == 20 * table.set_index("trial_id").loc[trial_id, "gpu_count"]
        if done:
            break
    assert len(table) == 24
    again = {trial_id for trial_id in begun if begun.count(trial_id) > 1}
    assert len(again) <= kills, "only a trial that a kill cut short runs again"
    everything = pd.read_parquet(tmp_path / "power")
    assert not everything.duplicated(["trial_id", "attempt", "device_uuid", "time_ns"]).any()
    assert set(everything["trial_id"]) == set(table["trial_id"])


def test_trials_commit_one_at_a_time_under_every_reader(tmp_path: Path) -> None:
    folder = tmp_path / "trials"
    process = driver(tmp_path)
    seen: set[str] = set()
    while process.poll() is None:
        if folder.is_dir() and any(folder.iterdir()):
            for ids in (
                pd.read_parquet(folder)["trial_id"].tolist(),
                pl.read_parquet(folder / "*.parquet")["trial_id"].to_list(),
                [row[0] for row in duckdb.sql(f"select trial_id from '{folder}/*.parquet'").fetchall()],
            ):
                assert len(ids) == len(set(ids))
                assert seen <= set(ids)
                seen = set(ids)
    process.communicate()
    assert process.returncode == 0
    assert len(read_trials(tmp_path)) == 24
