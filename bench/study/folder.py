"""What a study needs before it begins: what to connect with, its plan, and its folder, new or gone on with."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from joulelaw.bench.console import say
from joulelaw.bench.dataset.dataset import Dataset
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.installed import missing_strategies
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.study.devices import borrowed, study_catalogue
from joulelaw.bench.study.environment import describe_environment
from joulelaw.bench.study.fleet import Fleet
from joulelaw.bench.study.node_files import needed_files
from joulelaw.bench.study.power_feed import meter_options
from joulelaw.bench.training.preload import ENVIRONMENT, preload_of
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.study_files import StudyFiles
from joulelaw.cluster.ranks.gang import GangLimits
from joulelaw.model.laws.roofline import a_priori


class Machines(Fleet, Protocol):
    """A cluster, or this machine alone."""

    @property
    def nodes(self) -> tuple[Node, ...]: ...
    def wait_first(self) -> None:
        """Until a first node can fork ranks and has its meter open. InputError or ClusterError where none can."""
        ...


# So long a study that has its plan waits for other nodes to tell their devices, once one has; they join when they do. A
# new one waits longer: its plan is for all of them.
_PLANNED_ANSWER_S = 5.0


def connection(sweep: Sweep) -> dict[str, Any]:
    """The arguments of a cluster's `connect`: meters to open, and fork servers that load what ranks need."""
    return {
        "preload": preload_of(asked.configuration for asked in sweep.asked),
        "env": ENVIRONMENT,
        "meter_options": meter_options(sweep.metering),
        "cores_per_device": sweep.devices.cores_per_device,
        "limits": GangLimits(hang_s=sweep.limits.hang_s),
    }


def connection_of_nodes(sweep: Sweep, into: Place | None) -> dict[str, Any]:
    """Further ones where there may be other machines: files, and how long their nodes are waited for."""
    sha256 = needed_files(sweep)
    files = StudyFiles(sweep.root, sha256, Path.cwd()) if sha256 else None
    has_plan = into is not None and saved_plan(into, sweep) is not None
    return {"files": files, **({"answer_s": _PLANNED_ANSWER_S} if has_plan else {})}


def default_folder(nodes: Sequence[Node], name: str) -> Path:
    """results/<machine>/<sweep>, the machine named after its devices."""
    models: dict[str, int] = {}
    for device in (device for node in nodes for device in node.devices):
        models[device.model] = models.get(device.model, 0) + 1
    machine = "+".join(f"{count}x-{model}" for model, count in sorted(models.items()))
    return Path("results") / re.sub(r"[^A-Za-z0-9+]+", "-", machine).strip("-").lower() / name


def warning_of_copy(folder: Place) -> str:
    """What to say where the folder lies in the copy of a working directory that Ray made for a submitted job."""
    if not isinstance(folder, Path):
        return ""
    place = folder.absolute()
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ or "runtime_resources" not in place.parts:
        return ""
    return (
        f"Results go to {place}, in Ray's copy of the working directory, which Ray deletes some time after the job and "
        "no other job finds: to keep them, and to go on with the study, name a lasting folder with --into"
    )


@contextmanager
def open_study(sweep: Sweep, machines: Machines, into: Place | None, *, alone: bool) -> Iterator[tuple[Plan, Dataset]]:
    """The plan of a sweep on these machines and its folder, until the `with` ends. A study that goes on keeps its plan,
    be some of its nodes gone, or others there.

    Strategies whose libraries this process lacks are left out of the plan where it speaks for all nodes: `alone`, or on
    a Ray of its own.
    """
    folder: Place = into if into is not None else default_folder(machines.nodes, sweep.name)
    if warning := warning_of_copy(folder):
        say(warning)
    catalogue, devices_toml = study_catalogue(machines.nodes, folder / "devices.toml", partial(borrowed, machines))
    missing = missing_strategies() if alone or "RAY_ADDRESS" not in os.environ else {}
    plan = saved_plan(folder, sweep)
    if plan is None or missing.keys() & {trial.spec.configuration.strategy for trial in plan.trials}:
        plan = make_plan(sweep, machines.nodes, catalogue, a_priori(catalogue), missing)
    if lacking := sorted({aside.configuration.strategy for aside in plan.set_aside} & missing.keys()):
        say(f"Set aside: {', '.join(lacking)}, as {missing[lacking[0]]}")
    with open_dataset(folder, sweep, plan, machines.nodes, devices_toml) as dataset:
        yield plan, dataset


def saved_plan(folder: Place, sweep: Sweep) -> Plan | None:
    """The plan of a folder that holds this very sweep's study, with the same files beside it; None of any other.

    Its trials name the sweep's files and no others: whoever may write to the folder may not have ranks read elsewhere.
    """
    if not Dataset.exists(folder):
        return None
    plan, saved = Plan.load(folder), folder / "sweep.yaml"
    known = {asked.configuration.data for asked in sweep.asked}, {"", *sweep.checkpoints}
    same = saved.is_file() and saved.read_text(encoding="utf-8") == sweep.text and plan.checkpoints == sweep.checkpoints
    named = [trial.spec.configuration for trial in plan.trials]
    return plan if same and all(each.data in known[0] and each.checkpoint in known[1] for each in named) else None


def open_dataset(folder: Place, sweep: Sweep, plan: Plan, nodes: Sequence[Node], devices_toml: str) -> Dataset:
    """The study's folder: new, with all that must be saved before the first trial, or one that goes on."""
    seen = describe_environment(nodes)
    if not Dataset.exists(folder):
        return Dataset.create(folder, sweep=sweep.text, plan=plan.to_dict(), environment=seen, devices=devices_toml)
    plan.check_same_study(Plan.load(folder), folder)
    dataset = Dataset.open(folder)
    dataset.note_environment(seen)
    dataset.save_devices(devices_toml)  # this run's nodes may have models that the first one's had not
    return dataset
