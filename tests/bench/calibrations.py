"""Calibrations without devices, for tests: trials end as a truth has them, and everything else is the program's own."""

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import pandas as pd

from joulelaw.bench.calibration.folder import Asked, knowing
from joulelaw.bench.calibration.plan import calibration_plan, chosen_model
from joulelaw.bench.calibration.record import Record, digest
from joulelaw.bench.calibration.run import Ended, Watch
from joulelaw.bench.calibration.standing import Standing
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.plan.price import one_step_each
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.model.hardware import Catalogue

Truth = Callable[[pd.DataFrame], pd.DataFrame]
"""A table of runs -> the same with duration_s and energy_j."""


def gpus(model: str, count: int = 4) -> Node:
    devices = tuple(
        Device(f"GPU-{index}", model, index, "cuda", 16 * 2**30, (), 300.0, "driver", (7, 0)) for index in range(count)
    )
    return Node("a", "0a", devices, 2**38, 64, "a processor")


def begun(asked: Asked, nodes: tuple[Node, ...]) -> Standing:
    """Before any trial."""
    catalogue, _ = with_assumed(Catalogue.load(), nodes)
    whole = make_plan(asked.sweep, nodes, catalogue)
    model = chosen_model((trial.group[0] for trial in whole.trials), asked.law, asked.gpu_model)
    plan = calibration_plan(whole, model, asked.goal.validation, "sweep.yaml")
    held = tuple(sorted(trial.trial_id for trial in plan.trials if trial.split == "hold_out"))
    record = Record(asked.name, digest(asked.law), model, asked.law.provenance.boundaries[0], held)
    nothing = pd.DataFrame({"trial_id": pd.Series(dtype=str)})
    return Standing(knowing(asked.law, catalogue, model), asked.goal, plan, record, nothing, frozenset())


def after(standing: Standing, batch: list[PlannedTrial], truth: Truth, useless: Collection[str] = ()) -> Standing:
    """The standing when a batch has run; of the trials in `useless` no valid row comes."""
    ids = [trial.trial_id for trial in batch]
    run = [trial for trial in batch if trial.trial_id not in useless]
    rows = [standing.measured] if len(standing.measured) else []
    if run:
        table = one_step_each([trial.spec.configuration for trial in run]).assign(boundary=standing.record.boundary)
        told = {"meter": "replay", "meter_kind": "replayed", "verdict": "valid"}
        rows.append(truth(table).assign(trial_id=[trial.trial_id for trial in run], **told))
    fit = [trial.trial_id for trial in batch if trial.split == "fit"]
    return replace(
        standing,
        record=standing.record.with_chosen(fit, standing.ended),
        measured=pd.concat(rows, ignore_index=True) if rows else standing.measured,
        ended=standing.ended | set(ids),
    )


def carried_out(standing: Standing, truth: Truth, devices: int = 4, useless: Collection[str] = ()) -> list[Standing]:
    """The standing at the begin and after each batch, to the end."""
    course = [standing]
    while batch := course[-1].next_batch(devices):
        course.append(after(course[-1], batch, truth, useless))
    return course


def simulated(asked: Asked, into: Path | None, watch: Watch, *, alone: bool = False) -> Ended:
    """In place of `run_calibration`: on four GPUs of a new model, a third slower than the law has them blind."""
    standing = begun(replace(asked, gpu_model=None), (gpus("Tesla V100-SXM2-16GB"),))

    def truth(table: pd.DataFrame) -> pd.DataFrame:
        forecast = standing.blind.predict(table)
        joules = 1.2 * forecast["predicted_energy_j"]
        return table.assign(duration_s=1.33 * forecast["predicted_duration_s"], energy_j=joules)

    watch.begin(standing, standing.next_batch(devices=4))
    while batch := standing.next_batch(devices=4):
        watch.before(standing, batch)
        standing = after(standing, batch, truth)
        watch.after(standing)
    return Ended(into or Path(), standing, interrupted=False)
