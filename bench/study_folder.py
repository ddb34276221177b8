"""What a study needs before it begins: what to connect with, and its folder, new or gone on with."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from joulelaw.bench.dataset import Dataset
from joulelaw.bench.environment import describe_environment
from joulelaw.bench.plan import Plan
from joulelaw.bench.power_feed import meter_options
from joulelaw.bench.preload import ENVIRONMENT, PRELOAD
from joulelaw.bench.spec import Sweep
from joulelaw.cluster.inventory import Node


def connection(sweep: Sweep) -> dict[str, Any]:
    """The arguments of a cluster's `connect`: meters to open, and fork servers that load what ranks need."""
    return {
        "preload": PRELOAD,
        "env": ENVIRONMENT,
        "meter_options": meter_options(sweep.metering),
        "cores_per_device": sweep.devices.cores_per_device,
    }


def default_folder(nodes: Sequence[Node], name: str) -> Path:
    """results/<machine>/<sweep>, the machine named after its devices."""
    models: dict[str, int] = {}
    for device in (device for node in nodes for device in node.devices):
        models[device.model] = models.get(device.model, 0) + 1
    machine = "+".join(f"{count}x-{model}" for model, count in sorted(models.items()))
    return Path("results") / re.sub(r"[^A-Za-z0-9+]+", "-", machine).strip("-").lower() / name


def warning_of_copy(folder: Path) -> str:
    """What to say where the folder lies in the copy of a working directory that Ray made for a submitted job."""
    place = folder.absolute()
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" not in os.environ or "runtime_resources" not in place.parts:
        return ""
    return (
        f"Results go to {place}, in Ray's copy of the working directory, which Ray deletes some time after the job and "
        "no other job finds: to keep them, and to go on with the study, name a lasting folder with --into"
    )


def open_dataset(folder: Path, sweep: Sweep, plan: Plan, nodes: Sequence[Node], devices_toml: str) -> Dataset:
    """The study's folder: new, with all that must be saved before the first trial, or one that goes on."""
    seen = describe_environment(nodes)
    if not Dataset.exists(folder):
        return Dataset.create(folder, sweep=sweep.text, plan=plan.to_dict(), environment=seen, devices=devices_toml)
    plan.check_same_study(Plan.load(folder), folder)
    dataset = Dataset.open(folder)
    dataset.note_environment(seen)
    dataset.save_devices(devices_toml)  # this run's nodes may have models that the first one's had not
    return dataset
