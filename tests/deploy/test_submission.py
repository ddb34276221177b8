"""A study as a job of a running cluster, end to end: submitted, stopped, submitted again, refused without the token."""

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.deploy.ray_nodes import ROOT, TOKEN, RayNodes

pytest.importorskip("aiohttp", reason="jobs need ray[default]")
pytestmark = [pytest.mark.xdist_group("submission"), pytest.mark.timeout(400)]

NO_TOKEN = {"RAY_AUTH_MODE": None, "RAY_AUTH_TOKEN": None}
WRONG_TOKEN = {"RAY_AUTH_TOKEN": TOKEN[::-1]}
TRIALS = 6
SWEEP = """\
schema: 1
name: job
seed: 3
defaults: {vocab_size: 1000, hidden_size: 64, sequence_length: 32, micro_batch_size: 1}
grids:
  - {num_layers: [1, 2, 3], micro_batch_size: [1, 2]}
window: {warmup_steps: 1, min_steps: 5, min_s: 1.0, max_s: 30, tolerance: 0}
hold_out: {by: case, fraction: 0.3}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


def submit(nodes: RayNodes, name: str, *arguments: str, wait: bool, **options: Any) -> Any:
    """`ray job submit --working-dir .` of the program with some arguments."""
    command = ["ray", "job", "submit", "--address", nodes.dashboard, "--submission-id", name, "--working-dir", "."]
    command += [] if wait else ["--no-wait"]
    return nodes.run([*command, "--", "python", "-m", "bench", *arguments], timeout_s=240, **options)


def finished_trials(folder: Path) -> list[str]:
    return [row["trial_id"] for row in pq.read_table(folder / "trials", columns=["trial_id"]).to_pylist()]


@pytest.mark.parametrize("change", [NO_TOKEN, WRONG_TOKEN], ids=["none", "wrong"])
def test_a_submission_without_the_token_is_refused(nodes: RayNodes, change: dict[str, str | None]) -> None:
    refused = submit(nodes, f"refused-{len(change)}", "--version", wait=True, change=change)
    assert refused.returncode != 0
    assert "token" in refused.stderr
    listed = nodes.run(["ray", "job", "list", "--address", nodes.dashboard])
    assert "refused" not in listed.stdout


@pytest.mark.parametrize("change", [NO_TOKEN, WRONG_TOKEN, {"RAY_AUTH_TOKEN": None}], ids=["none", "wrong", "lost"])
def test_a_driver_without_the_token_is_refused_in_one_message(
    nodes: RayNodes, change: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    command = [sys.executable, "-m", "bench", "run", str(tmp_path / "sweep.yaml"), "--into", str(tmp_path / "into")]
    refused = nodes.run(command, change={"RAY_ADDRESS": nodes.address, **change})
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1, refused.stderr
    assert f"cannot connect to Ray at {nodes.address}" in refused.stderr
    assert "token" in refused.stderr
    assert TOKEN not in refused.stderr + refused.stdout
    assert not (tmp_path / "into").exists()


def test_a_stopped_job_goes_on_when_it_is_submitted_again(nodes: RayNodes, tmp_path: Path) -> None:
    """Every trial is there once, and none that was done before is run again."""
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    folder = tmp_path / "into"
    asked = ("run", str(tmp_path / "sweep.yaml"), "--into", str(folder))
    assert submit(nodes, "first", *asked, wait=False).returncode == 0
    deadline_s = time.monotonic() + 120
    while not list(folder.glob("trials/*.parquet")):
        assert time.monotonic() < deadline_s, nodes.run(["ray", "job", "logs", "first"]).stdout
        time.sleep(0.1)
    stopped = nodes.run(["ray", "job", "stop", "--address", nodes.dashboard, "first"])
    assert stopped.returncode == 0, stopped.stderr
    before = finished_trials(folder)
    assert 0 < len(before) < TRIALS
    kept = {path.name: path.read_bytes() for path in folder.glob("trials/*.parquet")}

    second = submit(nodes, "second", *asked, wait=True)
    last = json.loads(next(line for line in reversed(second.stdout.splitlines()) if line.startswith("{")))
    assert (last["already_done"], last["done"]) == (len(before), TRIALS - len(before)), second.stdout
    assert len(finished_trials(folder)) == len(set(finished_trials(folder))) == TRIALS
    assert all((folder / "trials" / name).read_bytes() == content for name, content in kept.items())
    assert TOKEN not in second.stdout + second.stderr
    _no_secret_in(folder)
    # Ray makes 1 of whatever is not 0; the last line still tells that only some trials were invalid.
    assert (second.returncode, last["exit_code"]) in ((0, 0), (1, 3))


def _no_secret_in(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_what_travels_with_a_job_is_small(tmp_path: Path) -> None:
    """The code, the shipped sweeps and the catalogue; no study, no test, no history."""
    from ray._private.ray_constants import RAY_RUNTIME_ENV_DEFAULT_EXCLUDES
    from ray._private.runtime_env.packaging import create_package

    package = tmp_path / "package.zip"
    excludes = RAY_RUNTIME_ENV_DEFAULT_EXCLUDES.split(",")
    create_package(str(ROOT), package, include_gitignore=True, excludes=excludes)
    with zipfile.ZipFile(package) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"bench", "cluster", "model", "joulelaw.py"} <= tops
    assert "model/hardware.toml" in names
    assert "bench/sweeps/quickstart.yaml" in names
    assert not tops & {"results", "build", "tests", ".git", "docs", "benchmarks", ".venv", ".mypy_cache"}
    assert package.stat().st_size < 3e6
