"""One trial of a sweep without Ray, for debugging and for machines that have none: same ranks, meter and dataset."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.bench.dataset import Dataset
from joulelaw.bench.plan import Plan, PlannedTrial
from joulelaw.bench.plan_making import make_plan
from joulelaw.bench.power_feed import LocalFeed, PowerFeed, hand_out, meter_options, settle, watch_ranks
from joulelaw.bench.preload import PRELOAD, environment
from joulelaw.bench.running_trial import RunningTrial
from joulelaw.bench.spec import load_sweep
from joulelaw.bench.spec_errors import close_match
from joulelaw.bench.study_devices import study_catalogue
from joulelaw.bench.study_folder import default_folder, open_dataset
from joulelaw.bench.trial_end import end_trial
from joulelaw.cluster.gang import Gang
from joulelaw.cluster.inventory import Device, Node, inspect_node
from joulelaw.cluster.local import LocalGang
from joulelaw.cluster.power.meter import open_meter
from joulelaw.cluster.power.sampler import Sampler
from joulelaw.cluster.server import ForkServer
from joulelaw.model.laws.roofline import a_priori

LOOK_EVERY_S = 0.05
NODE = "local"


def run_trial(sweep_path: Path, trial_id: str | None = None, into: Path | None = None) -> dict[str, Any]:
    """Runs the sweep's first trial, or the one named, and commits it to the study's folder; returns its row.

    Raises:
        InputError: a bad sweep, an unknown trial, or one that is finished in that folder already.
    """
    sweep = load_sweep(sweep_path)
    node = inspect_node(NODE, sweep.devices.cores_per_device)
    folder = into if into is not None else default_folder([node], sweep.name)
    with ForkServer(PRELOAD, environment(node.devices[0].kind)) as server:

        @contextmanager
        def borrow(model: str, count: int) -> Iterator[Gang]:
            gang = LocalGang(server, _first(node, model, count), NODE)
            try:
                yield gang
            finally:
                gang.stop()

        catalogue, devices_toml = study_catalogue([node], folder / "devices.toml", borrow)
        plan = make_plan(sweep, [node], catalogue, a_priori(catalogue))
        planned = _chosen(plan, trial_id)
        wanted = planned.spec.configuration
        meter = open_meter(node.devices, meter_options(sweep.metering))
        with (
            open_dataset(folder, sweep, plan, [node], devices_toml) as dataset,
            Sampler(meter, sweep.metering.rate_hz) as sampler,
            borrow(wanted.gpu_model, wanted.gpu_count) as gang,
        ):
            return _run(planned, gang, dataset, LocalFeed(sampler, NODE), sweep.limits.trial_timeout_s)


def _first(node: Node, model: str, count: int) -> Sequence[Device]:
    """The first devices of a model; the plan has made sure that there are so many."""
    return [device for device in node.devices if device.model == model][:count]


def _chosen(plan: Plan, trial_id: str | None) -> PlannedTrial:
    if trial_id is None:
        return plan.trials[0]
    by_id = {trial.trial_id: trial for trial in plan.trials}
    if trial_id not in by_id:
        remedy = f"see `joulelaw plan`: {close_match(trial_id, by_id)}"
        raise InputError(f"no trial {trial_id!r} in this sweep", where="--id", remedy=remedy)
    return by_id[trial_id]


def _run(planned: PlannedTrial, gang: Gang, dataset: Dataset, feed: PowerFeed, timeout_s: float) -> dict[str, Any]:
    if planned.trial_id in dataset.finished_trial_ids():
        remedy = "name another trial with --id, or another folder with --into"
        raise InputError(f"trial {planned.trial_id} is finished already", where=str(dataset.folder), remedy=remedy)
    trial = RunningTrial(planned, gang, dataset.start_trial(planned.trial_id))
    trial.start(dataset.log_folder(planned.trial_id))
    while not trial.over:
        watch_ranks(feed, trial, trial.advance())
        hand_out(feed, [trial])
        if trial.elapsed_s > timeout_s:
            trial.give_up(f"not over after limits.trial_timeout_s = {timeout_s:g} s")
        time.sleep(LOOK_EVERY_S)
    if trial.succeeded:
        settle(feed, trial, [trial])
    return end_trial(trial, feed) | {"trial_id": planned.trial_id}
