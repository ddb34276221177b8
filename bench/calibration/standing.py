"""Where a calibration stands after the trials that have run, and which run next. Pure: no outcome of a validation trial
is looked at before the end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from joulelaw.bench.calibration.record import Record
from joulelaw.bench.plan.plan import Plan, PlannedTrial
from joulelaw.bench.plan.price import one_step_each
from joulelaw.model.calibration import calibrate
from joulelaw.model.design import Design, choose
from joulelaw.model.holds import UNITS
from joulelaw.model.intervals import Z
from joulelaw.model.laws.base import FittedLaw

# Fewer cannot show that a law is off in more than one way.
LEAST = 4
# By how much all further trials together must narrow the median interval to be worth running.
GAIN = 1.02


@dataclass(frozen=True)
class Goal:
    """At most `most` trials are taken up, until the plan's median intervals of energy and duration are within
    `tolerance` (a factor) either way; `validation` more are kept to judge by."""

    most: int = 8
    tolerance: float = 1.5
    validation: int = 4


@dataclass(frozen=True)
class Standing:
    """After the trials in `measured` (valid rows of the dataset). `ended` names every trial that is not to be run
    (again), whatever became of it; `blind` is the law before."""

    blind: FittedLaw
    goal: Goal
    plan: Plan
    record: Record
    measured: pd.DataFrame
    ended: frozenset[str]

    @cached_property
    def candidates(self) -> list[PlannedTrial]:
        return [trial for trial in self.plan.trials if trial.split == "fit"]

    @cached_property
    def table(self) -> pd.DataFrame:
        """One step of each candidate, as the law is asked for it."""
        steps = one_step_each([trial.spec.configuration for trial in self.candidates])
        return steps.assign(boundary=self.record.boundary)

    @cached_property
    def taken(self) -> pd.DataFrame:
        """The rows that the law is corrected by: valid ones that the design chose."""
        return self._rows([trial_id for trial_id in self.record.chosen if trial_id not in self.record.validation])

    @cached_property
    def validation(self) -> pd.DataFrame:
        """The valid rows that it is judged by."""
        return self._rows(self.record.validation)

    @cached_property
    def law(self) -> FittedLaw:
        """The law as corrected so far."""
        return calibrate(self.blind, self.taken) if len(self.taken) else self.blind

    @cached_property
    def factors(self) -> Mapping[str, float]:
        """By target, how wide the median interval over the plan is now: a factor either way; nan without a forecast."""
        return median_factors(self.law, self.table)

    @cached_property
    def fits(self) -> bool:
        """Whether the law misses the trials that it has taken up by no more than the tolerance: 1.96 times their root
        mean square, in the logarithm."""
        forecast = self.law.predict(self.taken)
        misses = [
            np.log(self.taken[f"{target}_{unit}"] / forecast[f"predicted_{target}_{unit}"])
            for target, unit in UNITS.items()
        ]
        return all(Z * float(np.sqrt(np.mean(each**2))) <= np.log(self.goal.tolerance) for each in misses)

    @cached_property
    def reached(self) -> bool:
        """Whether the tolerance is met: by the plan's intervals, and by the law's own trials."""
        return len(self.taken) >= LEAST and self.fits and max(self.factors.values()) <= self.goal.tolerance

    @cached_property
    def exhausted(self) -> bool:
        """Whether further trials are not worth their while: the law fits those it has, and its intervals are expected
        to narrow by less than `GAIN` with all that may still be taken up."""
        if len(self.taken) < LEAST or not self.fits:
            return False
        expected = (self._design.energy_factors, self._design.duration_factors)
        return all(factors[0] < GAIN * factors[-1] for factors in expected)

    def next_batch(self, devices: int) -> list[PlannedTrial]:
        """The trials to run now: at first `LEAST` and the validation set, then as many as `devices` take side by side.

        No more to correct the law by where the tolerance is met, further ones are not worth their while, `most` are
        taken up, or as many were of no use.
        """
        waiting = [
            trial for trial in self.plan.trials if trial.split == "hold_out" and trial.trial_id not in self.ended
        ]
        if self.reached or self.exhausted:
            return waiting
        chosen = [self.candidates[place] for place in self._design.positions]
        held = np.cumsum([trial.spec.configuration.gpu_count for trial in chosen])
        at_once = max(1, int((held <= devices).sum()))
        missing = LEAST - len(self.taken)
        return [*waiting, *chosen[: missing if missing > 0 else at_once]]

    @cached_property
    def _design(self) -> Design:
        """What else may be taken up, best first."""
        at = {trial.trial_id: place for place, trial in enumerate(self.candidates)}
        run = [at[trial_id] for trial_id in self.taken["trial_id"]]
        barred = [at[trial_id] for trial_id in self.ended if trial_id in at and at[trial_id] not in run]
        of_no_use = sum(self.candidates[place].trial_id in self.record.chosen for place in barred)
        left = max(0, self.goal.most - len(run)) if of_no_use < self.goal.most else 0
        known = self.law if run else None
        return choose(self.blind, self.table, left, 1.0, run=run, barred=barred, known=known)

    def _rows(self, trial_ids: Sequence[str]) -> pd.DataFrame:
        rows = self.measured[self.measured["trial_id"].isin(list(trial_ids))]
        return rows.sort_values("trial_id", ignore_index=True)


def median_factors(law: FittedLaw, table: pd.DataFrame) -> dict[str, float]:
    """By target, the median of sqrt(high / low) of a law's forecasts; nan where it makes none."""
    forecast = law.predict(table)
    return {
        target: float(np.sqrt((forecast[f"{target}_high_{unit}"] / forecast[f"{target}_low_{unit}"]).median()))
        for target, unit in UNITS.items()
    }
