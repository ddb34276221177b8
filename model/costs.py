"""What a forecast's joules and seconds come to: average power, money and CO2e, each with its interval. Pure arithmetic.

  average power = E / T        cost = price_kwh E / 3.6e6 + price_gpu_hour n T / 3600        CO2e = grid E / 3.6e6

E and T have 95 % intervals of their own (half-widths in the logarithm), and what E is missed by goes together with what
T is: joules are forecast from the forecast seconds. Hence

- CO2e is energy times a number: its interval is energy's.
- Cost rises with both, so its ends are those of E and T together (comonotone: both low, both high). Whatever the
  dependence, no sum of the two scatters more than the comonotone one (convex order; Dhaene, Denuit, Goovaerts, Kaas and
  Vyncke, "The concept of comonotonicity in actuarial science and finance: theory", Insurance: Mathematics and Economics
  31, 2002): the interval is, if anything, too wide. With one of the two prices alone it is exactly that one's.
- Average power falls with T, so that its ends are those of opposite ends (E low over T high, E high over T low). That
  is the widest it can be, as if E and T erred against each other, while in fact they err together. It is used where
  the law does not state power's own: a law that was fitted with it gives the factor that E / T of unseen cases was
  missed by (`model.laws.widths`), which is narrower, and an interval in its own right.

Left out of cost: everything outside the training steps (start, evaluation, saving), and whatever the joules' boundary
leaves out (of boundary gpu the host, of all of them cooling). Prices of cloud GPU-hours mostly hold the energy already:
then give that price alone.
"""

import math
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError

J_PER_KWH = 3.6e6
S_PER_HOUR = 3600.0
G_PER_KG = 1000.0
# Column of a forecast with the factor, either way, that average power is known to; where it is not, opposite ends.
POWER_FACTOR = "average_power_factor"


@dataclass(frozen=True)
class Prices:
    """What the user pays and emits. None: not stated, and what depends on it alone is not told.

    Raises:
        InputError: a price that is negative or no number.
    """

    per_kwh: float | None = None
    """Currency per kWh of metered energy."""
    per_gpu_hour: float | None = None
    """Currency per device and hour."""
    currency: str = ""
    """Of both, as it is to be shown."""
    grid_g_per_kwh: float | None = None
    """Grams of CO2 equivalent per kWh of metered energy."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float | int) and not (math.isfinite(value) and value >= 0):
                raise InputError(f"{value:g} is out of range", where=f"prices.{each.name}", remedy="0 or more")

    @property
    def has_cost(self) -> bool:
        return self.per_kwh is not None or self.per_gpu_hour is not None


def costs(forecast: pd.DataFrame, gpu_count: npt.ArrayLike, prices: Prices) -> pd.DataFrame:
    """The columns that prices add to a forecast (as `FittedLaw.predict` gives it), with its index.

    average_power_w, average_power_low_w, average_power_high_w (all devices together); with a price cost, cost_low,
    cost_high and currency; with a grid's intensity co2e_kg, co2e_low_kg, co2e_high_kg. nan where energy or time is.
    """
    count = np.asarray(gpu_count, dtype=float)
    ends = {"": "predicted_{}", "_low": "{}_low", "_high": "{}_high"}
    joules = {end: forecast[name.format("energy") + "_j"].to_numpy(dtype=float) for end, name in ends.items()}
    seconds = {end: forecast[name.format("duration") + "_s"].to_numpy(dtype=float) for end, name in ends.items()}
    columns: dict[str, object] = _power(forecast, joules, seconds)
    if prices.has_cost:
        per_j, per_s = (prices.per_kwh or 0.0) / J_PER_KWH, (prices.per_gpu_hour or 0.0) * count / S_PER_HOUR
        for end in ends:
            energy = per_j * joules[end] if prices.per_kwh is not None else 0.0  # joules that nobody pays may be nan
            columns[f"cost{end}"] = energy + per_s * seconds[end]
        columns["currency"] = prices.currency
    if prices.grid_g_per_kwh is not None:
        kg_per_j = prices.grid_g_per_kwh / J_PER_KWH / G_PER_KG
        columns |= {f"co2e{end}_kg": kg_per_j * joules[end] for end in ends}
    return pd.DataFrame(columns, index=forecast.index)


def _power(
    forecast: pd.DataFrame, joules: dict[str, npt.NDArray[np.float64]], seconds: dict[str, npt.NDArray[np.float64]]
) -> dict[str, object]:
    power = joules[""] / seconds[""]
    low, high = joules["_low"] / seconds["_high"], joules["_high"] / seconds["_low"]
    if POWER_FACTOR in forecast:
        factor = forecast[POWER_FACTOR].to_numpy(dtype=float)
        low, high = np.fmax(low, power / factor), np.fmin(high, power * factor)  # nan: not known to a factor
    return {"average_power_w": power, "average_power_low_w": low, "average_power_high_w": high}
