"""What candidates are compared by, and how sure a law is that the best of them costs less than the others."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.choices_odds import Doubts
from joulelaw.model.costs import J_PER_KWH, Prices
from joulelaw.model.intervals import TARGETS
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.tables import PRE_RUN_COLUMNS

Array = npt.NDArray[np.float64]

# By name: forecast, lower and upper end of its 95 % interval.
COSTS = {
    "energy": ("predicted_energy_j", "energy_low_j", "energy_high_j"),
    "time": ("predicted_duration_s", "duration_low_s", "duration_high_s"),
    "cost": ("cost", "cost_low", "cost_high"),
    "co2e": ("co2e_kg", "co2e_low_kg", "co2e_high_kg"),
}


def odds_of(
    fitted: FittedLaw, rows: pd.DataFrame, best: int, prices: Mapping[str, Prices], by: str
) -> dict[int, float]:
    """By position, the probability that the best costs less than it."""
    doubts = Doubts.of(fitted, rows[[name for name in PRE_RUN_COLUMNS if name in rows]])
    logs = np.log(rows[COSTS[by][0]].to_numpy(dtype=float))
    place = {int(at): k for k, at in enumerate(rows.index)}
    others = [at for at in place if at != best]
    first, second = np.full(len(others), place[best]), np.array([place[at] for at in others], dtype=np.intp)
    found = doubts.better(first, second, logs, _shares(rows, prices, by))
    return dict(zip(others, map(float, found), strict=True))


def _shares(rows: pd.DataFrame, prices: Mapping[str, Prices], by: str) -> dict[str, Array]:
    """How far each candidate's cost follows its joules, and its seconds: shares of 1."""
    joules = {"energy": 1.0, "co2e": 1.0, "time": 0.0}.get(by)
    if joules is not None:
        return {"energy": np.full(len(rows), joules), "duration": np.full(len(rows), 1.0 - joules)}
    per_kwh = np.array([prices[str(model)].per_kwh or 0.0 for model in rows["gpu_model"]])
    paid = np.where(per_kwh > 0, per_kwh * rows["predicted_energy_j"].to_numpy(dtype=float) / J_PER_KWH, 0.0)
    share = paid / rows["cost"].to_numpy(dtype=float)
    return dict(zip(TARGETS, (1.0 - share, share), strict=True))
