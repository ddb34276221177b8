"""One trial of a sweep without Ray, for debugging and where there is none: the same loop, ranks, meter and dataset."""

from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.plan.plan import Plan, PlannedTrial
from joulelaw.bench.spec.errors import close_match
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.folder import connection, open_study
from joulelaw.bench.study.lineup import expected_device_s
from joulelaw.bench.study.loop import StudyLoop
from joulelaw.bench.study.progress import StudyProgress
from joulelaw.cluster.alone import LocalCluster


def run_trial(sweep_path: Path, trial_id: str | None = None, into: Place | None = None) -> dict[str, Any]:
    """Runs the sweep's first trial, or the one named, and commits it to the study's folder; returns its row.

    Raises:
        InputError: a bad sweep, an unknown trial, or one that is done in that folder already.
    """
    sweep = load_sweep(sweep_path)
    with LocalCluster.connect(**connection(sweep)) as machine, open_study(sweep, machine, into, alone=True) as study:
        plan, dataset = study
        planned = chosen_trial(plan, trial_id)
        if planned.trial_id in dataset.settled_trial_ids():
            row = dataset.committed(planned.trial_id)
            what = "is done already" if row is None or row.done else f"has its result already: {row.cause}"
            remedy = "name another trial with --id, or another folder with --into"
            raise InputError(f"trial {planned.trial_id} {what}", where=str(dataset.folder), remedy=remedy)
        with StudyProgress(1, expected_device_s([planned]), 0) as progress:
            loop = StudyLoop([planned], dataset, machine, sweep.limits, progress, sweep.root, sweep.metering)
            loop.run()
        return loop.rows[0]


def chosen_trial(plan: Plan, trial_id: str | None) -> PlannedTrial:
    """The trial of this id, or the plan's first. Raises InputError where there is none."""
    if trial_id is None:
        return plan.trials[0]
    by_id = {trial.trial_id: trial for trial in plan.trials}
    if trial_id not in by_id:
        remedy = f"see `joulelaw plan`: {close_match(trial_id, by_id)}"
        raise InputError(f"no trial {trial_id!r} in this sweep", where="--id", remedy=remedy)
    return by_id[trial_id]
