"""Whatever the disk does, and wherever a kill falls between two file operations: the dataset opens and goes on."""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_power, read_steps, read_trials
from joulelaw.bench.files import StorageError
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.trial.running import Event
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks.rank_failures import RankFailure
from tests.bench.fake_fleet import NODE, FakeFleet, FakeGang, planned

ROOT = Path(__file__).resolve().parents[2]

# Two trials, the second failed at first and then done. At file operation number n, for each n from 0 on, the process
# is ended on the spot ("kill"), or the operation fails as on a full disk ("fail"), until one run has less than n.
WRITER = f"""
import errno, os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from joulelaw.bench.dataset.dataset import Dataset
from tests.bench.factories import configurations, failure, new_dataset, power_rows, step_rows, trial_row

def write(folder):
    dataset = Dataset.open(folder, flush_every_s=0) if Dataset.exists(folder) else new_dataset(folder, flush_every_s=0)
    for number, configuration in zip(range(2), configurations()):
        trial_id = configuration.configuration_id + "-r0"
        row = trial_row(configuration, number=number)
        for ending in ([failure()] if number and trial_id not in dataset.failed_trial_ids() else []) + [{{}}]:
            if trial_id in dataset.finished_trial_ids():
                continue
            tables = dataset.start_trial(trial_id, dataset.next_attempt(trial_id))
            tables.add_power("local", power_rows(row, 4))
            tables.add_steps(step_rows(row))
            tables.finish(row | ending)
    dataset.close()

def at(n, how):
    left = [n]
    def watched(operation):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0 and how == "kill":
                os._exit(9)
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return operation(*arguments, **options)
        return call
    for name in ("fsync", "replace", "rename", "unlink", "remove", "mkdir", "open", "pwrite", "ftruncate"):
        setattr(os, name, watched(getattr(os, name)))

home, how = Path(sys.argv[1]), sys.argv[2]
if how == "go on":
    for folder in sorted(home.iterdir()):
        write(folder)
    sys.exit()
for n in range(1000):
    if not (pid := os.fork()):
        at(n, how)
        try:
            write(home / f"{{n:03}}")
        except Exception as error:
            os._exit(9 if "No space left" in str(error) else 1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code != 9:
        sys.exit(code)
"""


def write(home: Path, how: str) -> None:
    done = subprocess.run([sys.executable, "-c", WRITER, str(home), how], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def statuses(folder: Path) -> list[str]:
    return read_trials(folder)["status"].tolist() if (folder / "trials").is_dir() else []


@pytest.mark.parametrize("how", ["kill", "fail"])
def test_after_any_number_of_file_operations_the_dataset_is_whole_and_goes_on(how: str, tmp_path: Path) -> None:
    write(tmp_path, how)
    folders = sorted(tmp_path.iterdir())
    seen = [statuses(folder) for folder in folders]
    assert len(folders) > 40, "each of them is cut short one operation later"
    assert {tuple(sorted(each)) for each in seen} == {(), ("done",), ("done", "failed"), ("done", "done")}
    for folder in folders:
        for table in ("steps", "power"):
            if any((folder / table).glob("*.parquet")):
                assert len(pd.read_parquet(folder / table))
    write(tmp_path, "go on")
    for folder in folders:
        trials = read_trials(folder)
        assert trials["status"].tolist() == ["done", "done"], folder.name
        assert sorted(trials["attempt"]) == [0, 1]
        assert not list(folder.glob(".*"))
        for trial_id, attempt in zip(trials["trial_id"], trials["attempt"], strict=True):
            for read, key in ((read_steps, ["rank", "step"]), (read_power, ["device_uuid", "time_ns"])):
                rows = read(folder, trial_id)
                assert set(rows["attempt"]) == {attempt}
                assert not rows.duplicated(key).any()


STEPS: Event = {"kind": "steps", "rank": 0, "rows": [[step, True, step, step + 1, 0.5] for step in range(2000)]}


class Accident(FakeGang):
    """A gang during whose trial something happens to the folder; it then goes on to its end."""

    def __init__(self, happen: Callable[[], object], events: Sequence[Event] = (STEPS,), failed: str = "") -> None:
        failures = [RankFailure(0, NODE, Cause.RANK_ERROR, failed, "rank0.log")] if failed else []
        super().__init__(1, events, failures)
        self._happen = happen

    def poll(self) -> list[Event]:
        self._happen()
        return super().poll()


def run(folder: Path, gang: FakeGang) -> list[dict[str, Any]]:
    new = not Dataset.exists(folder)
    with Dataset.create(folder, sweep="", plan={}, environment={}) if new else Dataset.open(folder) as dataset:
        loop = StudyLoop([planned()], dataset, FakeFleet([gang]), LimitsSection(), StudyProgress(1, 1.0, 0), Path())
        loop.run()
        return loop.rows


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    if os.getuid() != 0:
        pytest.skip("only root may mount a disk")
    small = tmp_path / "disk"
    small.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield small
    subprocess.run(["umount", "--lazy", str(small)], check=True)


def fill(disk: Path, left: int = 0) -> None:
    with (disk / "filler").open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(1024))
        file.truncate(max(0, file.tell() - left))


@pytest.mark.parametrize("left", [0, 4096, 8192])
@pytest.mark.parametrize("failed", ["", "failed: OSError: [Errno 28] No space left on device"])
def test_a_full_disk_is_one_message_and_no_trial_fails_for_it(disk: Path, left: int, failed: str) -> None:
    """Also where the ranks are the first to meet it, at their logs."""
    folder = disk / "out"
    with pytest.raises(StorageError, match="No space left on device; free some space, then run the same command"):
        run(folder, Accident(lambda: fill(disk, left), failed=failed))
    assert statuses(folder) == []
    (disk / "filler").unlink()
    (row,) = run(folder, Accident(lambda: None, failed="failed: of another cause"))
    assert (row["status"], row["attempt"]) == ("failed", 0)
    assert statuses(folder) == ["failed"]
    assert len(read_steps(folder, row["trial_id"])) == 2000


def test_a_disk_that_turns_read_only_is_one_message(disk: Path, tmp_path: Path) -> None:
    """As the kernel does after an error; by hand only a second mount can be, while the lock is open for writing."""
    read_only = tmp_path / "read-only"
    read_only.mkdir()
    subprocess.run(["mount", "--bind", str(disk), str(read_only)], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", str(read_only)], check=True)
    place = tmp_path / "place"
    place.symlink_to(disk)

    def turn() -> None:
        place.unlink()
        place.symlink_to(read_only)

    try:
        with pytest.raises(StorageError, match="Read-only file system; choose a place on a writable disk"):
            run(place / "out", Accident(turn))
        assert statuses(place / "out") == []
    finally:
        subprocess.run(["umount", "--lazy", str(read_only)], check=True)
    place.unlink()
    place.symlink_to(disk)
    assert len(run(place / "out", FakeGang(1, [STEPS]))) == 1


def test_a_folder_that_is_removed_is_told_and_not_begun_anew(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with pytest.raises(StorageError, match="the folder was removed while the study ran"):
        run(folder, Accident(lambda: shutil.rmtree(folder, ignore_errors=True)))
    assert not folder.exists()
    assert len(run(folder, FakeGang(1, [STEPS]))) == 1


def test_a_folder_that_a_file_took_the_place_of_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "out"

    def replace() -> None:
        if folder.is_dir():
            folder.rename(tmp_path / "moved")
            folder.touch()

    with pytest.raises(StorageError, match="out: the folder was removed while the study ran; put it back"):
        run(folder, Accident(replace))
    assert folder.read_bytes() == b""
    assert statuses(tmp_path / "moved") == []


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.EACCES, "out: cannot write: Permission denied; choose a place that you may write to"),
        (errno.ESTALE, "out: cannot write: Stale file handle; the disk's server has lost sight of it: mount it again"),
    ],
)
def test_a_folder_that_can_no_longer_be_looked_at_is_told(
    number: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's answer, made up: root may look at anything, and a network disk is not at hand."""
    with Dataset.create(tmp_path / "out", sweep="", plan={}, environment={}) as dataset:
        look = Path.stat

        def stat(path: Path, **options: Any) -> os.stat_result:
            if path.name == "lock":
                raise OSError(number, os.strerror(number), str(path))
            return look(path, **options)

        monkeypatch.setattr(Path, "stat", stat)
        with pytest.raises(StorageError, match=told):
            dataset.log_folder("a-r0", 0)
        assert not (tmp_path / "out" / "logs" / "a-r0.0").exists()
