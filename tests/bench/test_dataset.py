"""A dataset folder has one writer, finishes each trial once, and reads back whole or says what is wrong."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError
from joulelaw.bench.dataset.columns import RowError
from joulelaw.bench.dataset.dataset import (
    Dataset,
    DatasetError,
    data_hash,
    devices_files,
    read_events,
    read_measurements,
    read_power,
    read_steps,
    read_trials,
)
from joulelaw.bench.dataset.leftovers import broken_files
from joulelaw.bench.dataset.measurements import UnreadableTableError
from joulelaw.bench.dataset.tables import POWER, SCHEMA_VERSION, TABLES, TRIALS
from joulelaw.bench.files import StorageError
from tests.bench.factories import (
    configurations,
    failure,
    new_dataset,
    power_rows,
    step_rows,
    synthetic_dataset,
    trial_row,
)

FIRST = next(configurations())
TRIAL = f"{FIRST.configuration_id}-r0"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_dataset(tmp_path_factory.mktemp("results") / "machine" / "sweep")


def test_what_defines_the_study_is_saved_at_once(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        assert (tmp_path / "sweep.yaml").read_text().startswith("# A synthetic sweep")
        assert len(json.loads((tmp_path / "plan.json").read_text())["trials"]) == 24
        assert json.loads((tmp_path / "environment.json").read_text())["cpu"] == "Synthetic CPU"
        assert devices_files([tmp_path]) == [tmp_path / "devices.toml"]
        assert dataset.finished_trial_ids() == set()


def test_a_folder_without_devices_of_its_own_adds_none_to_the_catalogue(tmp_path: Path) -> None:
    Dataset.create(tmp_path, sweep="", plan=[], environment={}).close()
    assert devices_files([tmp_path]) == []


def test_a_study_is_not_begun_over_another(tmp_path: Path) -> None:
    new_dataset(tmp_path).close()
    with pytest.raises(DatasetError, match="a study is already in it"):
        new_dataset(tmp_path)


def test_a_folder_without_a_study_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no study in it"):
        Dataset.open(tmp_path)
    assert not list(tmp_path.iterdir()), "nothing is written on bad input"


def test_two_drivers_on_one_folder_are_refused(tmp_path: Path) -> None:
    first = new_dataset(tmp_path)
    with pytest.raises(DatasetError, match=rf"{tmp_path.name}: another run is writing to it \(process \d+\)"):
        Dataset.open(tmp_path)
    first.close()
    Dataset.open(tmp_path).close()


def test_leftovers_of_an_unfinished_trial_go_when_the_study_is_resumed(tmp_path: Path) -> None:
    row = trial_row(FIRST)
    with new_dataset(tmp_path) as dataset:
        finished = dataset.start_trial(TRIAL)
        finished.add_power("local", power_rows(row))
        finished.finish(row)
        cut_short = dataset.start_trial("cut-r0")
        cut_short.add_steps(step_rows(row))
        cut_short.add_power("local", power_rows(row))
        cut_short.flush()
        (tmp_path / ".trials.cut-r0.parquet.tmp").touch()
    with Dataset.open(tmp_path) as dataset:
        assert dataset.finished_trial_ids() == {TRIAL}
    assert {path.name for path in (tmp_path / "power").iterdir()} == {f"{TRIAL}.local.0.parquet"}
    assert not list((tmp_path / "steps").iterdir())
    assert not list(tmp_path.glob(".*"))


def test_a_trial_is_done_once(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        first, second = dataset.start_trial(TRIAL), dataset.start_trial(TRIAL, attempt=1)
        first.finish(trial_row(FIRST))
        with pytest.raises(RowError, match="is done already"):
            second.finish(trial_row(FIRST))
        with pytest.raises(RowError, match="is done already"):
            dataset.start_trial(TRIAL)
    assert read_trials(tmp_path)["attempt"].tolist() == [0]


def test_a_failed_trial_is_replaced_by_its_next_attempt_and_not_shown_as_done(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.start_trial(TRIAL).finish(trial_row(FIRST) | failure())
        assert (dataset.finished_trial_ids(), dataset.failed_trial_ids()) == (set(), {TRIAL})
    with Dataset.open(tmp_path) as dataset:
        assert (dataset.finished_trial_ids(), dataset.failed_trial_ids()) == (set(), {TRIAL})
        dataset.start_trial(TRIAL, dataset.next_attempt(TRIAL)).finish(trial_row(FIRST))
        assert (dataset.finished_trial_ids(), dataset.failed_trial_ids()) == ({TRIAL}, set())
    assert read_trials(tmp_path)[["status", "attempt"]].to_numpy().tolist() == [["done", 1]]


def test_a_second_try_cut_short_leaves_the_first_ones_rows_alone(tmp_path: Path) -> None:
    row = trial_row(FIRST)
    with new_dataset(tmp_path) as dataset:
        first = dataset.start_trial(TRIAL)
        first.add_steps(step_rows(row))
        first.finish(row | failure())
        again = dataset.start_trial(TRIAL, dataset.next_attempt(TRIAL))
        again.add_steps(step_rows(row)[:3])
        again.add_power("local", power_rows(row))
        again.flush()
    with Dataset.open(tmp_path) as dataset:
        assert dataset.next_attempt(TRIAL) == 1, "the attempt that was cut short never was"
    assert set(pd.read_parquet(tmp_path / "steps")["attempt"]) == {0}
    assert not list((tmp_path / "power").iterdir())


def test_broken_and_foreign_files_beside_the_trials_are_named_and_stop_nothing(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path)
    before = data_hash(read_measurements([tmp_path]))
    steps, power = (next((tmp_path / name).glob(f"{TRIAL}.*")) for name in ("steps", "power"))
    steps.write_bytes(steps.read_bytes()[:-20])
    table = pq.read_table(power)
    pq.write_table(table.replace_schema_metadata({"joulelaw_schema": "999"}), power)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "power" / "notes.parquet")
    Dataset.open(tmp_path).close()
    problems = broken_files(tmp_path)
    for path, what in (
        (steps, "cut short"),
        (power, "newer JouleLaw"),
        (tmp_path / "power" / "notes.parquet", "not Jou"),
    ):
        assert path.exists()
        assert any(str(path) in problem and what in problem for problem in problems), path
    assert len(problems) == 3
    assert data_hash(read_measurements([tmp_path])) == before
    with pytest.raises(UnreadableTableError, match=steps.name):
        read_steps(tmp_path, TRIAL)


def test_a_folder_that_is_gone_or_another_one_is_not_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    dataset = new_dataset(folder)
    tables = dataset.start_trial(TRIAL)
    folder.rename(tmp_path / "moved")
    uses: tuple[Callable[[], object], ...] = (
        lambda: tables.finish(trial_row(FIRST)),
        lambda: dataset.start_trial("other-r0"),
        lambda: dataset.log_folder(TRIAL, 0),
    )
    for there in (False, True):
        for use in uses:
            with pytest.raises(StorageError, match="removed while the study ran"):
                use()
        assert folder.exists() == there
        if not there:
            new_dataset(folder).close()
    assert not any((folder / "trials").iterdir())


def test_a_folder_that_goes_while_nothing_is_committed_is_told_at_the_next_reading(tmp_path: Path) -> None:
    dataset = new_dataset(tmp_path / "out")
    tables = dataset.start_trial(TRIAL)
    tables.add_steps(step_rows(trial_row(FIRST)))
    (tmp_path / "out").rename(tmp_path / "moved")
    until_s = time.monotonic() + 60
    with pytest.raises(StorageError, match="removed while the study ran"):  # noqa: PT012 (it takes a flush)
        while time.monotonic() < until_s:
            tables.add_power("local", power_rows(trial_row(FIRST)))
            time.sleep(0.05)
    with pytest.raises(StorageError, match="removed while the study ran"):
        dataset.close()


def test_a_retried_trial_reads_its_last_attempt_only(tmp_path: Path) -> None:
    row = trial_row(FIRST)
    with new_dataset(tmp_path) as dataset:
        for attempt, readings in ((0, 5), (1, 9)):
            tables = dataset.start_trial(TRIAL, attempt)
            tables.add_power("local", power_rows(row, readings))
            tables.add_steps(step_rows(row)[:readings])
            tables.flush()
        assert len(read_power(tmp_path, TRIAL)) == 14, "while it runs, both are there"
        tables.finish(row)
    assert len(read_power(tmp_path, TRIAL)) == 9
    assert len(read_steps(tmp_path, TRIAL)) == 9


def test_what_was_written_reads_back_equal(study: Path) -> None:
    table = read_measurements([study])
    expected = {f"{c.configuration_id}-r0": trial_row(c, number=number) for number, c in enumerate(configurations())}
    assert len(table) == 22
    for trial in table.to_dict("records"):
        row = expected[str(trial["trial_id"])]
        for name in ("energy_j", "duration_s", "strategy", "micro_steps", "split", "window_begin_ns"):
            assert trial[name] == row[name]
        assert list(trial["device_uuids"]) == row["device_uuids"]
    first = table.iloc[0]
    steps = read_steps(study, first["trial_id"])
    assert steps[steps["measured"]].groupby("rank").size().tolist() == [20] * first["gpu_count"]


def test_failed_and_invalid_trials_are_kept_apart(study: Path) -> None:
    everything = read_measurements([study], include_invalid=True)
    assert len(everything) == 24
    assert (everything["status"] == "failed").sum() == 1
    assert everything.loc[everything["verdict"] == "invalid", "energy_j"].isna().all(), "no reading is never 0 J"


def test_several_datasets_read_as_one_table(study: Path, tmp_path: Path) -> None:
    other = synthetic_dataset(tmp_path / "other" / "sweep", invalid=0, failed=0)
    table = read_measurements([study, other])
    assert table.groupby("dataset").size().to_dict() == {"machine/sweep": 22, "other/sweep": 24}
    assert table["trial_id"].is_unique, "as a fit requires"
    assert set(read_trials(other)["trial_id"]) == {name.split(":")[-1] for name in table["trial_id"]}
    with pytest.raises(InputError, match="given twice"):
        read_measurements([other, tmp_path / "other" / "." / "sweep"])


def test_the_hash_is_of_the_content(study: Path, tmp_path: Path) -> None:
    table = read_measurements([study])
    assert data_hash(table) == data_hash(table.sample(frac=1, random_state=1)[sorted(table.columns)])
    assert data_hash(table) == data_hash(read_measurements([synthetic_dataset(tmp_path / "copy")]))
    everything = read_measurements([study], include_invalid=True)
    assert data_hash(table) == data_hash(everything[everything["verdict"] == "valid"])
    changed = table.copy()
    changed.loc[3, "energy_j"] *= 1 + 1e-12
    assert data_hash(changed) != data_hash(table)
    assert data_hash(table[1:]) != data_hash(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"energy_j": "12"}, "column 'energy_j' must be double"),
        ({"micro_steps": 2.5}, "column 'micro_steps' must be int64"),
        ({"reasons": "gap"}, "column 'reasons' must be list"),
        ({"joules": 1.0}, "column 'joules' is not in the schema"),
    ],
)
def test_a_row_that_does_not_fit_commits_nothing(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        tables = dataset.start_trial(TRIAL)
        with pytest.raises(RowError, match=message):
            tables.finish(trial_row(FIRST) | change)
        without = trial_row(FIRST)
        del without["meter"]
        with pytest.raises(RowError, match="column 'meter' is missing"):
            tables.finish(without)
        assert dataset.finished_trial_ids() == set()


def test_units_and_schema_version_are_in_every_file(study: Path) -> None:
    for name, schema in TABLES.items():
        for path in (study / name).iterdir():
            written = pq.read_schema(path)
            assert written.metadata[b"joulelaw_schema"] == str(SCHEMA_VERSION).encode()
            for field in schema:
                assert written.field(field.name).metadata == field.metadata
    units = {field.name: field.metadata[b"unit"] for field in TRIALS if b"unit" in (field.metadata or {})}
    assert (units["energy_j"], units["duration_s"], units["sequence_length"]) == (b"J", b"s", b"token")
    assert POWER.field("time_ns").metadata[b"unit"] == b"ns"


def test_a_newer_schema_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path)
    path = tmp_path / "trials" / f"{TRIAL}.parquet"
    table = pq.read_table(path)
    newer = {"joulelaw_schema": str(SCHEMA_VERSION + 1)}
    pq.write_table(table.replace_schema_metadata(newer), path)
    (tmp_path / "steps" / "leftover-r0.0.parquet").touch()
    for use in (Dataset.open, read_trials):
        with pytest.raises(
            InputError, match=rf"{TRIAL}.parquet: written by a newer JouleLaw \(schema {SCHEMA_VERSION + 1},.*update"
        ):
            use(tmp_path)
    assert (tmp_path / "steps" / "leftover-r0.0.parquet").exists()


def test_files_of_the_schema_before_are_read(tmp_path: Path) -> None:
    """Schema 2 lacked columns for what imported tables say, 3 for what was around a measurement, 4 for the cluster.

    They are null, and the hash of the measurements is the same.
    """
    before = data_hash(read_measurements([synthetic_dataset(tmp_path)]))
    of_4 = ["energy_systematic", "energy_others_j", "host_cpu_j", "host_dram_j", "temperature_begin_c"]
    of_4 += ["temperature_max_c", "clock_mhz_mean", "warmup_s", "cooldown_s", "jitter_s"]
    of_3 = ["repeats", "parallel_efficiency", "energy_net_j", "link", "link_bytes_per_s", "network_bytes_per_s"]
    of_5 = ["cause", "driver", "transport", "probed_link_bytes_per_s", "probed_network_bytes_per_s", "log"]
    for version, gone in (("4", of_5), ("3", of_4), ("2", [*of_3, "input_size"])):
        for path in (tmp_path / "trials").iterdir():
            table = pq.read_table(path).drop_columns(gone)
            pq.write_table(table.replace_schema_metadata({"joulelaw_schema": version}), path)
        again = read_measurements([tmp_path])
        assert data_hash(again) == before
        assert again[gone].isna().all(axis=None)


def test_power_of_the_schema_before_is_read(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path)
    added = ["clock_mhz", "throttle", "foreign_processes"]
    [path] = (tmp_path / "power").glob(f"{TRIAL}.*.parquet")
    table = pq.read_table(path).drop_columns(added)
    pq.write_table(table.replace_schema_metadata({"joulelaw_schema": "3"}), path)
    power = read_power(tmp_path, TRIAL)
    assert power[added].isna().all(axis=None)
    assert power["temperature_c"].eq(50).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PAR1 cut short", "not a Parquet file, or cut short"), (None, "a Parquet file, but not JouleLaw's")],
)
def test_a_broken_or_foreign_file_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    synthetic_dataset(tmp_path)
    path = tmp_path / "trials" / "mine.parquet"
    if content is None:
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(UnreadableTableError, match=f"mine.parquet: {message}"):
        read_measurements([tmp_path])


def test_a_folder_that_is_no_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTableError, match=f"{tmp_path.name}: not a dataset"):
        read_measurements([tmp_path])


def test_a_new_environment_is_kept_beside_the_first(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.note_environment(json.loads((tmp_path / "environment.json").read_text()))
        dataset.note_environment({"cpu": "Another CPU"})
        dataset.note_environment({"cpu": "Another CPU"})
    assert sorted(path.name for path in tmp_path.glob("environment*")) == ["environment.1.json", "environment.json"]


def test_a_name_that_would_confuse_the_files_is_refused(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        for name in ("../up", "a.b", ""):
            with pytest.raises(RowError, match="cannot name a file"):
                dataset.start_trial(name)


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/study: cannot write: Not a directory; choose another"):
        new_dataset(tmp_path / "file" / "study")


def test_what_happens_is_noted_in_order(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.note("run_began")
        dataset.note(
            "attempt_ended",
            trial_id=TRIAL,
            attempt=2,
            nodes=["a", "b"],
            device_uuids=["GPU-1"],
            cause="hang",
            detail="no step for 300 s",
            retried=True,
        )
    with Dataset.open(tmp_path) as dataset:
        dataset.note("run_began")
    events = read_events(tmp_path)
    assert events["kind"].tolist() == ["run_began", "attempt_ended", "run_began"]
    assert events["time_ns"].is_monotonic_increasing
    ended = events.iloc[1]
    assert (ended["trial_id"], ended["attempt"], ended["cause"], ended["retried"]) == (TRIAL, 2, "hang", True)
    assert (list(ended["nodes"]), list(ended["device_uuids"])) == (["a", "b"], ["GPU-1"])
    assert events.loc[0, ["trial_id", "attempt", "cause", "retried"]].isna().all()
    assert abs(events["time"][0].timestamp() - time.time()) < 600


def test_a_failure_that_is_a_result_is_never_run_again(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.start_trial(TRIAL).finish(trial_row(FIRST) | failure() | {"cause": "out_of_memory"})
        dataset.start_trial("hung-r0").finish(trial_row(FIRST) | failure() | {"cause": "hang"})
        assert dataset.settled_trial_ids() == {TRIAL}
    with Dataset.open(tmp_path) as dataset:
        assert (dataset.settled_trial_ids(), dataset.finished_trial_ids()) == ({TRIAL}, set())
        dataset.start_trial("hung-r0", 1)
        with pytest.raises(RowError, match="has its result: out_of_memory"):
            dataset.start_trial(TRIAL, 1)


def test_a_log_is_saved_by_name_and_nowhere_else(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.save_log(TRIAL, 1, "rank1.log", "out of memory\n")
        assert (tmp_path / "logs" / f"{TRIAL}.1" / "rank1.log").read_text() == "out of memory\n"
        for trial_id, name in ((TRIAL, "../x"), ("../..", "x"), (TRIAL, ".."), (TRIAL, ".x"), (TRIAL, "")):
            with pytest.raises(RowError, match="cannot name"):
                dataset.save_log(trial_id, 0, name, "")
