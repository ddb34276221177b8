"""A dataset in an object store is what it is on a disk: whole at any moment, whoever is killed, cut off or refused."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import Dataset, data_hash, read_events, read_measurements, read_power, read_steps
from joulelaw.bench.dataset.growing_table import GrowingTable
from joulelaw.bench.dataset.leftovers import broken_files
from joulelaw.bench.dataset.measurements import UnreadableTableError, devices_files
from joulelaw.bench.dataset.storage import ObjectPath, Place, place
from joulelaw.bench.energy.stored_power import energy_of
from joulelaw.bench.files import StorageError, check_folder
from joulelaw.model.hardware import Catalogue
from tests.bench.factories import (
    configurations,
    failure,
    new_dataset,
    power_rows,
    step_rows,
    synthetic_dataset,
    trial_row,
)
from tests.bench.object_stores import BUCKET, S3Server, child_environment, s3_server

pytestmark = pytest.mark.xdist_group("object store")

ROOT = Path(__file__).resolve().parents[2]
FIRST = next(configurations())
TRIAL = f"{FIRST.configuration_id}-r0"
SCHEMA = pa.schema([pa.field("number", pa.int64())], metadata={"joulelaw_schema": "1"})

# Appends and flushes numbers until it is killed; says what it has flushed.
WRITER = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import pyarrow as pa
from joulelaw.bench.dataset.growing_table import GrowingTable
from joulelaw.bench.dataset.storage import place
schema = pa.schema([pa.field("number", pa.int64())], metadata={{"joulelaw_schema": "1"}})
table = GrowingTable(place(sys.argv[1]), "t", schema, every_s=1e9, flushes_per_file=4)
number = 0
while True:
    for _ in range(50):
        table.append([{{"number": number}}])
        number += 1
    table.flush()
    print(number, flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


@pytest.fixture(scope="module")
def study(server: S3Server) -> Place:
    return synthetic_dataset(place(server.uri("machine/sweep")))


def test_a_study_reads_back_as_from_a_disk(study: Place, tmp_path: Path) -> None:
    local = synthetic_dataset(tmp_path / "machine" / "sweep")
    there, here = read_measurements([study]), read_measurements([local])
    assert data_hash(there) == data_hash(here)
    assert set(there["dataset"]) == {"machine/sweep"}
    assert read_power(study, TRIAL).equals(read_power(local, TRIAL))
    assert read_steps(study, TRIAL).equals(read_steps(local, TRIAL))
    row = there.set_index("trial_id").loc[TRIAL]
    span = int(row["window_begin_ns"]), int(row["window_end_ns"])
    assert energy_of(study, TRIAL, *span) == energy_of(local, TRIAL, *span)
    assert (
        Catalogue.load(devices_files([study])).devices.keys() == Catalogue.load(devices_files([local])).devices.keys()
    )
    with pytest.raises(InputError, match="given twice"):
        read_measurements([study, place(study.uri)])


def test_a_study_is_resumed_where_it_stopped(server: S3Server) -> None:
    folder = place(server.uri("resumed"))
    row = trial_row(FIRST)
    with new_dataset(folder) as dataset:
        dataset.note("run_began")
        dataset.start_trial(TRIAL).finish(row)
        dataset.start_trial("failed-r0").finish(row | failure())
        cut_short = dataset.start_trial("cut-r0")
        cut_short.add_steps(step_rows(row))
        cut_short.flush()
        dataset.note_environment({"cpu": "Another CPU"})
        dataset.save_meters([])
    assert list((folder / "steps").glob("cut-r0.*"))
    with Dataset.open(folder) as dataset:
        dataset.note("run_began")
        assert (dataset.finished_trial_ids(), dataset.failed_trial_ids()) == ({TRIAL}, {"failed-r0"})
        assert not list((folder / "steps").glob("cut-r0.*")), "its attempt never was"
        dataset.start_trial("failed-r0", dataset.next_attempt("failed-r0")).finish(row)
        assert dataset.failed_trial_ids() == set()
    assert read_events(folder)["kind"].tolist() == ["run_began", "run_began"]
    assert (folder / "environment.1.json").is_file()
    assert broken_files(folder) == []
    with pytest.raises(InputError, match="a study is already in it"):
        new_dataset(folder)


def test_rows_are_seen_though_no_more_come(server: S3Server, tmp_path: Path) -> None:
    """Nobody appends after them, and no trial ends: a thread stores them all the same."""
    for folder in (place(server.uri("idle")), tmp_path):
        with new_dataset(folder) as dataset:
            dataset.start_trial(TRIAL).add_power("local", power_rows(trial_row(FIRST)))
            until_s = time.monotonic() + 60
            while read_power(folder, TRIAL).empty:
                assert time.monotonic() < until_s
                time.sleep(0.05)
            assert len(read_power(folder, TRIAL)) == 20


def test_what_ranks_on_this_machine_logged_is_saved_with_their_trial(server: S3Server) -> None:
    folder = place(server.uri("logs"))
    with new_dataset(folder) as dataset:
        tables = dataset.start_trial(TRIAL)
        (dataset.log_folder(TRIAL, 0) / "rank0.log").write_text("killed\n")
        (dataset.log_folder(TRIAL, 1) / "rank0.log").write_text("all is well\n")
        dataset.save_log(TRIAL, 1, "rank1.log", "out of memory\n")
        tables.finish(trial_row(FIRST))
    logs = [folder / "logs" / f"{TRIAL}.{name}" for name in ("0/rank0.log", "1/rank0.log", "1/rank1.log")]
    assert [log.read_text() for log in logs] == ["killed\n", "all is well\n", "out of memory\n"]


def numbers_of(server: S3Server, name: str) -> list[int]:
    """As anybody reads a folder of Parquet files: pyarrow lists them and fetches parts of each."""
    return pq.read_table(f"{BUCKET}/{name}", filesystem=server.filesystem())["number"].to_pylist()


def our_numbers(server: S3Server, name: str) -> list[int]:
    from joulelaw.bench.dataset.table_files import read_files

    folder = place(server.uri(name))
    paths = sorted(folder.glob("t.*.parquet"), key=lambda path: int(path.name.split(".")[1]))
    return [number for table in read_files(paths, SCHEMA) for number in table["number"].to_pylist()]


@pytest.mark.parametrize("read", [numbers_of, our_numbers])
def test_a_reader_beside_a_writer_that_is_killed_sees_every_row_once(
    read: Callable[[S3Server, str], list[int]], server: S3Server
) -> None:
    chance = random.Random(1)
    for attempt in range(3):
        name = f"killed/{read.__name__}{attempt}"
        command = [sys.executable, "-c", WRITER, server.uri(name)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())
        assert process.stdout is not None
        process.stdout.readline()
        seen, reads = 0, 0
        while reads < 12:
            numbers = sorted(read(server, name))
            assert numbers == list(range(len(numbers))), "none missing, none twice"
            assert len(numbers) >= seen, "what was seen stays"
            seen, reads = len(numbers), reads + 1
        time.sleep(chance.uniform(0.0, 0.05))
        process.kill()
        said = process.stdout.read().split("\n")[:-1]
        process.wait()
        process.stdout.close()
        assert len(read(server, name)) >= int(said[-1] if said else 50), "what it had flushed is there"
        again = GrowingTable(place(server.uri(name)), "t", SCHEMA)
        there = len(read(server, name))
        again.append([{"number": there}])
        again.flush()
        assert sorted(read(server, name)) == list(range(there + 1))


def test_what_is_wrong_with_a_store_is_one_message(server: S3Server, tmp_path: Path) -> None:
    nowhere = place(server.uri("x", bucket="nobody-has-it"))
    cases: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: check_folder(nowhere), "s3://nobody-has-it: cannot open: no such bucket; make the bucket"),
        (lambda: new_dataset(nowhere), "s3://nobody-has-it/x/lease.*NO_SUCH_BUCKET.*make the bucket"),
        (lambda: Dataset.open(place(server.uri("empty"))), "s3://studies/empty: no study in it"),
    )
    for use, message in cases:
        with pytest.raises(InputError, match=message):
            use()
    with pytest.raises(UnreadableTableError, match="s3://studies/empty: not a dataset"):
        read_measurements([place(server.uri("empty"))])
    unheard = place("s3://studies/x?scheme=http&endpoint_override=127.0.0.1:9&region=us-east-1")
    with pytest.raises(StorageError, match=r"cannot open.*NETWORK_CONNECTION.*see to the network"):
        check_folder(unheard)


def test_a_store_that_is_gone_for_a_while_costs_nothing_and_one_that_stays_away_one_message() -> None:
    row = trial_row(FIRST)
    with s3_server() as server:
        folder = place(server.uri("cut_off"))
        assert isinstance(folder, ObjectPath)
        dataset = new_dataset(folder)
        tables = dataset.start_trial(TRIAL)
        tables.add_power("local", power_rows(row))
        server.stop()
        tables.add_steps(step_rows(row))
        time.sleep(2.0)
        again = S3Server(server.port)
        tables.finish(row)
        assert len(read_power(folder, TRIAL)) == 20
        assert len(read_steps(folder, TRIAL)) == len(step_rows(row))
        again.stop()
        folder.store.patience_s = 0.0
        with pytest.raises(StorageError, match=r"NETWORK_CONNECTION.*goes on where it stopped"):
            dataset.start_trial("other-r0").finish(row)
        with pytest.raises(StorageError):
            dataset.close()
        again = S3Server(server.port)
        try:
            with Dataset.open(folder) as resumed:
                assert resumed.finished_trial_ids() == {TRIAL}
        finally:
            again.stop()


def test_a_bucket_that_vanishes_while_a_study_runs_is_one_message(server: S3Server) -> None:
    store = server.filesystem()
    store.create_dir("short-lived")
    dataset = new_dataset(place(server.uri("x", bucket="short-lived")))
    tables = dataset.start_trial(TRIAL)
    tables.add_steps(step_rows(trial_row(FIRST)))
    store.delete_dir("short-lived")
    with pytest.raises(StorageError, match=r"s3://short-lived/x.*(NO_SUCH_BUCKET|no longer has it)"):
        tables.finish(trial_row(FIRST))
    with pytest.raises(StorageError):
        dataset.close()


def test_places_are_paths_or_uris(tmp_path: Path) -> None:
    assert place("results/a") == Path("results/a")
    assert place(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    google = place("gs://anonymous@bucket/a?endpoint_override=localhost:1&scheme=http&retry_limit_seconds=1")
    assert (str(google), google.name, str(google.parent)) == ("gs://bucket/a", "a", "gs://bucket")
    for text, message in (
        ("hdfs://host/a", "hdfs://: no place for a dataset; name a folder, or a URI"),
        ("s3:///a", "Missing bucket"),
        ("s3://bucket/a?colour=red&region=x", "Unexpected query parameter.*colour"),
        ("file://host/a", "Unsupported hostname"),
    ):
        with pytest.raises(InputError, match=message):
            place(text)


def test_credentials_in_a_uri_are_used_and_shown_nowhere(server: S3Server) -> None:
    key, secret = "AKIAOTHER", "very/secret"
    uri = server.uri("secret").replace("s3://", f"s3://{key}:very%2Fsecret@")
    folder = place(uri)
    assert isinstance(folder, ObjectPath)
    new_dataset(folder).close()
    texts = [str(folder), repr(folder), folder.uri, *(path.read_text() for path in folder.glob("*"))]
    for bad in (
        uri.replace("@studies", "@nobody-has-it"),
        uri.replace("region=", "colour="),
        uri.replace(":very%2F", ":very/"),
        uri.replace("127.0.0.1", "127.0.0.1:1:1"),
    ):
        with pytest.raises(InputError) as raised:
            new_dataset(place(bad))
        texts.append(str(raised.value))
    for hidden in (key, secret, "very%2Fsecret", "very"):
        assert not any(hidden in text for text in texts), (hidden, texts)


def test_objects_of_other_folders_are_not_reached(server: S3Server) -> None:
    with new_dataset(place(server.uri("inside/a"))) as dataset:
        for name in ("../x", "a/b", ""):
            with pytest.raises(ValueError, match="cannot name"):
                dataset.start_trial(name)
            with pytest.raises(ValueError, match="cannot name"):
                dataset.save_log(TRIAL, 0, name, "")
    found = server.filesystem().get_file_info(fs.FileSelector(f"{BUCKET}/inside", recursive=True))
    assert all(info.path.startswith(f"{BUCKET}/inside/a") for info in found)


def test_a_file_uri_is_the_folder(tmp_path: Path) -> None:
    with new_dataset(place(f"file://{tmp_path}/a")) as dataset:
        dataset.start_trial(TRIAL).finish(trial_row(FIRST))
    assert len(read_measurements([tmp_path / "a"])) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
