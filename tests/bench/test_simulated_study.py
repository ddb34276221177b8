"""The simulator plays a small study as it really went: the same order, the same load of devices, the same end."""

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest

from joulelaw.bench.dataset.measurements import read_events, read_trials
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.study.lineup import waiting_trial
from joulelaw.cluster.failures import Cause
from joulelaw.cluster.scheduling.scheduler import WaitingTrial
from joulelaw.cluster.scheduling.simulator import Fate, simulate
from joulelaw.cluster.scheduling.timeline import Attempt, Timeline
from tests.bench.studies import program

pytestmark = [pytest.mark.xdist_group("study"), pytest.mark.timeout(300)]

SWEEP = """\
schema: 1
name: timeline
seed: 3
defaults: {vocab_size: 500, hidden_size: 128, sequence_length: 64, micro_batch_size: 2}
grids:
  - {num_layers: [2, 4, 7, 11, 16]}
  - {strategy: ddp, gpu_count: 2, num_layers: [2, 7, 11]}
repeats: 2
window: {warmup_steps: 1, min_steps: 30, min_s: 0.5, max_s: 30, tolerance: 0, warmup_max_s: 0}
hold_out: {fraction: 0}
metering: {meter: none, idle_s: 0}
"""
# Of the study's own time. Between two trials the driver notices the end of one and starts the next, which takes the
# simulator no time: 20 ms in 20 s on a machine with little else to do, more where others keep it from its cores. Trials
# that end at almost the same moment may then change places, and with them what comes after.
TOLERANCE = 0.25


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("timeline")
    (home / "sweep.yaml").write_text(SWEEP)
    ended = program("run", "sweep.yaml", "--alone", "--into", "out", cwd=home)
    assert ended.last["done"] == 16, ended.errors
    return home / "out"


@pytest.fixture(scope="module")
def real(folder: Path) -> Timeline:
    """When each attempt began, by the study's events, and how long its devices were held, by its row."""
    events = read_events(folder)
    held_s = read_trials(folder).set_index(["trial_id", "attempt"])["trial_s"].to_dict()
    trials = {each.trial_id: waiting_trial(each) for each in Plan.load(folder).trials}
    begin_s = 1e-9 * events.loc[events["kind"] == "attempt_began", "time_ns"].min()
    attempts = []
    for (name, number), noted in events[events["trial_id"].notna()].groupby(["trial_id", "attempt"]):
        began, ended = (_only(noted, kind) for kind in ("attempt_began", "attempt_ended"))
        cause = Cause.RANK_CRASH if ended["retried"] else None  # whatever it was: it was tried again
        began_s = 1e-9 * began["time_ns"] - begin_s
        ended_s = 1e-9 * ended["time_ns"] - begin_s  # its row is written by then
        times = began_s, began_s + held_s[name, number] if (name, number) in held_s else ended_s
        attempts.append(
            Attempt(str(name), trials[name].model, trials[name].count, tuple(began["nodes"]), *times, cause)
        )
    return Timeline(sorted(attempts, key=lambda each: each.began_s))


def _only(noted: pd.DataFrame, kind: str) -> pd.Series:
    (found,) = (row for _, row in noted[noted["kind"] == kind].iterrows())
    return found


@pytest.fixture(scope="module")
def played(folder: Path, real: Timeline) -> Timeline:
    """The same plan on the same devices; each attempt as long as it was."""
    attempts: dict[str, list[Attempt]] = {}
    for each in real.attempts:
        attempts.setdefault(each.trial_id, []).append(each)

    def fate(trial: WaitingTrial, attempt: int) -> Fate:
        was = attempts[trial.trial_id][attempt - 1]
        return Fate(was.duration_s, was.cause)

    trials = [waiting_trial(each) for each in Plan.load(folder).trials]
    timeline = simulate(trials, {real.attempts[0].nodes[0]: {trials[0].model: 2}}, fate)
    return Timeline(sorted(timeline.attempts, key=lambda each: each.began_s))


def test_the_same_attempts_in_the_same_order(real: Timeline, played: Timeline) -> None:
    assert sorted(each.trial_id for each in real.attempts) == sorted(each.trial_id for each in played.attempts)
    begins = {(each.trial_id, each.cause): each.began_s for each in played.attempts}
    pairs = list(combinations(real.attempts, 2))
    swapped = [
        (first.trial_id, second.trial_id)
        for first, second in pairs
        if begins[first.trial_id, first.cause] > begins[second.trial_id, second.cause] + 1e-9
    ]
    assert len(swapped) <= TOLERANCE / 2 * len(pairs), swapped


def test_attempts_begin_when_they_did(real: Timeline, played: Timeline) -> None:
    for was, now in zip(real.attempts, played.attempts, strict=True):
        assert now.began_s == pytest.approx(was.began_s, abs=TOLERANCE * real.makespan_s)


def test_devices_are_as_busy_and_the_end_is_about_the_same(real: Timeline, played: Timeline) -> None:
    loads = [sum(each.device_s for each in one.attempts) / (2 * one.makespan_s) for one in (real, played)]
    assert loads[0] == pytest.approx(loads[1], rel=TOLERANCE)
    assert played.makespan_s == pytest.approx(real.makespan_s, rel=TOLERANCE)
