"""Slopes of a law's forecasts by finite differences, for laws that have no formula of their own."""

import numpy as np
import numpy.typing as npt

from joulelaw.model.intervals import TARGETS
from joulelaw.model.laws.base import Law, Parameters, Rows

Array = npt.NDArray[np.float64]


def numeric_slopes(law: Law, parameters: Parameters, rows: Rows) -> tuple[list[str], dict[str, Array]]:
    """As Law.slopes."""
    names, step = list(parameters), 1e-4
    base = law.forecast(parameters, rows)
    slopes = {target: np.zeros((len(rows), len(names))) for target in TARGETS}
    for j, name in enumerate(names):
        moved = dict(parameters)
        moved[name] = moved[name] * np.exp(step) if law.logarithmic else moved[name] + step
        changed = law.forecast(moved, rows)
        for target in TARGETS:
            slopes[target][:, j] = (changed.log(target) - base.log(target)) / step
    return names, slopes
