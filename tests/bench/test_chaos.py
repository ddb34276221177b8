"""The benchmark of kills: what it counts, and in short form itself: nothing is lost or doubled on three nodes."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks.study_watch import Attempt, StudyWatch, attempts_of, costs_of, culprit
from tests.bench.factories import new_dataset, synthetic_dataset
from tests.bench.studies import Running

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(500)]
SECOND = 10**9


def attempt(trial: str, begin_s: float, end_s: float | None, cause: str | None = None, devices: int = 1) -> Attempt:
    return Attempt(trial, 0, devices, int(begin_s * SECOND), None if end_s is None else int(end_s * SECOND), cause)


def test_a_kill_costs_what_it_cut_short_and_the_time_until_as_many_devices_work_again() -> None:
    attempts = [
        attempt("goes on", 0, 30),
        attempt("cut", 4, 12, "node_lost", devices=2),
        attempt("ended well meanwhile", 5, 11),
        attempt("begun after it", 11, 40),  # where that one was
        attempt("cut, again", 17, 40, devices=2),
        attempt("failed by itself", 16, 18, "rank_error"),
    ]
    [(cut, thrown_away_s, full_s)] = costs_of([("node", 10 * SECOND)], attempts)
    assert (cut, thrown_away_s) == (1, 2 * (10 - 4))
    assert full_s == 17 - 10


def test_each_kill_pays_for_its_own_and_a_driver_for_all_that_ran() -> None:
    attempts = [
        attempt("a", 0, 11, "rank_crash"),
        attempt("a again", 12, 29, "driver_lost"),  # it died at 20, and the next one noted it at 29
        attempt("b", 1, 29, "driver_lost"),
        attempt("a, by the next driver", 30, 50),
        attempt("b, by the next driver", 31, None),
    ]
    kills = [("rank", 10 * SECOND), ("driver", 20 * SECOND)]
    assert costs_of(kills, attempts) == [(1, 10, 2), (2, 8 + 19, 11)]


def test_a_loss_that_is_noticed_after_the_next_kill_is_still_the_one_that_it_tells_of() -> None:
    kills = [("node", 10 * SECOND), ("rank", 14 * SECOND), ("sampler", 15 * SECOND)]
    assert culprit(attempt("on the node", 5, 17, "node_lost"), kills) == 0
    assert culprit(attempt("the rank's", 5, 15, "rank_crash"), kills) == 1
    assert culprit(attempt("nobody's", 5, 17, "hang"), kills) == 2, "the last one, where the cause tells of none"
    assert culprit(attempt("ended before", 5, 9, "rank_crash"), kills) is None
    assert culprit(attempt("ended well", 5, 17), kills) is None


def test_attempts_are_those_that_the_dataset_tells_of(tmp_path: Path) -> None:
    with new_dataset(tmp_path) as dataset:
        dataset.note("run_began")
        dataset.note("attempt_began", trial_id="a-r0", attempt=0, device_uuids=["x", "y"])
        dataset.note("attempt_began", trial_id="b-r0", attempt=0, device_uuids=["z"])
        dataset.note("attempt_ended", trial_id="a-r0", attempt=0, device_uuids=["x", "y"], cause="hang", retried=True)
        dataset.note("attempt_began", trial_id="a-r0", attempt=1, device_uuids=["x", "y"])
        dataset.note("attempt_ended", trial_id="a-r0", attempt=1, device_uuids=["x", "y"])
    found = attempts_of(tmp_path)
    assert [(each.trial_id, each.attempt, each.devices, each.cause) for each in found] == [
        ("a-r0", 0, 2, "hang"),
        ("b-r0", 0, 1, None),
        ("a-r0", 1, 2, None),
    ]
    assert found[1].end_ns is None
    assert all(each.end_ns and each.end_ns > each.begin_ns for each in (found[0], found[2]))


def test_a_study_under_kills_loses_no_trial_and_runs_none_twice(tmp_path: Path) -> None:
    script = str(ROOT / "benchmarks" / "chaos.py")
    short = ["--quick", "--kills", "2", "--seed", "11", "--window-s", "5", "--no-reference"]
    command = [sys.executable, script, *short, "--out", str(tmp_path / "kills.md")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [kill["target"] for kill in found["kills"]] == ["node", "driver"]
    assert (found["planned"], found["done"], found["failed"]) == (12, 12, 0)
    assert (found["lost"], found["doubled"], found["changed"]) == (0, 0, 0)
    assert found["runs"] == 2, "nothing but its own death ends the command"
    assert "**0 lost, 0 doubled**" in (tmp_path / "kills.md").read_text()


def test_a_file_that_goes_while_the_study_is_looked_at_is_passed_by(tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "sweep")
    for name in ("steps", "power"):
        (folder / name / "gone-r0.0.parquet").symlink_to(tmp_path / "nowhere")  # listed, and not there
    watch = StudyWatch(folder)
    watch.check()
    assert watch.next_step_ns(Mock(), after_ns=0) > 0


def test_a_program_that_says_much_does_not_wait_for_a_reader(tmp_path: Path) -> None:
    (tmp_path / "steps").mkdir()
    for number in range(1000):
        (tmp_path / "steps" / f"stray-{number}.parquet").touch()
    running = Running("report", str(tmp_path), cwd=tmp_path)
    running.process.wait(timeout=60)
    ended = running.end()
    assert (ended.code, len(ended.errors.splitlines())) == (2, 1001)
    assert len(ended.errors) > 64 * 1024
