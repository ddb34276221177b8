"""The benchmark of kills in short form: a sampler, a driver and a rank are killed, and nothing is lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks.study_watch import StudyWatch
from tests.bench.factories import synthetic_dataset
from tests.bench.studies import Running

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(400)]


def test_a_study_under_kills_loses_no_trial_and_runs_none_twice(tmp_path: Path) -> None:
    script = str(ROOT / "benchmarks" / "kills.py")
    short = ["--kills", "3", "--seed", "6", "--quiet-s", "1", "--repeats", "2", "--no-reference"]
    command = [sys.executable, script, *short, "--out", str(tmp_path / "kills.md")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [kill["target"] for kill in found["kills"]] == ["sampler", "driver", "rank"]
    assert [kill["restarted"] for kill in found["kills"]] == [False, True, False]
    assert (found["planned"], found["done"], found["failed"]) == (10, 10, 0)
    assert (found["lost"], found["doubled"], found["changed"]) == (0, 0, 0)
    assert all(kill["no_step_s"] > 0 for kill in found["kills"])
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
