"""One trial of a sweep without Ray, for debugging and where there is none: the same loop, ranks, meter and dataset."""

from functools import partial
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.plan import Plan, PlannedTrial
from joulelaw.bench.plan_making import make_plan
from joulelaw.bench.progress import StudyProgress
from joulelaw.bench.spec import load_sweep
from joulelaw.bench.spec_errors import close_match
from joulelaw.bench.study_devices import borrowed, study_catalogue
from joulelaw.bench.study_folder import connection, default_folder, open_dataset
from joulelaw.bench.study_loop import StudyLoop, expected_device_s
from joulelaw.cluster.alone import LocalCluster
from joulelaw.model.laws.roofline import a_priori


def run_trial(sweep_path: Path, trial_id: str | None = None, into: Path | None = None) -> dict[str, Any]:
    """Runs the sweep's first trial, or the one named, and commits it to the study's folder; returns its row.

    Raises:
        InputError: a bad sweep, an unknown trial, or one that is done in that folder already.
    """
    sweep = load_sweep(sweep_path)
    with LocalCluster.connect(**connection(sweep)) as machine:
        folder = into if into is not None else default_folder(machine.nodes, sweep.name)
        catalogue, devices_toml = study_catalogue(machine.nodes, folder / "devices.toml", partial(borrowed, machine))
        plan = make_plan(sweep, machine.nodes, catalogue, a_priori(catalogue))
        planned = chosen_trial(plan, trial_id)
        with open_dataset(folder, sweep, plan, machine.nodes, devices_toml) as dataset:
            if planned.trial_id in dataset.finished_trial_ids():
                remedy = "name another trial with --id, or another folder with --into"
                raise InputError(f"trial {planned.trial_id} is done already", where=str(folder), remedy=remedy)
            with StudyProgress(1, expected_device_s([planned]), 0) as progress:
                loop = StudyLoop([planned], dataset, machine, sweep.limits, progress, sweep.root)
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
