"""What a calibration tells: forecasts before, what runs and why, and errors before and after with the verdict."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from rich.markup import escape
from rich.table import Table

from joulelaw.bench.calibration.standing import Standing, median_factors
from joulelaw.bench.console import counted, number, say, table, to_people
from joulelaw.bench.plan.plan import PlannedTrial
from joulelaw.bench.plan.price import one_step_each
from joulelaw.model.holds import UNITS, Judgement

NO_JOULES = "No joules can be forecast blind: the device has no power limit that they could be scaled by."


def tell_blind(standing: Standing, batch: Sequence[PlannedTrial]) -> None:
    """The forecasts of the law before, for what runs first and in short for all."""
    to_people(stderr=True).print(_blind(standing, batch))
    factors = median_factors(standing.blind, standing.table)
    if np.isnan(factors["energy"]):
        say(NO_JOULES)
    say(f"Blind, over all {len(standing.candidates)} trials that may run: {_wide(factors)}")


def tell_batch(standing: Standing, batch: Sequence[PlannedTrial]) -> None:
    """What runs now, and what for."""
    held = sum(trial.split == "hold_out" for trial in batch)
    told = [f"{len(batch) - held} to correct the law by"] if len(batch) > held else []
    told += [f"{held} to judge it by, drawn by the sweep's seed"] if held else []
    say(f"Now {' and '.join(told)}")


def tell_after(standing: Standing) -> None:
    """How wide the plan's intervals are after a batch, and whether that is enough."""
    taken, goal = len(standing.taken), standing.goal
    if not taken:
        return
    enough = "not yet enough"
    if not standing.fits:
        enough = f"the law misses some of these trials by more than x / {goal.tolerance:g}"
    if standing.reached:
        enough = f"the tolerance of x / {goal.tolerance:g} is met"
    elif standing.exhausted:
        enough = f"x / {goal.tolerance:g} is out of reach: further trials would hardly narrow them"
    elif taken >= goal.most:
        enough += f"; {goal.most} trials are the most that were asked for"
    say(f"{counted(taken, 'trial')} taken up: {_wide(standing.factors)}; {enough}")


def validation_table(standing: Standing) -> Table:
    """Each validation trial: what was measured, and the two forecasts."""
    trials = standing.validation
    columns = ["trial", "", "measured", "blind", "95 %", "calibrated", "95 %"]
    shown = table("Trials that took no part in the calibration", columns, numeric=columns[2:])
    labels = {trial.trial_id: trial.spec.configuration.label for trial in standing.plan.trials}
    forecasts = [law.predict(trials) for law in (standing.blind, standing.law)]
    for place, trial_id in enumerate(trials["trial_id"]):
        for target, unit in UNITS.items():
            measured = float(trials[f"{target}_{unit}"].iloc[place])
            cells = [cell for each in forecasts for cell in _cells(each.iloc[place], target, measured)]
            shown.add_row(
                escape(labels[trial_id]), f"{target}, {unit.upper() if unit == 'j' else unit}", number(measured), *cells
            )
    return shown


def errors_table(judgement: Judgement) -> Table:
    """Errors and intervals on the validation trials, before and after, a row a target."""
    columns = ["validation", "n", "mean error", "bias", "in 95 %", "interval x /"]
    shown = table("Before and after", columns, numeric=columns[1:])
    for target in UNITS:
        for when, errors in (("blind", judgement.before), ("calibrated", judgement.after)):
            found = errors[target]
            shares = (_percent(value) for value in (found.mape, found.bias, found.coverage))
            shown.add_row(f"{target}, {when}", str(found.n), *shares, number(found.half_width_factor))
    return shown


def _blind(standing: Standing, batch: Sequence[PlannedTrial]) -> Table:
    """One step of each trial of the first batch, as the law forecasts it before anything has run."""
    columns = ["trial", "for", "s a step", "95 %", "J a step", "95 %"]
    shown = table(f"Blind forecasts for {standing.record.gpu_model}", columns, numeric=columns[2:])
    steps = one_step_each([trial.spec.configuration for trial in batch]).assign(boundary=standing.record.boundary)
    forecast = standing.blind.predict(steps)
    for trial, (_, row) in zip(batch, forecast.iterrows(), strict=True):
        purpose = "validation" if trial.split == "hold_out" else "calibration"
        values = []
        for target, unit in UNITS.items():
            values += [number(row[f"predicted_{target}_{unit}"]), _interval(row, target)]
        shown.add_row(escape(trial.spec.configuration.label), purpose, *values)
    return shown


def _cells(row: "pd.Series[float]", target: str, measured: float) -> tuple[str, str]:
    """A forecast and its interval, marked where what was measured lies outside."""
    unit = UNITS[target]
    outside = measured < row[f"{target}_low_{unit}"] or measured > row[f"{target}_high_{unit}"]
    interval = _interval(row, target)
    return number(row[f"predicted_{target}_{unit}"]), f"[bold red]outside {interval}[/]" if outside else interval


def _interval(row: "pd.Series[float]", target: str) -> str:
    low, high = (row[f"{target}_{end}_{UNITS[target]}"] for end in ("low", "high"))
    return f"{number(low)} - {number(high)}" if np.isfinite(low) else "-"


def _wide(factors: Mapping[str, float]) -> str:
    told = [f"{target} within x / {number(value)}" for target, value in factors.items() if np.isfinite(value)]
    return f"half of the intervals of {', of '.join(told)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if np.isfinite(share) else "-"
