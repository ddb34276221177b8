"""A growing table stays whole under its readers, whatever they read it with and whatever becomes of its writer."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw.bench.dataset.columns import RowError
from joulelaw.bench.dataset.growing_table import GrowingTable
from joulelaw.bench.files import StorageError

SCHEMA = pa.schema([pa.field("number", pa.int64()), pa.field("text", pa.string())], metadata={"joulelaw_schema": "1"})
ROOT = Path(__file__).resolve().parents[2]

# Appends rows 0, 1, 2, ... in uneven batches, a flush each and a few flushes a file, until it is killed.
WRITER = f"""
import sys, itertools, random, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
import pyarrow as pa
from joulelaw.bench.dataset.growing_table import GrowingTable
schema = pa.schema([pa.field("number", pa.int64()), pa.field("text", pa.string())], metadata={{"joulelaw_schema": "1"}})
table = GrowingTable(Path(sys.argv[1]), "t", schema, flushes_per_file=7)
numbers = itertools.count()
while True:
    batch = [next(numbers) for _ in range(random.randrange(1, 50))]
    table.append([{{"number": k, "text": "row %d" % k}} for k in batch])
    table.flush()
    print(batch[-1], flush=True)
    time.sleep(0.003)
"""


def rows(*numbers: int) -> list[dict[str, object]]:
    return [{"number": number, "text": f"row {number}"} for number in numbers]


@contextmanager
def writer(folder: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        process.stdout.readline()  # the first flush is done
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def read_pandas(folder: Path) -> list[int]:
    return sorted(pd.read_parquet(folder)["number"])


def read_polars(folder: Path) -> list[int]:
    return sorted(pl.scan_parquet(folder / "*.parquet").collect()["number"])


def read_polars_folder(folder: Path) -> list[int]:
    return sorted(pl.read_parquet(folder)["number"])


def read_duckdb(folder: Path) -> list[int]:
    return sorted(row[0] for row in duckdb.sql(f"select number from '{folder}/*.parquet'").fetchall())


@pytest.mark.parametrize("read", [read_pandas, read_polars, read_polars_folder, read_duckdb])
def test_a_reader_beside_the_writer_sees_every_row_once(read: Callable[[Path], list[int]], tmp_path: Path) -> None:
    with writer(tmp_path) as process:
        seen = 0
        reads = 0
        while reads < 60 or not (tmp_path / "t.2.parquet").exists():
            numbers = read(tmp_path)
            assert numbers == list(range(len(numbers))), "none missing, none twice"
            assert len(numbers) >= seen, "what was seen stays"
            seen = len(numbers)
            reads += 1
        assert process.poll() is None, "the writer wrote to the end"
    assert seen > 0


def test_a_killed_writer_leaves_whole_files_with_every_row_it_had_flushed(tmp_path: Path) -> None:
    chance = random.Random(0)
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        with writer(folder) as process:
            time.sleep(chance.uniform(0.0, 0.2))
            process.kill()
            process.wait()
            said = process.stdout.read() if process.stdout else ""
        flushed = [int(line) for line in said.split("\n")[:-1]]
        numbers = read_pandas(folder)
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > (flushed[-1] if flushed else 0)
        GrowingTable(folder, "t", SCHEMA)
        assert not list(tmp_path.rglob(".*")), "the next writer clears away what was half made"


def test_each_version_begins_with_the_whole_of_the_one_before(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA)
    path = tmp_path / "t.0.parquet"
    before = b""
    for flush in range(6):
        table.append(rows(*range(100 * flush, 100 * flush + 10 * (flush + 1))))
        table.flush()
        after = path.read_bytes()
        assert after.startswith(before)
        assert len(after) > len(before)
        assert pq.ParquetFile(path).num_row_groups == flush + 1
        before = after


def test_a_reader_that_took_the_old_size_reads_the_old_rows(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA)
    table.append(rows(1, 2, 3))
    table.flush()
    old_size = table.path.stat().st_size
    table.append(rows(4, 5))
    table.flush()
    stale = pa.BufferReader(table.path.read_bytes()[:old_size])
    assert pq.read_table(stale)["number"].to_pylist() == [1, 2, 3]


def test_an_old_footer_reads_right_rows_from_the_new_file(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA)
    table.append(rows(1, 2, 3))
    table.flush()
    path = tmp_path / "t.0.parquet"
    old_footer = pq.read_metadata(path)
    table.append(rows(4, 5))
    table.flush()
    stale = pq.ParquetFile(path, metadata=old_footer).read()
    assert stale["number"].to_pylist() == [1, 2, 3]
    assert pq.read_table(path)["number"].to_pylist() == [1, 2, 3, 4, 5]


def test_a_sealed_file_is_never_written_again(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA, flushes_per_file=2, rows_per_file=5)
    for batch in ((1,), (2,), (3, 4, 5, 6, 7), (8,)):
        table.append(rows(*batch))
        table.flush()
        if batch == (2,):
            sealed = (tmp_path / "t.0.parquet").stat()
    assert (tmp_path / "t.0.parquet").stat().st_ino == sealed.st_ino
    contents = [pq.read_table(tmp_path / f"t.{n}.parquet")["number"].to_pylist() for n in range(3)]
    assert contents == [[1, 2], [3, 4, 5, 6, 7], [8]]


def test_rows_wait_until_it_is_time(tmp_path: Path) -> None:
    now = 0.0
    table = GrowingTable(tmp_path, "t", SCHEMA, every_s=2.0, clock=lambda: now)
    table.append(rows(1))
    now = 1.9
    table.append(rows(2))
    assert not list(tmp_path.iterdir())
    now = 2.0
    table.append(rows(3))
    assert read_pandas(tmp_path) == [1, 2, 3]


def test_a_second_writer_goes_on_in_a_new_file(tmp_path: Path) -> None:
    for number in (1, 2):
        table = GrowingTable(tmp_path, "t", SCHEMA)
        table.append(rows(number))
        table.flush()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.0.parquet", "t.1.parquet"]
    assert read_pandas(tmp_path) == [1, 2]


def test_leftovers_of_another_table_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "power"
    ours, theirs = tmp_path / ".power.t.3.parquet.tmp", tmp_path / ".power.tt.3.parquet.tmp"
    ours.touch()
    theirs.touch()
    GrowingTable(folder, "t", SCHEMA)
    assert not ours.exists()
    assert theirs.exists()


def test_a_full_disk_is_one_message_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "power"
    table = GrowingTable(folder, "t", SCHEMA)
    table.append(rows(1))
    table.flush()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        table.append(rows(2))
        with pytest.raises(StorageError, match=r"t\.0\.parquet: cannot write: No space left on device; free some"):
            table.flush()
    assert [path.name for path in tmp_path.rglob("*")] == ["power", "t.0.parquet"]
    assert read_pandas(folder) == [1]
    table.flush()
    assert read_pandas(folder) == [1, 2]


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/t: cannot write: Not a directory; choose another folder"):
        GrowingTable(tmp_path / "file" / "t", "t", SCHEMA)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"number": 1}, "t: column 'text' is missing"),
        ({"number": 1, "text": "a", "more": 2}, "t: column 'more' is not in the schema"),
        ({"number": "one", "text": "a"}, "t: column 'number' must be int64"),
        ({"number": 1.5, "text": "a"}, "t: column 'number' must be int64, not 1.5"),
        ({"number": 1, "text": 2}, "t: column 'text' must be string"),
    ],
)
def test_a_row_that_does_not_fit_is_named(row: dict[str, object], message: str, tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA)
    with pytest.raises(RowError, match=message):
        table.append([row])
    assert not list(tmp_path.iterdir())


def test_columns_are_stored_as_rows_are(tmp_path: Path) -> None:
    """Lists, NumPy and Arrow arrays, and one value for every row."""
    table = GrowingTable(tmp_path, "t", SCHEMA)
    for number, text in (
        ([1, 2], ["row 1", "row 2"]),
        (np.array([3, 4], dtype=np.int32), pa.array(["row 3", "row 4"]).dictionary_encode()),
        (pa.array([5]), np.array(["row 5"])),
        ([], []),
        ([6, None], "same"),
    ):
        table.append({"number": number, "text": text})
    table.flush()
    stored = pq.read_table(table.path)
    assert stored["number"].to_pylist() == [1, 2, 3, 4, 5, 6, None]
    assert stored["text"].to_pylist() == [*(f"row {number}" for number in range(1, 6)), "same", "same"]


def test_a_number_that_is_not_there_is_null_in_numpy_columns_too(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", pa.schema([("watts", pa.float64())], metadata=SCHEMA.metadata))
    table.append({"watts": np.array([1.5, np.nan])})
    table.flush()
    assert pq.read_table(table.path)["watts"].to_pylist() == [1.5, None]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"number": [1]}, "t: column 'text' is missing"),
        ({"number": [1], "text": "a", "more": 2}, "t: column 'more' is not in the schema"),
        ({"number": [1, 2], "text": ["a"]}, "t: column 'text' has 1 rows, 'number' has 2"),
        ({"number": [1, 2.5], "text": "a"}, "t: column 'number' must be int64, not 2.5"),
        ({"number": np.array([1.0]), "text": "a"}, r"t: column 'number' must be int64, not dtype\('float64'\)"),
        ({"number": np.array([2**63], dtype=np.uint64), "text": "a"}, "t: column 'number' must be int64"),
        ({"number": pa.array(["1"]), "text": "a"}, "t: column 'number' must be int64, not DataType"),
        ({"number": [1], "text": 2}, "t: column 'text' must be string"),
        ({"number": [1], "text": np.array([2])}, "t: column 'text' must be string"),
    ],
)
def test_a_column_that_does_not_fit_is_named(columns: dict[str, object], message: str, tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA)
    with pytest.raises(RowError, match=message):
        table.append(columns)
    table.flush()
    assert not list(tmp_path.iterdir())


def test_enough_rows_for_a_file_are_written_without_waiting(tmp_path: Path) -> None:
    table = GrowingTable(tmp_path, "t", SCHEMA, every_s=1e9, rows_per_file=4)
    for number in range(10):
        table.append(rows(number))
    assert [pq.read_table(tmp_path / f"t.{n}.parquet").num_rows for n in range(2)] == [4, 4]
    table.flush()
    assert read_pandas(tmp_path) == list(range(10))
