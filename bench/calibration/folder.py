"""A calibration's folder: a study's, with the plan of one device model, the validation set as its hold-out, and a
record beside it; new, or gone on with."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.calibration.plan import calibration_plan, chosen_model
from joulelaw.bench.calibration.record import Record, digest
from joulelaw.bench.calibration.standing import Goal, Standing
from joulelaw.bench.console import say
from joulelaw.bench.dataset.dataset import Dataset, committed_trials
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, with_full_texts
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.plan.meter import NO_JOULES
from joulelaw.bench.plan.plan import Plan
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.bench.study.devices import borrowed, study_catalogue
from joulelaw.bench.study.folder import Machines, default_folder, open_dataset, saved_plan, warning_of_copy
from joulelaw.cluster.streams.metering import MeterInfo
from joulelaw.model.hardware import Catalogue, UnknownDevice
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.laws.roofline import a_priori


@dataclass(frozen=True)
class Asked:
    """What a calibration is asked for. `name` is what the law was named by; `gpu_model` None: the one that is new."""

    law: FittedLaw
    name: str
    sweep: Sweep
    gpu_model: str | None
    goal: Goal


@contextmanager
def open_calibration(
    asked: Asked, machines: Machines, into: Place | None, missing: dict[str, str]
) -> Iterator[tuple[Standing, Dataset]]:
    """How it stands, and its dataset until the `with` ends. `missing`: strategies that cannot run here, and why.

    Raises:
        InputError: what `chosen_model`, `calibration_plan` and `Record.check_same` refuse, and meters of which the law
            knows nothing.
    """
    sweep = asked.sweep
    folder = into if into is not None else default_folder(machines.nodes, f"{sweep.name}-calibration")
    if warning := warning_of_copy(folder):
        say(warning)
    boundary = check_boundary(machines.meters.values(), asked.law)
    catalogue, devices_toml = study_catalogue(machines.nodes, folder / "devices.toml", partial(borrowed, machines))
    plan = saved_plan(folder, sweep) if Record.of(folder) is not None else None
    if plan is None:
        whole = make_plan(sweep, machines.nodes, catalogue, a_priori(catalogue), missing)
        model = chosen_model((trial.group[0] for trial in whole.trials), asked.law, asked.gpu_model)
        plan = calibration_plan(whole, model, asked.goal.validation, str(sweep.path))
    with open_dataset(folder, sweep, plan, machines.nodes, devices_toml) as dataset:
        record = _record(asked, plan, boundary)
        if (saved := Record.of(folder)) is not None:
            saved.check_same(record, folder)
            record = saved
        record.save(folder)
        yield standing(asked, folder, plan, record, catalogue, ()), dataset


def saved_standing(asked: Asked, folder: Place) -> Standing | None:
    """How the calibration in a folder stands; None where there is none. InputError where it is another one."""
    record = Record.of(folder)
    plan = None if record is None else saved_plan(folder, asked.sweep)
    if record is None or plan is None:
        return None
    record.check_same(_record(asked, plan, record.boundary), folder)
    return standing(asked, folder, plan, record, Catalogue.load(devices_files([folder])), ())


def standing(
    asked: Asked, folder: Place, plan: Plan, record: Record, catalogue: Catalogue, tried: Sequence[str]
) -> Standing:
    """By what the folder holds now. `tried` are trials that ended in this run, be it in a failure."""
    law = knowing(asked.law, catalogue, record.gpu_model)
    settled = {trial_id for trial_id, each in committed_trials(folder).items() if each.settled}
    return Standing(law, asked.goal, plan, record, measured_of(folder), frozenset({*settled, *tried}))


def measured_of(folder: Place) -> pd.DataFrame:
    """The valid trials whose texts were as long as the law counts them."""
    return with_full_texts(read_measurements([folder]))


def knowing(law: FittedLaw, catalogue: Catalogue, model: str) -> FittedLaw:
    """The law with this device in its catalogue: its own entry, or that of the study's."""
    try:
        law.catalogue.get(model)
    except UnknownDevice:
        spec = catalogue.get(model)
        return replace(law, catalogue=Catalogue({**law.catalogue.devices, spec.name: spec}))
    return law


def _record(asked: Asked, plan: Plan, boundary: str) -> Record:
    model = plan.trials[0].group[0]
    if asked.gpu_model is not None and asked.gpu_model.casefold() != model.casefold():
        model = asked.gpu_model
    validation = tuple(sorted(trial.trial_id for trial in plan.trials if trial.split == "hold_out"))
    return Record(asked.name, digest(asked.law), model, boundary, validation)


def check_boundary(meters: Iterable[MeterInfo], law: FittedLaw) -> str:
    """What the joules of the trials will be of.

    Raises:
        InputError: no joules will be read, or joules that the law is not of, or of different things.
    """
    found = {meter.boundary for meter in meters if meter.kind != "none"}
    fitted = law.provenance.boundaries
    if not found:
        raise InputError(NO_JOULES, where="metering")
    if other := sorted(found - set(fitted)):
        what = f"the meters here give joules of {other[0]!r}, the law is of {', '.join(map(repr, fitted))}"
        remedy = "calibrate a law that was fitted on such joules, or choose metering.meter in the sweep"
        raise InputError(what, where="metering", remedy=remedy)
    if len(found) > 1:
        what = f"nodes whose meters give joules of different things: {', '.join(sorted(found))}"
        raise InputError(what, where="metering", remedy="choose metering.meter in the sweep")
    return found.pop()
