"""Intervals of average power and of cost on held-out trials: how many hold the truth, and how wide they are.

python benchmarks/cost_intervals.py TABLE, a measurement table with energies of one boundary. A fifth of the cases is
left out of a fit at a time, by seed; the last line is what docs/forecast.md says.
"""

import sys

import numpy as np
import pandas as pd

from joulelaw.model.costs import POWER_FACTOR, Prices, costs
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.tables import CASE_COLUMNS, check_configurations, key

SEEDS = range(6)
PRICES = Prices(per_kwh=0.30, per_gpu_hour=2.5, currency="EUR")


def score(table: pd.DataFrame, seed: int, catalogue: Catalogue) -> dict[str, float]:
    """One fit: coverage, and the factor either way (geometric), of each interval."""
    cases = key(check_configurations(table), CASE_COLUMNS)
    names = np.unique(cases)
    some = np.random.default_rng(seed).permutation(names)[: len(names) // 5]
    held = cases.isin(some).to_numpy()
    law = fit_law("roofline", table[~held], catalogue, bootstrap=0, allow_mixed_meters=True)
    test = table[held]
    forecast = law.predict(test, power=True)
    own = costs(forecast, test["gpu_count"], PRICES)
    ends = costs(forecast.drop(columns=POWER_FACTOR), test["gpu_count"], PRICES)
    power = test["energy_j"] / test["duration_s"]
    cost = 0.30 * test["energy_j"] / 3.6e6 + 2.5 * test["gpu_count"] * test["duration_s"] / 3600
    found = {}
    for name, truth, priced, low, high in (
        ("power", power, own, "average_power_low_w", "average_power_high_w"),
        ("power by ends", power, ends, "average_power_low_w", "average_power_high_w"),
        ("cost", cost, own, "cost_low", "cost_high"),
    ):
        found[f"{name}: coverage"] = float(((priced[low] <= truth) & (truth <= priced[high])).mean())
        found[f"{name}: factor"] = float(np.sqrt(priced[high] / priced[low]).median())
    return found


def main() -> None:
    table, catalogue = pd.read_csv(sys.argv[1]), Catalogue.load()
    if "ambiguous_steps" in table:  # rows whose number of steps is a guess
        table = table[~table["ambiguous_steps"]].reset_index(drop=True)
    scores = pd.DataFrame([score(table, seed, catalogue) for seed in SEEDS])
    print(scores.round(3).to_string())
    print(scores.mean().round(3).to_dict())


if __name__ == "__main__":
    main()
