"""Two writers on one folder of an object store: one of them has it, and a dead one keeps it from nobody for long."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from joulelaw.bench.dataset import lease
from joulelaw.bench.dataset.dataset import Dataset, DatasetError, read_steps, read_trials
from joulelaw.bench.dataset.exclusive import taken, writer_of
from joulelaw.bench.dataset.lease import Lease, LeaseHeldError
from joulelaw.bench.dataset.storage import ObjectPath, place
from joulelaw.bench.files import StorageError
from tests.bench.factories import configurations, new_dataset, step_rows, trial_row
from tests.bench.object_stores import S3Server, child_environment, s3_server

pytestmark = pytest.mark.xdist_group("object store")

ROOT = Path(__file__).resolve().parents[2]
FIRST = next(configurations())
# In the tests everything goes faster; the store tells whole seconds.
RENEW_EVERY_S, HOLDS_S, EXPIRES_S = 0.5, 4.0, 7.0

# Opens or begins a study, says so, adds steps of one trial after the other until it is killed; says what stops it.
WRITER = f"""
import itertools, sys, time
sys.path.insert(0, {str(ROOT)!r})
from joulelaw import InputError
from joulelaw.bench.dataset import lease
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.storage import place
from tests.bench.factories import configurations, new_dataset, step_rows, trial_row
lease.RENEW_EVERY_S, lease.HOLDS_S, lease.EXPIRES_S = {RENEW_EVERY_S}, {HOLDS_S}, {EXPIRES_S}
folder = place(sys.argv[1])
row = trial_row(next(configurations()))
try:
    with Dataset.open(folder) if Dataset.exists(folder) else new_dataset(folder) as dataset:
        print("open", flush=True)
        for number in itertools.count():
            tables = dataset.start_trial(f"{{sys.argv[2]}}-r{{number}}")
            tables.add_steps(step_rows(row))
            tables.finish(row)
            print(f"{{sys.argv[2]}}-r{{number}}", flush=True)
except InputError as problem:
    print("stopped:", problem, flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


@pytest.fixture(autouse=True)
def _faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "RENEW_EVERY_S", RENEW_EVERY_S)
    monkeypatch.setattr(lease, "HOLDS_S", HOLDS_S)
    monkeypatch.setattr(lease, "EXPIRES_S", EXPIRES_S)


def writer(server: S3Server, name: str, trials: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WRITER, server.uri(name), trials]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment())


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def at(server: S3Server, name: str) -> ObjectPath:
    folder = place(server.uri(name))
    assert isinstance(folder, ObjectPath)
    return folder


def test_the_second_is_refused_with_who_has_it_and_since_when(server: S3Server) -> None:
    process = writer(server, "two", "a")
    assert said(process) == "open"
    message = rf"s3://studies/two: another run is writing to it \(process {process.pid} on \S+ since \d{{4}}-.*Z"
    for use in (Dataset.open, Dataset.check_free):
        with pytest.raises(DatasetError, match=message):
            use(at(server, "two"))
    assert re.match(rf"process {process.pid} on \S+ since", writer_of(at(server, "two")))
    assert process.poll() is None
    process.kill()
    began_s = time.monotonic()
    with Dataset.open(at(server, "two")) as dataset:
        assert time.monotonic() - began_s < 60, "it is dead: its lease expires"
        assert dataset.finished_trial_ids()
    assert writer_of(at(server, "two")) == ""
    assert not list((at(server, "two") / "lease").glob("*.json")), "one that ends gives it back, and dead ones' go"


def test_one_that_was_asleep_and_finds_its_lease_taken_stops_with_one_message(server: S3Server) -> None:
    first = writer(server, "asleep", "a")
    assert said(first) == "open"
    said(first)
    first.send_signal(19)  # SIGSTOP
    second = writer(server, "asleep", "b")
    assert said(second) == "open"
    first.send_signal(18)  # SIGCONT
    output, _ = first.communicate(timeout=60)
    assert re.search(rf"stopped: s3://studies/asleep\S*: this run no longer has it: .*process {second.pid} ", output)
    before = said(second)
    assert before.startswith("b-r"), "the other goes on undisturbed"
    second.kill()
    trials = read_trials(at(server, "asleep"))
    assert trials["trial_id"].is_unique
    for trial_id in trials["trial_id"]:
        assert len(read_steps(at(server, "asleep"), trial_id)) == len(step_rows(trial_row(FIRST)))


def test_one_whose_lease_is_removed_writes_no_more(server: S3Server) -> None:
    folder = at(server, "removed")
    dataset = new_dataset(folder)
    for path in (folder / "lease").glob("*.json"):
        path.unlink()
    until_s = time.monotonic() + 60
    with pytest.raises(StorageError, match="this run no longer has it"):  # noqa: PT012 (it takes a renewal)
        while time.monotonic() < until_s:
            dataset.save_log("a-r0", 0, "rank0.log", "")
            time.sleep(0.1)
    dataset.close()


def test_of_many_that_come_at_once_one_has_it_at_a_time(server: S3Server) -> None:
    held = 0
    most, taken_times = 0, 0
    changing, start = threading.Lock(), threading.Barrier(6)

    def come(number: int) -> None:
        nonlocal held, most, taken_times
        folder = at(server, "many")
        start.wait()
        for _ in range(3):
            try:
                got = Lease.take(folder)
            except LeaseHeldError:
                continue
            with changing:
                held, taken_times = held + 1, taken_times + 1
                most = max(most, held)
            time.sleep(0.2)
            with changing:
                held -= 1
            got.close()

    with ThreadPoolExecutor(6) as people:
        list(people.map(come, range(6)))
    assert most == 1
    assert taken_times >= 1


def test_a_right_that_was_given_back_can_be_taken(server: S3Server) -> None:
    for _ in range(2):
        right = taken(at(server, "again"))
        right.check()
        right.close()
