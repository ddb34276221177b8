"""The plan of a calibration: the sweep's trials on one device model, and the validation set, drawn before any runs."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.plan.plan import HoldOut, Plan, PlannedTrial
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import FIT, HOLD_OUT, hold_out_hash
from joulelaw.model.laws.base import FittedLaw

# A calibration needs trials of as many cases beside a validation set of two.
LEAST_CASES = 4
# Of longer plans the design looks at so many trials, drawn by the seed.
MOST_CANDIDATES = 1000


def chosen_model(models: Iterable[str], law: FittedLaw, named: str | None) -> str:
    """The one device model of a plan that the law was not fitted on, or the one that was named.

    Raises:
        InputError: the plan has no such model, or several that are new.
    """
    there = list(dict.fromkeys(models))
    if named is not None:
        same = [model for model in there if model.casefold() == named.casefold()]
        if not same:
            remedy = f"name one of {', '.join(map(repr, there))}"
            raise InputError(f"no trial of the plan is for {named!r}", where="--gpu-model", remedy=remedy)
        return same[0]
    known = {str(name) for name in law.provenance.ranges.get("gpu_model", [])}
    new = [model for model in there if not known & own_names(law.catalogue, model)]
    if len(new) == 1:
        return new[0]
    if not new:
        what = f"the law knows every device model that is there: {', '.join(there)}"
        raise InputError(what, where="SWEEP", remedy="to calibrate one of them anew, name it with --gpu-model")
    what = f"{len(new)} device models are new to the law: {', '.join(map(repr, new))}"
    remedy = "name one with --gpu-model; then calibrate the law that this gives for the next"
    raise InputError(what, where="SWEEP", remedy=remedy)


def own_names(catalogue: Catalogue, model: str) -> set[str]:
    """The model's name, and the one that the catalogue has for it."""
    try:
        return {model, catalogue.get(model).name}
    except InputError:
        return {model}


def calibration_plan(plan: Plan, model: str, validation: int, where: str) -> Plan:
    """The trials that may run: those on this model, each once, with `validation` of them held out.

    Each validation trial is of another case, which no other trial is of: both case and trial are drawn by hashes of
    the plan's seed. At most half of the cases are drawn. `where` names the sweep.

    Raises:
        InputError: too few cases.
    """
    trials = [each for each in plan.trials if each.group[0] == model and each.spec.repeat == 0]
    cases: dict[str, list[PlannedTrial]] = {}
    for trial in trials:
        cases.setdefault(trial.spec.configuration.case_id, []).append(trial)
    if len(cases) < LEAST_CASES:
        what = f"{len(cases)} cases for {model}: too few to calibrate on some and validate on others"
        raise InputError(what, where=where, remedy=f"ask for {LEAST_CASES} shapes, batch sizes or lengths at least")
    order = sorted(cases, key=lambda case: _lot(plan.seed, case))
    drawn = order[: min(validation, len(cases) // 2)]
    held = [min(cases[case], key=lambda trial: _lot(plan.seed, trial.trial_id)) for case in drawn]
    others = [trial for case in order[len(drawn) :] for trial in cases[case]]
    others = sorted(others, key=lambda trial: _lot(plan.seed, trial.trial_id))[:MOST_CANDIDATES]
    return _divided(plan, held, others, len(drawn) / len(cases))


def _lot(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}|validation|{name}".encode()).digest()


def _divided(plan: Plan, held: Sequence[PlannedTrial], others: Sequence[PlannedTrial], fraction: float) -> Plan:
    split = pd.Series({each.trial_id: HOLD_OUT for each in held} | {each.trial_id: FIT for each in others})
    return replace(
        plan,
        trials=(*(replace(each, split="hold_out") for each in held), *(replace(each, split="fit") for each in others)),
        hold_out=HoldOut("case", fraction, plan.seed, hold_out_hash(split)),
    )
