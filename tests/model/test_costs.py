"""Power, money and CO2e of a forecast: by hand, and their intervals against what draws of the two errors do."""

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.costs import Prices, costs

KWH = 3.6e6
ALL = Prices(per_kwh=0.30, per_gpu_hour=2.5, currency="EUR", grid_g_per_kwh=380)


def forecast(
    joules: float = KWH, seconds: float = 3600.0, of_energy: float = 2.0, of_time: float = 1.5
) -> pd.DataFrame:
    """One run, each of its two forecasts known to a factor."""
    row = {
        "predicted_energy_j": joules,
        "energy_low_j": joules / of_energy,
        "energy_high_j": joules * of_energy,
        "predicted_duration_s": seconds,
        "duration_low_s": seconds / of_time,
        "duration_high_s": seconds * of_time,
    }
    return pd.DataFrame([row], index=[7])


def test_one_kwh_in_an_hour_on_eight_gpus_by_hand() -> None:
    found = costs(forecast(), 8, ALL)
    assert list(found.index) == [7]
    by_hand = {
        "average_power_w": 1000.0,
        "average_power_low_w": 1000 / 3,  # half the joules in one and a half times the time
        "average_power_high_w": 3000.0,
        "cost": 0.30 + 8 * 2.5,
        "cost_low": 0.15 + 8 * 2.5 / 1.5,
        "cost_high": 0.60 + 8 * 2.5 * 1.5,
        "currency": "EUR",
        "co2e_kg": 0.38,
        "co2e_low_kg": 0.19,
        "co2e_high_kg": 0.76,
    }
    assert found.iloc[0].to_dict() == pytest.approx(by_hand)


def test_what_is_not_priced_is_not_told_and_unknown_joules_make_unknown_what_depends_on_them() -> None:
    assert set(costs(forecast(), 1, Prices())) == {"average_power_w", "average_power_low_w", "average_power_high_w"}
    assert costs(forecast(), 3, Prices(per_gpu_hour=2.0))["cost"].item() == pytest.approx(6.0)
    unknown = forecast(joules=np.nan)
    assert costs(unknown, 3, Prices(per_gpu_hour=2.0))["cost_high"].item() == pytest.approx(9.0)
    priced = costs(unknown, 3, ALL)
    assert priced[["cost", "co2e_kg", "average_power_w"]].isna().all(axis=None)


def test_a_law_that_knows_power_gives_it_an_interval_of_its_own_never_wider_than_the_ends_allow() -> None:
    known = forecast().assign(average_power_factor=1.2)
    assert costs(known, 1, Prices())["average_power_high_w"].item() == pytest.approx(1200.0)
    assert costs(known, 1, Prices())["average_power_low_w"].item() == pytest.approx(1000 / 1.2)
    for factor in (9.0, np.nan):
        unknown = costs(forecast().assign(average_power_factor=factor), 1, Prices())
        assert unknown["average_power_high_w"].item() == pytest.approx(3000.0)


def test_intervals_hold_at_least_95_percent_however_energy_and_time_go_together() -> None:
    of_energy, of_time = 1.8, 1.4
    found = costs(forecast(of_energy=of_energy, of_time=of_time), 4, Prices(per_kwh=9.0, per_gpu_hour=2.5))
    rng = np.random.default_rng(0)
    covered = {}
    for correlation in (-0.9, 0.0, 0.7, 1.0):
        first, second = rng.standard_normal((2, 40_000))
        second = correlation * first + np.sqrt(1 - correlation**2) * second
        joules = KWH * of_energy ** (first / 1.959964)
        seconds = 3600 * of_time ** (second / 1.959964)
        true = {"cost": 9 * joules / KWH + 4 * 2.5 * seconds / 3600, "average_power": joules / seconds}
        for name, unit in (("cost", ""), ("average_power", "_w")):
            low, high = found[f"{name}_low{unit}"].item(), found[f"{name}_high{unit}"].item()
            covered[name, correlation] = np.mean((low <= true[name]) & (true[name] <= high))
    assert min(covered.values()) > 0.947
    assert covered["cost", 1.0] == pytest.approx(0.95, abs=0.004)  # together: the bound is exact


def test_prices_that_cannot_be_are_refused_by_name() -> None:
    for values, where in (
        ({"per_kwh": -0.3}, "prices.per_kwh"),
        ({"per_gpu_hour": float("nan")}, "prices.per_gpu_hour"),
        ({"grid_g_per_kwh": float("inf")}, "prices.grid_g_per_kwh"),
    ):
        with pytest.raises(InputError) as refusal:
            Prices(**values)
        assert refusal.value.where == where
