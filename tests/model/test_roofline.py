"""The roofline: slopes are right, known truths come back, and nothing measured leaks into a forecast."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime

from joulelaw import InputError
from joulelaw.model.fitting import priors
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import Rows, fit_law
from joulelaw.model.laws.differences import numeric_slopes
from joulelaw.model.laws.roofline import Roofline, a_priori
from joulelaw.model.laws.roofline_forms import duration_layout
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import DEVICES, TRUTH, configurations, measured, truth

CATALOGUE = Catalogue.load()


def rows_of(table: pd.DataFrame) -> Rows:
    return Rows.of(check_configurations(table.assign(boundary="gpu")), CATALOGUE)


@pytest.mark.parametrize("corrected", [(), DEVICES])
def test_the_slope_of_the_time_is_that_of_finite_differences(corrected: tuple[str, ...]) -> None:
    rows = rows_of(configurations().iloc[::5])
    layout = duration_layout(rows, corrected)
    expected, spread = priors(layout.coefficients)
    rng = np.random.default_rng(2)
    for _ in range(5):
        logs = expected + spread * rng.normal(0, 0.5, len(spread))
        _, slope = layout.log_and_slope(logs)
        numeric = approx_fprime(logs, lambda u: np.log(layout.value(u)), 1e-7)
        np.testing.assert_allclose(slope, numeric, atol=2e-6)


def test_a_correction_multiplies_its_own_device_alone() -> None:
    rows = rows_of(configurations().iloc[::5])
    layout = duration_layout(rows, DEVICES)
    logs, _ = priors(layout.coefficients)
    slower = logs.copy()
    slower[[c.name for c in layout.coefficients].index(f"host[{DEVICES[0]}]")] += np.log(2)
    ratio = layout.value(slower) / layout.value(logs)
    own = (rows.table["gpu_model"] == DEVICES[0]).to_numpy()
    assert (ratio[own] > 1).all()
    np.testing.assert_array_equal(ratio[~own], 1.0)


@pytest.fixture(scope="module")
def exact() -> dict[str, float]:
    return fit_law("roofline", measured(CATALOGUE), CATALOGUE, bootstrap=0).parameters


@pytest.mark.parametrize("name", sorted(TRUTH))
def test_exact_data_of_the_law_give_its_coefficients_back(exact: dict[str, float], name: str) -> None:
    assert exact[name] == pytest.approx(TRUTH[name], rel=0.1)


def test_with_five_percent_noise_the_identified_coefficients_are_near_and_the_forecasts_good() -> None:
    table = measured(CATALOGUE, noise=0.05, seed=4)
    fitted = fit_law("roofline", table, CATALOGUE, bootstrap=40)
    shared = [c for c in fitted.coefficients if f"{c.target}.{c.name}" in TRUTH]
    identified = [c for c in shared if c.identified]
    assert {"eta_flop_reduced", "kernel_s", "eta_link"} <= {c.name for c in identified}
    inside = [c.low / 1.1 <= TRUTH[f"{c.target}.{c.name}"] <= c.high * 1.1 for c in identified]
    assert np.mean(inside) >= 0.8
    clean = measured(CATALOGUE)
    forecast = fitted.predict(clean)
    assert np.abs(forecast["predicted_duration_s"] / clean["duration_s"] - 1).mean() < 0.03
    assert np.abs(forecast["predicted_energy_j"] / clean["energy_j"] - 1).mean() < 0.03
    inside_rows = clean["energy_j"].between(forecast["energy_low_j"], forecast["energy_high_j"])
    assert inside_rows.mean() > 0.9


def test_what_the_rows_cannot_tell_is_called_unidentified() -> None:
    """Single devices say nothing of links, groups and sharding; those keep the prior's value and its width."""
    table = measured(CATALOGUE, noise=0.02)
    single = table[table["strategy"] == "single"]
    found = {c.name: c for c in fit_law("roofline", single, CATALOGUE, bootstrap=40).coefficients}
    for name in ("eta_link", "collective_s", "group_s", "fsdp_layer_s", "zero_layer_s", "kappa_link"):
        assert not found[name].identified
        assert found[name].high / found[name].low > 4
    assert found["kernel_s"].identified


def test_sixteen_rows_of_one_device_fit_sanely() -> None:
    table = measured(CATALOGUE, noise=0.03, devices=DEVICES[1:], most=16)
    fitted = fit_law("roofline", table, CATALOGUE, bootstrap=20)
    forecast = fitted.predict(table)
    assert np.abs(np.log(forecast["predicted_duration_s"] / table["duration_s"])).max() < 0.2
    assert all(np.isfinite(c.value) and c.value > 0 for c in fitted.coefficients)


def test_a_forecast_does_not_change_by_one_bit_when_everything_measured_does() -> None:
    table = measured(CATALOGUE, noise=0.05)
    for name in ("roofline", "reduced_form"):
        fitted = fit_law(name, table, CATALOGUE, bootstrap=5)
        plain = fitted.predict(table)
        post_run = ["duration_s", "energy_j", "verdict", "meter", "meter_kind", "split"]
        deleted = fitted.predict(table.drop(columns=post_run))
        rng = np.random.default_rng(1)
        spoilt = table.assign(
            duration_s=rng.permutation(table["duration_s"]) * 7,
            energy_j=np.nan,
            verdict="invalid",
            parallel_efficiency=0.01,
            step_s_median=99.0,
            peak_memory_bytes=1,
            num_parameters=1,
        )
        pd.testing.assert_frame_equal(plain, deleted, check_exact=True)
        pd.testing.assert_frame_equal(plain, fitted.predict(spoilt), check_exact=True)


def test_a_device_that_was_never_measured_is_forecast_from_its_data_sheet_and_marked() -> None:
    table = measured(CATALOGUE, devices=DEVICES)
    fitted = fit_law("roofline", table, CATALOGUE, bootstrap=10)
    unseen = measured(CATALOGUE, devices=("Tesla V100-SXM2-16GB",))
    forecast = fitted.predict(unseen)
    assert (forecast["extrapolates"] == "gpu_model").all()
    # Where two hosts were slow, the next is expected to be less so: not the truth of these, and inside the interval.
    assert np.abs(np.log(forecast["predicted_energy_j"] / unseen["energy_j"])).max() < 0.25
    assert unseen["energy_j"].between(forecast["energy_low_j"], forecast["energy_high_j"]).all()
    inside = fitted.predict(table)
    width = forecast["energy_high_j"] / forecast["energy_low_j"]
    assert width.min() > (inside["energy_high_j"] / inside["energy_low_j"]).max()


def test_what_was_fitted_on_one_device_alone_claims_no_better_than_a_factor_of_two_on_another() -> None:
    fitted = fit_law("roofline", measured(CATALOGUE, devices=("Tesla T4",)), CATALOGUE, bootstrap=0)
    assert "new gpu_model" in fitted.widths.method
    forecast = fitted.predict(configurations(devices=("NVIDIA A100-SXM4-40GB",)))
    assert (forecast["energy_high_j"] / forecast["predicted_energy_j"]).min() >= 2.0 * (1 - 1e-9)


def test_without_a_fit_there_is_a_forecast_as_wide_as_the_guess() -> None:
    table = configurations()
    forecast = a_priori(CATALOGUE).predict(table)
    reality = truth(CATALOGUE).predict(table)
    assert reality["predicted_duration_s"].between(forecast["duration_low_s"], forecast["duration_high_s"]).all()
    assert (forecast["duration_high_s"] / forecast["duration_low_s"]).min() > 3
    assert (forecast["extrapolates"] != "").all()


def test_host_power_is_zero_where_the_boundary_is_the_device_and_fitted_where_it_is_not() -> None:
    table = measured(CATALOGUE)
    law = fit_law("roofline", table, CATALOGUE, bootstrap=0)
    assert not any(name.startswith("energy.host_w") for name in law.parameters)
    host = table.assign(boundary="node_ac", energy_j=table["energy_j"] + 80.0 * table["duration_s"])
    with_host = fit_law("roofline", host, CATALOGUE, bootstrap=0)
    assert with_host.parameters["energy.host_w[node_ac]"] == pytest.approx(80, rel=0.1)


def test_a_device_without_a_power_limit_takes_the_power_its_trials_drew_and_says_so() -> None:
    spec = replace(CATALOGUE.get("Tesla T4"), name="Some CPU (1 core)", aliases=(), power_limit_w=None)
    catalogue = Catalogue({**CATALOGUE.devices, spec.name: spec})
    table = measured(CATALOGUE, devices=("Tesla T4",)).assign(gpu_model=spec.name)
    table["energy_j"] = 12.0 * table["gpu_count"] * table["duration_s"]
    fitted = fit_law("roofline", table, catalogue, bootstrap=0)
    assert "12 W" in fitted.notes[0]
    forecast = fitted.predict(table)
    watts = forecast["predicted_energy_j"] / forecast["predicted_duration_s"] / table["gpu_count"]
    np.testing.assert_allclose(watts, 12.0, rtol=0.05)
    assert a_priori(catalogue).predict(table)["predicted_energy_j"].isna().all()


def test_device_coefficients_are_the_shared_ones_times_the_data_sheet() -> None:
    fitted = fit_law("roofline", measured(CATALOGUE), CATALOGUE, bootstrap=0)
    named = {c.name: c for c in fitted.coefficients}
    spec = CATALOGUE.get("Tesla T4")
    assert spec.power_limit_w is not None
    static_w = named["kappa_static"].value * named["static[Tesla T4]"].value * spec.power_limit_w
    assert named["static_w[Tesla T4]"].value == pytest.approx(static_w)
    dynamic = named["kappa_flop"].value * named["dynamic[Tesla T4]"].value
    per_flop = dynamic * spec.power_limit_w / spec.peak("fp16")
    assert named["flop_j[Tesla T4, fp16]"].value == pytest.approx(per_flop)


def test_the_same_table_gives_the_same_law() -> None:
    table = measured(CATALOGUE, noise=0.05)
    first, second = (fit_law("roofline", table, CATALOGUE, bootstrap=5, seed=3) for _ in range(2))
    assert first.parameters == second.parameters
    assert first.coefficients == second.coefficients


def test_a_forecast_for_another_boundary_of_a_mixed_law_must_be_stated() -> None:
    table = measured(CATALOGUE)
    mixed = pd.concat([table, table.assign(trial_id="n" + table["trial_id"], boundary="node_ac")])
    fitted = fit_law("roofline", mixed, CATALOGUE, bootstrap=0, allow_mixed_meters=True)
    with pytest.raises(InputError, match="boundary"):
        fitted.predict(configurations())
    assert (fitted.predict(configurations().assign(boundary="gpu"))["predicted_energy_j"] > 0).all()


def test_starting_near_or_far_gives_the_same_fit() -> None:
    rows = rows_of(measured(CATALOGUE, noise=0.05))
    law = Roofline()
    far = law.fit(rows).parameters
    near = law.fit(rows, start=truth(CATALOGUE).parameters).parameters
    for name in ("duration.eta_flop_reduced", "duration.kernel_s", "energy.kappa_static"):
        assert near[name] == pytest.approx(far[name], rel=1e-2)


def test_a_power_limit_below_the_default_slows_busy_work_and_saves_energy_on_it() -> None:
    table = configurations(devices=("Tesla V100-SXM2-16GB",)).query("gpu_count == 1")
    law = truth(CATALOGUE)
    free, capped = (law.predict(table.assign(power_limit_w=watts)) for watts in (300.0, 180.0))
    slower = capped["predicted_duration_s"] / free["predicted_duration_s"]
    assert slower.iloc[-1] > 1.15  # 24 layers of width 1024: the device is busy
    assert slower.iloc[0] < 1.05  # 2 layers of width 128: the host is
    assert capped["predicted_energy_j"].iloc[-1] < free["predicted_energy_j"].iloc[-1]


def test_every_forecast_names_its_boundary_and_an_unknown_link_is_told_and_widened() -> None:
    fitted = fit_law("roofline", measured(CATALOGUE, noise=0.03), CATALOGUE, bootstrap=0)
    asked = configurations().query("gpu_count == 2")
    plain, slow = fitted.predict(asked), fitted.predict(asked.assign(link_bytes_per_s=1e8))
    assert (plain["boundary"] == "gpu").all()
    assert (plain["extrapolates"] == "").all()
    assert slow["extrapolates"].str.fullmatch(r"link_bytes_per_s 1e\+08 < [0-9.e+]+").all()
    assert (slow["duration_high_s"] / slow["duration_low_s"]).min() > (
        plain["duration_high_s"] / plain["duration_low_s"]
    ).max()
    alone = configurations().query("gpu_count == 1").assign(link_bytes_per_s=1e8)
    assert (fitted.predict(alone)["extrapolates"] == "").all()


def test_the_slopes_of_both_forecasts_are_those_of_finite_differences() -> None:
    fitted = fit_law("roofline", measured(CATALOGUE, noise=0.03), CATALOGUE, bootstrap=0)
    rows = rows_of(configurations().iloc[::7])
    names, slopes = fitted.law.slopes(fitted.parameters, rows)
    others, numeric = numeric_slopes(fitted.law, fitted.parameters, rows)
    for target in ("duration", "energy"):
        expected = numeric[target][:, [others.index(name) for name in names]]
        np.testing.assert_allclose(slopes[target], expected, atol=2e-4)


@pytest.mark.parametrize("watts", [300.0, 250.0, 200.0, 150.0, 120.0, 100.0])
def test_under_a_limit_a_device_draws_less_and_not_far_above_it(watts: float) -> None:
    """The clock is that of a device which is busy all the time; how much this one draws is the law's to say."""
    table = configurations(devices=("Tesla V100-SXM2-16GB",)).query("gpu_count == 1")
    forecast = truth(CATALOGUE).predict(table.assign(power_limit_w=watts))
    free = truth(CATALOGUE).predict(table.assign(power_limit_w=300.0))
    drawn, before = (each["predicted_energy_j"] / each["predicted_duration_s"] for each in (forecast, free))
    assert (drawn <= before * (1 + 1e-9)).all()
    assert (drawn <= 1.2 * watts).all()


def test_a_boundary_that_the_law_was_not_fitted_on_is_refused() -> None:
    fitted = fit_law("roofline", measured(CATALOGUE), CATALOGUE, bootstrap=0)
    with pytest.raises(InputError, match="node_ac"):
        fitted.predict(configurations().assign(boundary="node_ac"))
