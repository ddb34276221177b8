"""`joulelaw status`: how a study stands, from its folder alone, while it runs, after it and after a crash."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from joulelaw import InputError
from joulelaw.bench.calibration.record import Record
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.storage import Place, place
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.status import reader as status_reader
from joulelaw.bench.status.forecast import time_left_s
from joulelaw.bench.status.reader import StatusReader
from joulelaw.bench.status.seen import Planned, Seen
from joulelaw.bench.status.status import StudyStatus, status_of
from joulelaw.bench.status.view import headline, line, news
from tests.bench.factories import (
    GPU_MODEL,
    PRICE,
    configurations,
    failure,
    new_dataset,
    power_rows,
    step_rows,
    synthetic_dataset,
    trial_row,
)
from tests.bench.object_stores import s3_server
from tests.bench.studies import Running

EVERY = list(configurations())
NODES = ("a" * 56, "b" * 56)


def trial_id(configuration: Configuration) -> str:
    return f"{configuration.configuration_id}-r0"


def finish(dataset: Dataset, number: int, attempt: int = 0, **changes: Any) -> dict[str, Any]:
    """Trial `number` as a study would leave it, noted as begun and ended."""
    name, row = trial_id(EVERY[number]), trial_row(EVERY[number], number=number) | changes
    dataset.note("attempt_began", trial_id=name, attempt=attempt, nodes=NODES[:1], device_uuids=row["device_uuids"])
    dataset.start_trial(name, attempt).finish(row)
    dataset.note("attempt_ended", trial_id=name, attempt=attempt, cause=row["cause"], retried=False)
    return row


@contextmanager
def study_at_work(folder: Place) -> Iterator[Dataset]:
    """A driver is at work: of 24 trials 2 are done, 1 is invalid, 1 has failed and 1 runs, after a node was lost."""
    dataset = new_dataset(folder, flush_every_s=0)
    dataset.note("run_began")
    for node in NODES:
        dataset.note("node_joined", nodes=[node], device_uuids=["CPU-0", "CPU-1"])
    finish(dataset, 0)
    finish(dataset, 1)
    finish(dataset, 2, verdict="invalid", reasons=["too_few_readings", "power_capped"], energy_j=None)
    lost = trial_id(EVERY[3])
    dataset.note("attempt_began", trial_id=lost, attempt=0, nodes=NODES[1:], device_uuids=["CPU-0"])
    dataset.note("node_lost", nodes=NODES[1:], cause="network_cut", detail="no answer for 15 s")
    dataset.note("attempt_ended", trial_id=lost, attempt=0, cause="network_cut", retried=True)
    log = f"logs/{lost}/rank0.log"
    finish(dataset, 3, attempt=1, **failure(), cause="rank_error", log=log)
    running = trial_id(EVERY[4])
    dataset.note("attempt_began", trial_id=running, attempt=0, nodes=NODES[:1], device_uuids=["CPU-0", "CPU-1"])
    row = trial_row(EVERY[4])
    tables = dataset.start_trial(running)
    tables.add_steps(step_rows(row)[:7])  # 3 of them warm-up
    tables.add_power(NODES[0], power_rows(row))
    try:
        until(folder, lambda seen: len(seen.readings) > 0 and seen.phases[running] != "setting up")
        yield dataset
    finally:
        dataset.close()


def until(folder: Place, condition: Callable[[Seen], bool]) -> Seen:
    """What is seen as soon as this holds: what was noted is stored a moment later."""
    deadline_s = time.monotonic() + 30
    while not condition(seen := StatusReader(folder).look()):
        assert time.monotonic() < deadline_s, seen
        time.sleep(0.02)
    return seen


def look(folder: Place) -> StudyStatus:
    return status_of(StatusReader(folder).look())


def test_a_study_at_work_is_told_in_full(tmp_path: Path) -> None:
    with study_at_work(tmp_path) as dataset:
        found = look(tmp_path)
        assert dataset.folder == tmp_path
    assert (found.state, found.planned, found.done, found.waiting) == ("running", 24, 2, 19)
    assert found.at_work.startswith("process ")
    assert (found.invalid_trials, found.invalid) == (1, {"too_few_readings": 1, "power_capped": 1})
    assert (found.failed, found.retried) == ({"rank_error": 1}, {"network_cut": 1})
    assert found.ended + len(found.running) + found.waiting == found.planned

    [now] = found.running
    assert (now.trial_id, now.label, now.attempt) == (trial_id(EVERY[4]), EVERY[4].label, 0)
    assert (now.phase, now.nodes, now.expected_s) == ("step 7", NODES[:1], PRICE.trial_s)
    [failed] = found.failures
    assert (failed.attempt, failed.failure) == (1, "rank 1 killed by signal 9")
    assert failed.log == f"logs/{trial_id(EVERY[3])}/rank0.log"

    [energy] = found.energy
    joules = [trial_row(EVERY[number], number=number)["energy_j"] for number in (0, 1)]
    assert (energy.meter, energy.kind, energy.trials) == ("rapl", "measured", 2)
    assert energy.energy_j == pytest.approx(sum(joules))
    newest = {row["device_uuid"]: row["power_w"] for row in power_rows(trial_row(EVERY[4]))}
    assert {each.device_uuid: each.power_w for each in found.readings} == newest
    assert found.power_w == pytest.approx(sum(newest.values()))

    there, gone = found.nodes
    assert (there.devices, there.lost, there.left) == (2, "", None)
    assert (gone.devices, gone.lost) == (2, "network_cut: no answer for 15 s")
    assert found.left_s is not None


def test_it_says_whether_a_driver_is_at_work_and_how_it_left(tmp_path: Path) -> None:
    with study_at_work(tmp_path):
        pass
    gone = look(tmp_path)
    assert (gone.state, gone.at_work, len(gone.running), gone.waiting) == ("broken off", "", 0, 20)
    assert "run the same command again" in headline(gone)
    with Dataset.open(tmp_path) as dataset:
        cut = {"trial_id": trial_id(EVERY[4]), "attempt": 0, "cause": "driver_lost", "retried": True}
        dataset.note("attempt_ended", **cut)
        dataset.note("run_began")
        again = status_of(until(tmp_path, lambda seen: seen.events[-1]["kind"] == "run_began"))
        assert (again.state, again.waiting, again.failed) == ("running", 21, {}), "what failed has its turn once more"
        assert again.retried == {"network_cut": 1, "driver_lost": 1}
        dataset.note("run_ended")
    stopped = look(tmp_path)
    assert (stopped.state, stopped.failed) == ("stopped", {"rank_error": 1})
    assert look(synthetic_dataset(tmp_path / "other")).state == "complete"


def test_readings_are_as_old_as_they_are_whatever_the_nodes_clock_says(tmp_path: Path) -> None:
    from joulelaw.bench.dataset.tables import METERS

    ahead_ns = 7 * 10**12
    with study_at_work(tmp_path) as dataset:
        row = dict.fromkeys(METERS.names) | {
            "node": NODES[0],
            "clock_offset_ns": ahead_ns,
            "started_at": datetime.now(UTC),
        }
        dataset.save_meters([row])
        seen = StatusReader(tmp_path).look()
        event = seen.events[-1]
        taken_ns = event["time_ns"] + ahead_ns - 3 * 10**9  # 3 s before the last event, by the node's clock
        tables = dataset.start_trial(trial_id(EVERY[4]))
        reading = power_rows(trial_row(EVERY[4]))[0]
        tables.add_power(NODES[0], [reading | {"time_ns": taken_ns}])
        tables.flush()
        seen = StatusReader(tmp_path).look()
    [found] = seen.readings
    assert found.age_s == pytest.approx((seen.now - event["time"]).total_seconds() + 3, abs=0.01)


def test_a_second_look_opens_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    read_each = status_reader._each

    def counted(paths: Sequence[Path], *arguments: Any) -> Any:
        opened.extend(paths)
        return read_each(paths, *arguments)

    monkeypatch.setattr(status_reader, "_each", counted)
    with study_at_work(tmp_path) as dataset:
        reader = StatusReader(tmp_path)
        first = reader.look()
        assert {path.name for path in opened} >= {path.name for path in (tmp_path / "trials").iterdir()}
        opened.clear()
        assert reader.look().rows == first.rows
        assert opened == []
        finish(dataset, 5)
        assert len(reader.look().rows) == len(first.rows) + 1
    assert [path.name for path in opened if path.parent.name == "trials"] == [f"{trial_id(EVERY[5])}.parquet"]


def test_of_a_calibration_only_what_it_takes_is_waited_for(tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "d")
    reader = StatusReader(folder)
    assert len(reader.look().planned) == len(EVERY)
    Record("law.json", "0", GPU_MODEL, "gpu", (trial_id(EVERY[0]),), (trial_id(EVERY[1]),)).save(folder)
    assert set(reader.look().planned) == {trial_id(EVERY[0]), trial_id(EVERY[1])}


def test_it_changes_nothing_and_needs_neither_ray_nor_torch(tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "study")
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    script = (
        "import sys; from joulelaw.bench.cli import main; code = main(['status', 'study']); "
        "sys.exit(code or any(name in sys.modules for name in ('ray', 'torch', 'pandas', 'scipy')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["state"], told["planned"], told["done"]) == ("complete", 24, 22)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize("content", [None, "", "[]", '{"name": "x", "trials": [{}]}'])
def test_what_is_no_study_is_refused_with_one_message(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "plan.json").write_text(content)
    with pytest.raises(InputError, match="no study in it" if content is None else "plan.json: not a plan"):
        StatusReader(tmp_path)


NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def seen_of(trials: Mapping[str, Planned], done_s: Mapping[str, float], begun: Sequence[str], since_s: float) -> Seen:
    """`done_s` after a run of `since_s` seconds, and `begun` half a minute ago."""
    began = NOW - timedelta(seconds=since_s)

    def event(kind: str, trial: str | None, time: datetime) -> dict[str, Any]:
        return {"kind": kind, "trial_id": trial, "attempt": 0, "time": time, "retried": None}

    events = [event("run_began", None, began)]
    for trial in done_s:
        events += [event("attempt_began", trial, began), event("attempt_ended", trial, NOW)]
    events += [event("attempt_began", trial, max(began, NOW - timedelta(seconds=30))) for trial in begun]
    rows = {
        trial: {"trial_id": trial, "status": "done", "verdict": "valid", "cause": None, "trial_s": trial_s}
        for trial, trial_s in done_s.items()
    }
    return Seen("study", trials, rows, events, "process 1", {}, [], NOW)


def planned(count: int, *, expected_s: float = 10.0, model: str = GPU_MODEL, prefix: str = "t") -> dict[str, Planned]:
    names = [f"{prefix}{number}" for number in range(count)]
    return {name: Planned(name, "a trial", model, 1, expected_s) for name in names}


def test_the_time_left_follows_the_pace_of_trials_that_took_twice_their_forecast() -> None:
    # Two devices, trials of 20 s: after 40 s four of ten are done, and the other six take another 60 s.
    seen = seen_of(planned(10), dict.fromkeys(["t0", "t1", "t2", "t3"], 20.0), [], since_s=40)
    assert time_left_s(seen) == pytest.approx(60)


def test_the_time_left_is_never_less_than_the_longest_trial_needs() -> None:
    trials = planned(9) | planned(1, expected_s=500.0, prefix="long")
    seen = seen_of(trials, dict.fromkeys(planned(9), 10.0), ["long0"], since_s=30)
    assert time_left_s(seen) == pytest.approx(470, abs=0.1)


def test_the_slowest_model_decides_and_one_that_nothing_is_known_of_leaves_it_open() -> None:
    trials = planned(4) | planned(4, model="Another", prefix="u")
    done = {"t0": 10.0, "t1": 10.0, "t2": 10.0, "u0": 10.0}
    assert time_left_s(seen_of(trials, done, [], since_s=30)) == pytest.approx(90), "3 more at one in 30 s"
    assert time_left_s(seen_of(trials, {"t0": 10.0}, [], since_s=30)) is None
    assert time_left_s(seen_of(planned(2), dict.fromkeys(planned(2), 10.0), [], since_s=30)) == 0


def test_before_the_first_end_forecasts_are_taken_at_their_word() -> None:
    seen = seen_of(planned(6, expected_s=60.0), {}, ["t0", "t1"], since_s=30)
    assert time_left_s(seen) == pytest.approx((4 * 60 + 2 * 30) / 2)


def test_one_line_is_printed_at_each_change_and_none_without(tmp_path: Path) -> None:
    with study_at_work(tmp_path) as dataset:
        reader = StatusReader(tmp_path)
        first = status_of(reader.look())
        assert news(None, first) == [line(first)]
        assert news(first, replace(first, now=NOW, left_s=1.0)) == [], "time passes by itself"
        row = finish(dataset, 6, **failure(), cause="out_of_memory")
        until(tmp_path, lambda seen: trial_id(EVERY[6]) in seen.rows and seen.events[-1]["kind"] == "attempt_ended")
        second = status_of(reader.look())
    told = news(first, second)
    assert any(trial_id(EVERY[6]) in each and "out_of_memory" in each and row["failure"] in each for each in told)
    assert "2 FAILED" in told[-1]
    assert news(second, second) == []


def test_a_look_at_the_lock_does_not_keep_a_run_from_it(tmp_path: Path) -> None:
    new_dataset(tmp_path).close()
    looking = os.open(tmp_path / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    timer = threading.Timer(0.02, os.close, [looking])
    timer.start()
    Dataset.open(tmp_path).close()
    timer.join()


def test_a_study_in_an_object_store_is_told_as_one_on_a_disk(tmp_path: Path) -> None:
    with s3_server() as server:
        folder = place(server.uri("lab/study"))
        with study_at_work(tmp_path / "disk"):
            on_disk = look(tmp_path / "disk")
        with study_at_work(folder):
            found = look(folder)
        assert (found.state, found.at_work != "") == ("running", True)
        names = ("planned", "done", "invalid", "failed", "retried", "waiting", "failures", "energy")
        assert [getattr(found, name) for name in names] == [getattr(on_disk, name) for name in names]
        assert [each.phase for each in found.running] == [each.phase for each in on_disk.running]
        assert [each.power_w for each in found.readings] == [each.power_w for each in on_disk.readings]
        assert look(folder).state == "broken off"


ALONE = """\
schema: 1
name: watched
grids:
  - {num_layers: 1, hidden_size: 64, sequence_length: 32, micro_batch_size: [1, 2], vocab_size: 500}
window: {warmup_steps: 1, min_steps: 5, min_s: 4, max_s: 30, tolerance: 0}
hold_out: {fraction: 0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


@pytest.mark.timeout(300)
def test_a_real_study_is_watched_to_its_drivers_death(tmp_path: Path) -> None:
    (tmp_path / "watched.yaml").write_text(ALONE)
    study = Running("run", "watched.yaml", "--into", "out", "--alone", cwd=tmp_path)
    study.wait_for((tmp_path / "out" / "plan.json").is_file)
    watch = Running("status", "out", "--watch", cwd=tmp_path)
    study.wait_for(lambda: any("step" in each.phase for each in look(tmp_path / "out").running))
    study.wait_for(lambda: look(tmp_path / "out").readings)
    found = look(tmp_path / "out")
    assert (found.state, found.planned, found.failed) == ("running", 2, {})
    assert 0 <= max(each.age_s for each in found.readings) < 60
    time.sleep(1.5)  # of the watching program's second
    study.process.kill()
    study.process.wait()

    told = watch.end(60)
    assert (told.code, told.last["state"], told.last["waiting"]) == (0, "broken off", 2)
