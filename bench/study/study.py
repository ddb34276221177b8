"""A study from its sweep file to a complete dataset: connect, plan, save, run or resume; with Ray or without."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from joulelaw.bench.console import say
from joulelaw.bench.dataset.dataset import Dataset, committed_trials, read_trials
from joulelaw.bench.dataset.leftovers import broken_files
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.sweep_file import Sweep, load_sweep
from joulelaw.bench.study.folder import Machines, connection, connection_of_nodes, open_study, saved_plan
from joulelaw.bench.study.lineup import expected_device_s
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.study.time_limit import OutOfTime, TimeLimit
from joulelaw.cluster.alone import LocalCluster
from joulelaw.cluster.scheduling.retries import RESULTS

if TYPE_CHECKING:  # a study that runs alone needs no Ray
    from joulelaw.cluster.cluster import Cluster


@dataclass(frozen=True)
class StudyResult:
    """How a run of a study ended. `done` counts this run's trials, `failed` and `invalid` those of the whole folder.

    `unfit` are those of the failed whose failure is their result: no memory, or a loss that is no number.
    `interrupted`: by a signal, or as its time was over.
    """

    folder: Place
    planned: int
    already_done: int
    done: int
    failed: int
    unfit: int
    invalid: int
    interrupted: bool


def run_study(sweep_path: Path, into: Place | None = None, *, alone: bool = False, limit_s: float = inf) -> StudyResult:
    """Runs what is not finished of a study, on a local Ray, or the one that RAY_ADDRESS names, or without any.

    `alone`: this machine's devices, without Ray. After `limit_s` seconds no trial is begun that might last longer.

    Raises:
        InputError: anything in the sweep, the folder or the cluster that the user has to change; nothing is written.
    """
    limit = TimeLimit(limit_s)
    sweep = load_sweep(sweep_path)
    if into is not None:
        Dataset.check_free(into)  # told now, not after Ray has started
        for problem in broken_files(into):
            say(problem)
        if (complete := _complete(into, sweep)) is not None:
            return complete
    more = {} if alone else connection_of_nodes(sweep, into)
    with (
        terminated_as_interrupted(),
        machines(alone).connect(**connection(sweep), **more) as cluster,
        terminated_as_interrupted(),  # once more: ray.init sets a handler of its own, which would just exit
    ):
        cluster.wait_first()  # where no node can run a trial nothing is written
        with open_study(sweep, cluster, into, alone=alone) as (plan, dataset):
            return _run(plan, dataset, cluster, sweep, limit)


def machines(alone: bool) -> "type[Cluster] | type[LocalCluster]":
    """Who connects to the devices: Ray, or nobody but this machine."""
    if alone:
        return LocalCluster
    from joulelaw.cluster.cluster import Cluster

    return Cluster


def _complete(folder: Place, sweep: Sweep) -> StudyResult | None:
    """The result where the folder has every trial of this very sweep already, so that nothing need be started.

    The same sweep with other files beside it is another study: the plan says so.
    """
    plan = saved_plan(folder, sweep)
    if plan is None:
        return None
    settled = {trial_id for trial_id, each in committed_trials(folder).items() if each.settled}
    if any(trial.trial_id not in settled for trial in plan.trials):
        return None
    return _result(folder, plan, len(plan.trials), interrupted=False)


def _run(plan: Plan, dataset: Dataset, cluster: Machines, sweep: Sweep, limit: TimeLimit) -> StudyResult:
    settled = dataset.settled_trial_ids()
    waiting = [trial for trial in plan.trials if trial.trial_id not in settled]
    already = len(plan.trials) - len(waiting)
    if again := dataset.failed_trial_ids() & {trial.trial_id for trial in waiting}:
        say(f"{len(again)} failed trial{'s' if len(again) > 1 else ''} of an earlier run: tried again")
    with StudyProgress(len(plan.trials), expected_device_s(waiting), already) as progress:
        fleet = limit.on(cluster, waiting)
        loop = StudyLoop(waiting, dataset, fleet, sweep.limits, progress, sweep.root, sweep.metering)
        interrupted = False
        try:
            loop.run()
        except (KeyboardInterrupt, OutOfTime):
            interrupted = True
    done = sum(row["status"] == "done" for row in loop.rows)
    return _result(dataset.folder, plan, already, done, interrupted=interrupted)


def _result(folder: Place, plan: Plan, already: int, done: int = 0, *, interrupted: bool) -> StudyResult:
    trials = read_trials(folder)
    is_done, is_result = trials["status"] == "done", trials["cause"].isin([cause.value for cause in RESULTS])
    invalid = int((is_done & (trials["verdict"] != "valid")).sum())
    failed, unfit = int((~is_done).sum()), int((~is_done & is_result).sum())
    return StudyResult(folder, len(plan.trials), already, done, failed, unfit, invalid, interrupted)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """`ray job stop` and batch systems send SIGTERM: it ends a study as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
