"""(g) Few-shot calibration: a law that never saw a device model, before and after a few trials on it.

Each device model is left out in turn; k trials are chosen by `model.design`, blind to what was measured on it, and the
law corrected by `model.calibration` is scored on the other trials. Beside it, medians of as many random choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from joulelaw.model.calibration import calibrate
from joulelaw.model.design import choose
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.metrics import mape, r2_log

TRIALS = (4, 8)
RANDOM_CHOICES = 50
UNITS = {"energy": "j", "duration": "s"}


@dataclass(frozen=True)
class Shot:
    """One row of the table."""

    device: str
    trials: int
    how: str
    target: str
    r2_log: float
    mape: float
    coverage: float
    half_width_factor: float

    @property
    def cells(self) -> list[str]:
        numbers = f"{self.r2_log:.4f}", f"{100 * self.mape:.1f} %", f"{100 * self.coverage:.1f} %"
        return [self.target, self.device, str(self.trials), self.how, *numbers, f"{self.half_width_factor:.3f}"]


HEADER = ["target", "device left out", "trials", "chosen", "R2 log", "MAPE", "in 95 %", "x /"]


def shots(trials: pd.DataFrame, catalogue: Catalogue, seed: int = 0) -> list[Shot]:
    """Before any trial and after TRIALS of them, for each device model left out; nothing where there is one alone."""
    found: list[Shot] = []
    for device in sorted(set(trials["gpu_model"])) if trials["gpu_model"].nunique() > 1 else []:
        own, others = trials[trials["gpu_model"] == device], trials[trials["gpu_model"] != device]
        law = fit_law("roofline", others, catalogue, bootstrap=0)
        found += _scored(device, 0, "none", law, own)
        for count in TRIALS:
            at = choose(law, own, most=count, tolerance=1.0).positions
            found += _after(device, "by the tool", law, own, at)
            rng = np.random.default_rng(seed)
            drawn = [rng.choice(len(own), count, replace=False) for _ in range(RANDOM_CHOICES)]
            found += _medians([_after(device, f"at random, median of {RANDOM_CHOICES}", law, own, at) for at in drawn])
    return found


def _after(device: str, how: str, law: FittedLaw, own: pd.DataFrame, at: Sequence[int]) -> list[Shot]:
    rest = own.drop(index=own.index[list(at)])
    return _scored(device, len(at), how, calibrate(law, own.iloc[list(at)]), rest)


def _scored(device: str, count: int, how: str, law: FittedLaw, rest: pd.DataFrame) -> list[Shot]:
    forecast = law.predict(rest)
    result = []
    for target, unit in UNITS.items():
        measured = rest[f"{target}_{unit}"].to_numpy(float)
        names = (f"predicted_{target}_{unit}", f"{target}_low_{unit}", f"{target}_high_{unit}")
        predicted, low, high = (forecast[name].to_numpy(float) for name in names)
        inside = float(np.mean((low <= measured) & (measured <= high)))
        width = float(np.median(np.sqrt(high / low)))
        scores = r2_log(measured, predicted), mape(measured, predicted), inside, width
        result.append(Shot(device, count, how, target, *scores))
    return result


def _medians(drawn: Sequence[list[Shot]]) -> list[Shot]:
    result = []
    for same in zip(*drawn, strict=True):
        numbers: dict[str, Any] = {
            name: float(np.median([getattr(each, name) for each in same]))
            for name in ("r2_log", "mape", "coverage", "half_width_factor")
        }
        result.append(Shot(same[0].device, same[0].trials, same[0].how, same[0].target, **numbers))
    return result
