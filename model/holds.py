"""Whether a calibrated law holds for its device, by trials that took no part in the calibration: a stated rule.

The law does not hold where, in energy or in duration,
1. more of these trials lie outside their 95 % intervals than chance allows: were each outside with the share that the
   intervals are made for, as many or more would be there with a probability below LEVEL (binomial); or
2. misses are larger than both the intervals and the tolerance allow: the sum of squares of log(measured / forecast),
   each over the half-width of its interval or log(tolerance), whichever is larger, as a standard deviation (over 1.96),
   lies above the chi-squared distribution's 1 - LEVEL quantile. One trial that is off by far is enough.
Each of the four tests calls a law wrong that holds in fewer than LEVEL of calibrations: all together in at most a
tenth. Both rules were fixed before any trial was judged by them. Of fewer than LEAST trials nothing can be told.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from joulelaw.model.history import Errors
from joulelaw.model.intervals import TARGETS, Z
from joulelaw.model.laws.base import FittedLaw

Array = npt.NDArray[np.float64]

LEVEL = 0.025
LEAST = 2
UNITS = {"duration": "s", "energy": "j"}


@dataclass(frozen=True)
class Judgement:
    """Errors on the validation trials before and after a calibration, by target, and whether the law holds."""

    before: dict[str, Errors]
    after: dict[str, Errors]
    holds: bool | None  # None: too few trials to tell
    verdict: str


@dataclass(frozen=True)
class _Misses:
    """Of one target, by trial: what was measured, the forecast and its interval."""

    measured: Array
    forecast: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, law: FittedLaw, trials: pd.DataFrame, target: str) -> "_Misses":
        told, unit = law.predict(trials), UNITS[target]
        names = (f"predicted_{target}_{unit}", f"{target}_low_{unit}", f"{target}_high_{unit}")
        forecast, low, high = (told[name].to_numpy(dtype=float) for name in names)
        return cls(trials[f"{target}_{unit}"].to_numpy(dtype=float), forecast, low, high)

    @property
    def errors(self) -> Errors:
        return Errors.of(self.measured, self.forecast, self.low, self.high)


def judge(before: FittedLaw, after: FittedLaw, trials: pd.DataFrame, tolerance: float) -> Judgement:
    """By the measurement rows of trials that neither law has seen. `tolerance` is a factor, above 1."""
    if len(trials) < LEAST:
        return Judgement(
            {}, {}, None, f"it cannot be told whether the law holds: {len(trials)} valid validation trials"
        )
    misses = {target: _Misses.of(after, trials, target) for target in TARGETS}
    blind = {target: _Misses.of(before, trials, target).errors for target in TARGETS}
    achieved = after.widths.achieved
    outside = 1 - achieved if math.isfinite(achieved) else 1 - after.widths.aimed
    reasons = [why for target in TARGETS for why in _against(misses[target], target, outside, tolerance)]
    verdict = "the law does not hold: " + "; ".join(reasons)
    if not reasons:
        verdict = f"the law holds on {len(trials)} trials that it has not seen"
    return Judgement(blind, {target: each.errors for target, each in misses.items()}, not reasons, verdict)


def _against(misses: _Misses, target: str, outside: float, tolerance: float) -> Iterator[str]:
    """What speaks against the law, in words."""
    count = len(misses.measured)
    beyond = int(((misses.measured < misses.low) | (misses.measured > misses.high)).sum())
    if (chance := float(stats.binom.sf(beyond - 1, count, outside))) < LEVEL:
        yield (
            f"{beyond} of {count} validation trials lie outside their 95 % interval of {target}, as chance has it in "
            f"{100 * chance:.2g} % of such sets"
        )
    allowed = np.maximum(np.sqrt(misses.high / misses.low), tolerance)
    ratio = np.log(misses.measured / misses.forecast)
    if float(stats.chi2.sf(np.sum((Z * ratio / np.log(allowed)) ** 2), count)) < LEVEL:
        factor = float(np.exp(np.abs(ratio).max()))
        yield (
            f"{target} is missed by up to a factor {factor:.2f}, more than the intervals and the tolerance "
            f"({np.median(allowed):.2f}) allow"
        )


def judged(calibrated: FittedLaw, judgement: Judgement, model: str) -> FittedLaw:
    """The calibrated law with its judgement in its history and notes.

    Where it does not hold, the device goes on lying outside what the law covers: its forecasts say so in
    `extrapolates`, with intervals as wide as a device's that was never measured.
    """
    event = replace(
        calibrated.history[-1],
        before=judgement.before or None,
        after=judgement.after or None,
        holds=judgement.holds,
        verdict=judgement.verdict,
    )
    law = replace(
        calibrated,
        history=(*calibrated.history[:-1], event),
        notes=(*calibrated.notes, f"{model}: {judgement.verdict}"),
    )
    if judgement.holds is not False:
        return law
    covered = law.provenance.ranges
    without = {**covered, "gpu_model": [str(name) for name in covered["gpu_model"] if name != model]}
    return replace(law, provenance=replace(law.provenance, ranges=without))
