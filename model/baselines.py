"""What a law has to beat: the mean, power limit times time, and gradient-boosted trees."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.laws.base import Forecast, Rows
from joulelaw.model.tables import CONFIGURATION_COLUMNS, TEXT_COLUMNS

Array = npt.NDArray[np.float64]


class Fitted(Protocol):
    """A fitted baseline."""

    def forecast(self, rows: Rows) -> Forecast: ...


class Baseline(Protocol):
    """A baseline by name; post_run when its forecasts need what is known only after the run."""

    @property
    def name(self) -> str: ...
    @property
    def post_run(self) -> bool: ...
    def fit(self, rows: Rows) -> Fitted: ...


@dataclass(frozen=True)
class Constant:
    """Every trial costs the geometric mean of those fitted. Pre-run; the zero of R2."""

    name: str = "constant"
    post_run: bool = False

    def fit(self, rows: Rows) -> Fitted:
        means = {name: float(np.exp(np.log(rows.column(name)).mean())) for name in ("duration_s", "energy_j")}
        return _Scaled(means)


@dataclass(frozen=True)
class PowerLimitTimesTime:
    """E = factor x power limit x devices x measured seconds; post-run, as it sees the duration it multiplies.

    The factor is the geometric mean over the fitted trials. It has no forecast of duration (nan), nor of energy
    where a device's power limit is unknown.
    """

    name: str = "power_limit_x_time"
    post_run: bool = True

    def fit(self, rows: Rows) -> Fitted:
        ratio = np.log(rows.column("energy_j") / limit_energy_j(rows))
        known = ratio[np.isfinite(ratio)]
        return _LimitTimes(float(np.exp(known.mean())) if known.size else float("nan"))


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted trees on the logarithms of all configuration columns and the run's micro-steps. Pre-run."""

    name: str = "trees"
    post_run: bool = False

    def fit(self, rows: Rows) -> Fitted:
        from sklearn.ensemble import GradientBoostingRegressor  # heavy, and only this baseline needs it

        levels = {name: sorted(set(rows.table[name].astype(str))) for name in TEXT_COLUMNS}
        X = features(rows.table, levels)
        models = {}
        for target in ("duration_s", "energy_j"):
            model = GradientBoostingRegressor(n_estimators=300, max_depth=4, learning_rate=0.05, random_state=0)
            models[target] = model.fit(X, np.log(rows.column(target)))
        return _Boosted(models, levels)


BASELINES: dict[str, Baseline] = {baseline.name: baseline for baseline in (Constant(), PowerLimitTimesTime(), Trees())}


def limit_energy_j(rows: Rows) -> Array:
    """Power limit x devices x measured seconds; nan where the limit is unknown."""
    return np.asarray(rows.column("power_limit_w") * rows.column("gpu_count") * rows.column("duration_s"))


def features(table: pd.DataFrame, levels: Mapping[str, list[str]]) -> Array:
    """Logarithms of the numbers, one-hot columns of the texts; a value not in the levels is all zeros."""
    numbers = [name for name in (*CONFIGURATION_COLUMNS, "micro_steps") if name not in TEXT_COLUMNS]
    columns = [np.log(table[name].to_numpy(dtype=float)) for name in numbers]
    for name, values in levels.items():
        columns += [(table[name].astype(str) == value).to_numpy(dtype=float) for value in values]
    return np.column_stack(columns)


@dataclass(frozen=True)
class _Scaled:
    means: Mapping[str, float]

    def forecast(self, rows: Rows) -> Forecast:
        values = {name: np.full(len(rows), value) for name, value in self.means.items()}
        return Forecast(**values)


@dataclass(frozen=True)
class _LimitTimes:
    factor: float

    def forecast(self, rows: Rows) -> Forecast:
        return Forecast(duration_s=np.full(len(rows), np.nan), energy_j=self.factor * limit_energy_j(rows))


@dataclass(frozen=True)
class _Boosted:
    models: Mapping[str, Any] = field(repr=False)
    levels: Mapping[str, list[str]]

    def forecast(self, rows: Rows) -> Forecast:
        X = features(rows.table, self.levels)
        return Forecast(**{name: np.exp(model.predict(X)) for name, model in self.models.items()})
