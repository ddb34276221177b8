"""A calibration from a law and a sweep to a corrected law: connect, choose, run, correct, again; then judge."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from joulelaw.bench.calibration.folder import Asked, measured_of, open_calibration, saved_standing
from joulelaw.bench.calibration.standing import Standing
from joulelaw.bench.console import say
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.leftovers import broken_files
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.installed import missing_strategies
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.study.folder import Machines, connection, connection_of_nodes
from joulelaw.bench.study.lineup import expected_device_s
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.bench.study.study import machines, terminated_as_interrupted


@dataclass(frozen=True)
class Ended:
    """Where a calibration ended, and in which folder. `interrupted`: there are trials still to run."""

    folder: Place
    standing: Standing
    interrupted: bool


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes: at the begin, with what runs first; before each batch; and after it."""

    begin: Callable[[Standing, Sequence[PlannedTrial]], None]
    before: Callable[[Standing, Sequence[PlannedTrial]], None]
    after: Callable[[Standing], None]


def run_calibration(asked: Asked, into: Place | None, watch: Watch, *, alone: bool = False) -> Ended:
    """Runs the trials that a calibration takes, on a local Ray, or the one that RAY_ADDRESS names, or without any.

    Stopped at any point, it goes on in the same folder: trials that have run stay. One that is complete starts nothing.

    Raises:
        InputError: anything in the law, sweep, folder or cluster that the user has to change.
    """
    sweep = asked.sweep
    if into is not None:
        Dataset.check_free(into)
        for problem in broken_files(into):
            say(problem)
        found = saved_standing(asked, into)
        if found is not None and not found.next_batch(devices=1):
            return Ended(into, found, interrupted=False)
    more = {} if alone else connection_of_nodes(sweep, into)
    with (
        terminated_as_interrupted(),
        machines(alone).connect(**connection(sweep), **more) as cluster,
        terminated_as_interrupted(),  # once more: ray.init sets a handler of its own, which would just exit
    ):
        cluster.wait_first()
        missing = missing_strategies() if alone or "RAY_ADDRESS" not in os.environ else {}
        with open_calibration(asked, cluster, into, missing) as (standing, dataset):
            return _carried_out(standing, dataset, cluster, sweep, watch)


def _carried_out(standing: Standing, dataset: Dataset, cluster: Machines, sweep: Sweep, watch: Watch) -> Ended:
    devices = _devices(cluster, standing.record.gpu_model)
    watch.begin(standing, standing.next_batch(devices))
    while batch := standing.next_batch(devices):
        watch.before(standing, batch)
        fit = [trial.trial_id for trial in batch if trial.split == "fit"]
        record = standing.record.with_chosen(fit, standing.ended)
        record.save(dataset.folder)
        with StudyProgress(len(batch), expected_device_s(batch), 0) as progress:
            loop = StudyLoop(batch, dataset, cluster, sweep.limits, progress, sweep.root, sweep.metering)
            interrupted = False
            try:
                loop.run()
            except KeyboardInterrupt:
                interrupted = True
        # What failed is not tried again in this run; the next one does.
        over = dataset.settled_trial_ids() if interrupted else {trial.trial_id for trial in batch}
        standing = replace(standing, record=record, measured=measured_of(dataset.folder), ended=standing.ended | over)
        if interrupted:
            return Ended(dataset.folder, standing, interrupted=True)
        watch.after(standing)
    return Ended(dataset.folder, standing, interrupted=False)


def _devices(cluster: Machines, model: str) -> int:
    return sum(device.model == model for node in cluster.nodes for device in node.devices)
