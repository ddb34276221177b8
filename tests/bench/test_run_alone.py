"""A study without Ray: the same command and folder, in a given time, where Ray and DeepSpeed are not installed."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from joulelaw.bench.plan.plan import PlannedTrial, Price
from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.time_limit import SLACK, SLACK_S, OutOfTime, TimeLimit
from joulelaw.cluster.nodes.inventory import Device, Node
from tests.bench.bare_python import python_without
from tests.bench.factories import configurations

pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(300)]

SWEEP = """\
schema: 1
name: alone
seed: 3
defaults: {vocab_size: 500, num_layers: 2, hidden_size: 64, sequence_length: 32, micro_batch_size: 1}
grids:
  - {micro_batch_size: [1, 2]}
  - {strategy: [ddp, zero2], gpu_count: 1}
window: {warmup_steps: 1, min_steps: 5, min_s: 2.5, max_s: 30, tolerance: 0}
hold_out: {fraction: 0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0.5}
devices: {misfits: set_aside}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("alone")
    (home / "alone.yaml").write_text(SWEEP)
    return home


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_without(["ray", "deepspeed"], tmp_path_factory.mktemp("bare") / "venv")


def run(python: Path, home: Path, arguments: Sequence[str]) -> tuple[int, dict[str, Any], str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [str(python), "-m", "joulelaw.bench", "run", "alone.yaml", "--into", "out", *arguments]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=200)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_it_runs_where_neither_is_installed_and_stops_in_time(bare: Path, home: Path) -> None:
    for library in ("ray", "deepspeed"):
        assert subprocess.run([bare, "-c", f"import {library}"], capture_output=True).returncode == 1
    code, told, errors = run(bare, home, ["--alone", "--minutes", "0.01"])
    assert (code, told["interrupted"], told["done"]) == (130, True, 0)
    assert "to go on: joulelaw run alone.yaml --into out --alone --minutes 0.01" in errors
    assert errors.count("zero2") == 1, "said once"

    code, told, errors = run(bare, home, ["--alone"])
    assert (code, told["done"], told["failed"], told["invalid"]) == (0, 3, 0, 0), errors
    trials = pd.read_parquet(home / "out" / "trials")
    assert sorted(trials["strategy"]) == ["ddp", "single", "single"]
    plan = json.loads((home / "out" / "plan.json").read_text())
    assert [each["configuration"]["strategy"] for each in plan["set_aside"]] == ["zero2"]
    assert "DeepSpeed" in plan["set_aside"][0]["reason"]


def test_with_ray_missing_it_says_what_is_missing(bare: Path, home: Path) -> None:
    code, told, _ = run(bare, home, ["--into", "other"])
    assert code == 1
    assert "ray is not installed" in told["error"]
    assert "run --alone" in told["error"]


def planned(min_s: float, trial_s: float | None, warmup_max_s: float | None = None) -> PlannedTrial:
    spec = TrialSpec(next(configurations()), window=Window(min_s=min_s, warmup_max_s=warmup_max_s))
    return PlannedTrial(spec, "fit", False, Price(1.0, 1.0, trial_s=trial_s))


class Lender:
    """A fleet that lends at once, and says what it is."""

    name = "a fleet"
    nodes = (
        Node("local", "0a", (Device("CPU-0", "One Core", 0, "cpu", 2**33, (0,), None, ""),), 2**34, 1, "One Core"),
    )

    def acquire(self, model: str, count: int) -> tuple[str, int]:
        return model, count


@pytest.mark.parametrize("longest", [planned(30.0, None), planned(0.0, 30.0), planned(1.0, 2.0, 28.0)])
@pytest.mark.parametrize(("limit_s", "lends"), [(600.0, True), (31.0, False)])
def test_it_lends_while_the_longest_trial_still_fits(longest: PlannedTrial, limit_s: float, lends: bool) -> None:
    fleet: Any = TimeLimit(limit_s).on(Lender(), [planned(1.0, 1.0), longest])  # type: ignore[arg-type]
    assert fleet.name == "a fleet"
    if lends:
        assert fleet.acquire("a core", 2) == ("a core", 2)
    else:
        with pytest.raises(OutOfTime):
            fleet.acquire("a core", 2)


def test_time_passes_for_it() -> None:
    fleet: Any = TimeLimit(SLACK * 10.0 + SLACK_S + 0.5).on(Lender(), [planned(10.0, None)])  # type: ignore[arg-type]
    assert fleet.acquire("a core", 1)
    time.sleep(0.6)
    with pytest.raises(OutOfTime):
        fleet.acquire("a core", 1)


def test_the_sweep_of_these_tests_asks_for_a_missing_strategy(home: Path) -> None:
    asked = [each.configuration.strategy for each in load_sweep(home / "alone.yaml").asked]
    assert sorted(asked) == ["ddp", "single", "single", "zero2"]
