"""The baselines are what they say: no stronger, no weaker, and blind where they must be."""

import numpy as np

from joulelaw.model.baselines import BASELINES, features, limit_energy_j
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import Rows
from joulelaw.model.tables import TEXT_COLUMNS, check_measurements
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()
TABLE = check_measurements(measured(CATALOGUE, noise=0.05))
ROWS = Rows.of(TABLE, CATALOGUE)


def test_the_constant_is_the_geometric_mean() -> None:
    forecast = BASELINES["constant"].fit(ROWS).forecast(ROWS.pre_run())
    np.testing.assert_allclose(forecast.energy_j, np.exp(np.log(TABLE["energy_j"]).mean()))


def test_power_limit_times_time_multiplies_the_measured_seconds_and_has_no_forecast_of_them() -> None:
    forecast = BASELINES["power_limit_x_time"].fit(ROWS).forecast(ROWS)
    watts = TABLE["gpu_model"].map(lambda name: CATALOGUE.get(name).power_limit_w)
    by_hand = watts * TABLE["gpu_count"] * TABLE["duration_s"]
    np.testing.assert_allclose(limit_energy_j(ROWS), by_hand)
    share = forecast.energy_j / by_hand
    np.testing.assert_allclose(share, np.exp(np.log(TABLE["energy_j"] / by_hand).mean()))
    assert np.isnan(forecast.duration_s).all()


def test_the_trees_see_no_measured_column() -> None:
    fitted = BASELINES["trees"].fit(ROWS)
    spoilt = Rows(TABLE.assign(duration_s=1.0, energy_j=1.0, parallel_efficiency=9.0), ROWS.counts)
    plain = fitted.forecast(ROWS.pre_run())
    np.testing.assert_array_equal(plain.energy_j, fitted.forecast(spoilt).energy_j)
    np.testing.assert_allclose(plain.energy_j, TABLE["energy_j"], rtol=0.5)


def test_a_value_the_trees_never_saw_is_no_other_value() -> None:
    levels = {name: sorted(set(TABLE[name])) for name in TEXT_COLUMNS}
    new = features(TABLE.assign(strategy="zero3"), levels)
    strategies = len(levels["gpu_model"]) + np.arange(len(levels["strategy"])) - sum(map(len, levels.values()))
    assert (new[:, strategies] == 0).all()
    assert (features(TABLE, levels)[:, strategies].sum(axis=1) == 1).all()


def test_only_power_limit_times_time_is_post_run() -> None:
    assert [name for name, baseline in BASELINES.items() if baseline.post_run] == ["power_limit_x_time"]
