"""The benchmark of kills in short form: a sampler, a driver and a rank are killed, and nothing is lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
