"""Sweep and inventory -> plan: pure, so that the same sweep on the same devices always gives the same plan."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration, TrialSpec
from joulelaw.bench.plan import HoldOut, Plan, PlannedTrial, SetAside, Split
from joulelaw.bench.plan_fit import Misfit, misfits
from joulelaw.bench.plan_price import priced
from joulelaw.bench.spec import EACH, Asked, Sweep
from joulelaw.bench.spec_errors import close_match, one_error
from joulelaw.cluster.inventory import Node
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import FIT, HOLD_OUT, draw_hold_out, group_of, hold_out_hash
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.tables import WORKLOAD_COLUMNS


@dataclass(frozen=True)
class _Candidate:
    """A configuration on a device model of the inventory; `grid` is None for a baseline that the plan adds."""

    configuration: Configuration
    grid: int | None


def make_plan(sweep: Sweep, nodes: Sequence[Node], catalogue: Catalogue, law: FittedLaw | None = None) -> Plan:
    """The trials of a sweep on these nodes.

    `law` forecasts seconds and joules; without one it is the roofline as it stands before any fit. Every device
    model in use must be in the catalogue: see `plan_devices.with_assumed` for those that no file lists.

    Raises:
        InputError: device models or counts that no node has, precisions or shapes that nothing here can run, and
            a hold-out that would leave nothing to fit: all that is wrong, a line each.
    """
    asked = _on_devices(sweep, nodes)
    candidates = [*asked, *_baselines(asked)]
    reasons = misfits([one.configuration for one in candidates], nodes, catalogue)
    _refuse_impossible(sweep, candidates, reasons)
    kept = [one for one, why in zip(candidates, reasons, strict=True) if why is None]
    cases = {one.configuration.case_id for one in kept if one.grid is not None}
    kept = [one for one in kept if one.grid is not None or one.configuration.case_id in cases]
    specs = [
        TrialSpec(one.configuration, repeat=repeat, seed=sweep.seed + repeat, window=sweep.window)
        for one in kept
        for repeat in range(sweep.repeats)
    ]
    baselines = {one.configuration for one in kept if one.grid is None}
    split, hold_out = _drawn(sweep, specs)
    prices = priced(specs, catalogue, law or a_priori(catalogue))
    trials = [
        PlannedTrial(spec, split[spec.trial_id], spec.configuration in baselines, price)
        for spec, price in zip(specs, prices, strict=True)
    ]
    return Plan(
        name=sweep.name,
        seed=sweep.seed,
        trials=tuple(sorted(trials, key=_order)),
        set_aside=tuple(
            SetAside(one.configuration, why.reason, one.grid is None)
            for one, why in zip(candidates, reasons, strict=True)
            if why is not None
        ),
        hold_out=hold_out,
        metering=_metering(sweep),
    )


def _order(trial: PlannedTrial) -> tuple[str, int, float, str]:
    """Large groups first, as they need the most devices free; within a group the longest first, to end together."""
    model, count = trial.group
    return model, -count, -(trial.price.trial_s or trial.price.flop_per_step), trial.trial_id


def _on_devices(sweep: Sweep, nodes: Sequence[Node]) -> list[_Candidate]:
    """What is asked, with "each" replaced by the device models of the inventory that have as many on one node."""
    most = most_on_one_node(nodes)
    errors: dict[str, InputError] = {}
    found: dict[Configuration, _Candidate] = {}
    for asked in sweep.asked:
        wanted, count = asked.configuration.gpu_model, asked.configuration.gpu_count
        if wanted != EACH and wanted not in most:
            error = _no_such_model(sweep, asked, most)
            errors.setdefault(str(error), error)
            continue
        models = [wanted] if wanted != EACH else sorted(most)
        enough = [model for model in models if most[model] >= count]
        if not enough:
            error = _too_many(sweep, asked, {model: most[model] for model in models})
            errors.setdefault(str(error), error)
        for model in enough:
            configuration = replace(asked.configuration, gpu_model=model)
            found.setdefault(configuration, _Candidate(configuration, asked.grid))
    if errors:
        raise one_error(list(errors.values()))
    return list(found.values())


def most_on_one_node(nodes: Iterable[Node]) -> dict[str, int]:
    """The largest number of devices of each model on one node."""
    most: dict[str, int] = {}
    for node in nodes:
        models = [device.model for device in node.devices]
        most |= {model: max(models.count(model), most.get(model, 0)) for model in models}
    return most


def _no_such_model(sweep: Sweep, asked: Asked, most: dict[str, int]) -> InputError:
    wanted = asked.configuration.gpu_model
    remedy = close_match(wanted, [*most, EACH])
    return InputError(f"no node has a {wanted!r}", where=sweep.where(asked.grid, "gpu_model"), remedy=remedy)


def _too_many(sweep: Sweep, asked: Asked, most: dict[str, int]) -> InputError:
    count = asked.configuration.gpu_count
    have = ", ".join(f"{number} x {model}" for model, number in most.items()) or "none"
    remedy = f"ask for at most {max(most.values(), default=0)}"
    what = f"{count} ranks need {count} devices on one node; the most that one has: {have}"
    return InputError(what, where=sweep.where(asked.grid, "gpu_count"), remedy=remedy)


def _baselines(asked: Sequence[_Candidate]) -> list[_Candidate]:
    """The single-device configuration of every case that lacks one."""
    there = {one.configuration.case_id for one in asked if one.configuration.strategy == "single"}
    missing: dict[str, _Candidate] = {}
    for one in asked:
        if one.configuration.case_id not in there:
            baseline = _Candidate(one.configuration.single_device(), None)
            missing.setdefault(one.configuration.case_id, baseline)
    return list(missing.values())


def _refuse_impossible(sweep: Sweep, candidates: Sequence[_Candidate], reasons: Sequence[Misfit | None]) -> None:
    """A workload that can run in none of the ways asked for is a mistake; one that cannot run in some is set aside."""
    by_workload: dict[tuple[Any, ...], list[tuple[_Candidate, Misfit | None]]] = {}
    for one, why in zip(candidates, reasons, strict=True):
        if one.grid is not None:
            workload = tuple(getattr(one.configuration, name) for name in WORKLOAD_COLUMNS)
            by_workload.setdefault(workload, []).append((one, why))
    errors: dict[str, InputError] = {}
    for ways in by_workload.values():
        if all(why is not None for _, why in ways):
            one, why = min(ways, key=lambda way: way[1].missing_bytes if way[1] else 0.0)
            assert why is not None
            assert one.grid is not None
            error = InputError(why.reason, where=sweep.where(one.grid, why.axis), remedy=why.remedy)
            errors.setdefault(str(error), error)
    if errors:
        raise one_error(list(errors.values()))


def _drawn(sweep: Sweep, specs: Sequence[TrialSpec]) -> tuple[dict[str, Split], HoldOut]:
    """Each trial's split, by trial_id, and the record of the draw."""
    rule = sweep.hold_out
    table = pd.DataFrame([{"trial_id": spec.trial_id, **spec.configuration.to_dict()} for spec in specs])
    # A sweep that does not mention a hold-out, and has nothing to draw from, does without.
    asked_for = "hold_out" in sweep.file.data
    if rule.fraction == 0 or (not asked_for and group_of(table, rule.by).nunique() < 2):
        split = pd.Series(FIT, index=table["trial_id"])
        return _by_trial(split), HoldOut("", 0.0, sweep.seed, hold_out_hash(split))
    try:
        split = draw_hold_out(table, rule.by, rule.fraction, sweep.seed)
    except InputError as error:
        remedy = "ask for more cases, or write fraction: 0"
        raise InputError(error.what, where=sweep.file.where(("hold_out",)), remedy=remedy) from None
    return _by_trial(split), HoldOut(rule.by, rule.fraction, sweep.seed, hold_out_hash(split))


def _by_trial(split: "pd.Series[str]") -> dict[str, Split]:
    return {str(trial_id): "hold_out" if value == HOLD_OUT else "fit" for trial_id, value in split.items()}


def _metering(sweep: Sweep) -> dict[str, Any]:
    """What decides which joules are read, without any path of this machine."""
    options = sweep.metering.model_dump()
    replay = options.pop("replay_path")
    return options | {"replay": replay.name if replay else None}
