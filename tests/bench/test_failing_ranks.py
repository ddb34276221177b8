"""Real ranks that crash, hang, run out of memory or train into nothing: found out by the study as what they are."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.dataset.dataset import Dataset, read_events
from joulelaw.bench.plan.plan import PlannedTrial, Price
from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.bench.spec.schema import LimitsSection
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.training.preload import ENVIRONMENT, PRELOAD
from joulelaw.bench.trial import running as running_trial
from joulelaw.cluster.alone import LocalCluster
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks.gang import GangLimits
from tests.bench.trial_ranks import TINY

pytestmark = [pytest.mark.xdist_group("failing_ranks"), pytest.mark.timeout(300)]

HANG_S = 6.0


@pytest.fixture(scope="module")
def machine() -> Iterator[LocalCluster]:
    """One fork server for all: its ranks are what fails."""
    options = MeterOptions(kind="estimate", cpu_w_per_core=5.0)
    limits = GangLimits(hang_s=HANG_S)
    with LocalCluster.connect(preload=PRELOAD, env=ENVIRONMENT, meter_options=options, limits=limits) as machine:
        machine.wait_ready()
        yield machine


def trial_on(machine: LocalCluster, **changes: Any) -> PlannedTrial:
    device = machine.nodes[0].devices[0]
    configuration = replace(TINY, gpu_model=device.model, **changes)
    return PlannedTrial(TrialSpec(configuration, window=Window(1, 400, 2.0, 20.0)), "fit", False, Price(1.0, 1.0))


def run(machine: LocalCluster, folder: Path, trial: PlannedTrial, tries: int = 1) -> dict[str, Any]:
    with Dataset.create(folder, sweep="", plan={}, environment={}) as dataset:
        limits = LimitsSection(tries=tries)
        loop = StudyLoop([trial], dataset, machine, limits, StudyProgress(1, 1.0, 0), folder)
        loop.run()
    (row,) = loop.rows
    return row


@pytest.mark.parametrize(
    ("entry", "cause", "what"),
    [
        ("too_large", "out_of_memory", "DefaultCPUAllocator: can't allocate memory"),
        ("crash", "rank_crash", "killed by signal 11 (SIGSEGV)"),
        ("stop", "hang", f"took no step and gave no other sign of life for {HANG_S:g} s"),
        ("leave", "rank_crash", "left with exit code 7"),
    ],
)
def test_what_happens_to_a_rank_is_the_cause_of_its_trials_failure(
    entry: str, cause: str, what: str, machine: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running_trial, "ENTRY", f"tests.bench.failing_ranks:{entry}")
    row = run(machine, tmp_path / "out", trial_on(machine))
    assert (row["status"], row["cause"]) == ("failed", cause), row["failure"]
    assert what in row["failure"]
    assert (tmp_path / "out" / row["log"]).is_file()
    free = machine.free_by_model()[row["gpu_model"]]
    assert sum(free.values()) == len(machine.nodes[0].devices), "its device is free again"


def test_steps_into_nothing_end_a_trial_early(machine: LocalCluster, tmp_path: Path) -> None:
    """A learning rate of a million in fp32: the window would have 400 steps."""
    row = run(machine, tmp_path / "out", trial_on(machine, learning_rate=1e6), tries=3)
    assert (row["status"], row["cause"], row["attempt"]) == ("failed", "nan_loss", 0)
    events = read_events(tmp_path / "out")
    assert events["kind"].tolist() == ["run_began", "attempt_began", "attempt_ended", "run_ended"]


def test_a_trial_that_trains_is_none_of_these(machine: LocalCluster, tmp_path: Path) -> None:
    row = run(machine, tmp_path / "out", trial_on(machine))
    assert (row["status"], row["cause"], row["log"]) == ("done", None, None), row["failure"]
