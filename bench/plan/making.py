"""Sweep and inventory -> plan: pure, so that the same sweep on the same devices always gives the same plan."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.plan.candidates import candidates
from joulelaw.bench.plan.plan import HoldOut, Plan, PlannedTrial, Split
from joulelaw.bench.plan.price import priced
from joulelaw.bench.spec.configuration import TrialSpec
from joulelaw.bench.spec.sweep_file import Sweep
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import FIT, HOLD_OUT, draw_hold_out, group_of, hold_out_hash
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.laws.roofline import a_priori

NONE_MISSING: Mapping[str, str] = MappingProxyType({})


def make_plan(
    sweep: Sweep,
    nodes: Sequence[Node],
    catalogue: Catalogue,
    law: FittedLaw | None = None,
    missing: Mapping[str, str] = NONE_MISSING,
) -> Plan:
    """The trials of a sweep on these nodes. `missing` are strategies that cannot run there, and why.

    `law` forecasts seconds and joules; without one it is the roofline as it stands before any fit. Every device
    model in use must be in the catalogue: see `devices.with_assumed` for those that no file lists.

    Raises:
        InputError: what `candidates.candidates` refuses, and a hold-out that would leave nothing to fit.
    """
    kept, aside = candidates(sweep, nodes, catalogue, missing)
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
        set_aside=aside,
        hold_out=hold_out,
        metering=_metering(sweep),
        checkpoints=dict(sweep.checkpoints),
    )


def _order(trial: PlannedTrial) -> tuple[str, int, float, str]:
    """Large groups first, as they need the most devices free; within a group the longest first, to end together."""
    model, count = trial.group
    return model, -count, -(trial.price.trial_s or trial.price.flop_per_step), trial.trial_id


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
    options = sweep.metering.model_dump(include={"meter", "rate_hz", "cpu_w_per_core"})
    replay = sweep.metering.replay_path
    return options | {"replay": replay.name if replay else None}
