"""P1's law: equal to statsmodels on the same columns, exact on its own data, candid about what it cannot tell."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from sklearn.linear_model import LinearRegression

from joulelaw import InputError
from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import case_folds
from joulelaw.model.laws import Rows, fit_law
from joulelaw.model.laws.reduced_form import form_terms
from joulelaw.model.laws.reduced_form_efficiency import (
    CANDIDATES,
    Predictor,
    best_predictor,
    forecast_log_h,
    measured_log_h,
    predictor_of,
    predictors,
)
from joulelaw.model.laws.reduced_form_terms import design
from joulelaw.model.tables import CASE_COLUMNS, check_measurements, key
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()


def proxies(table: pd.DataFrame) -> pd.DataFrame:
    """P1's columns, written down from the paper; synthetic trials have as many data-parallel ranks as devices."""
    tokens = table["micro_steps"] * table["micro_batch_size"] * table["sequence_length"] * table["gpu_count"]
    size = table["num_layers"] * table["hidden_size"]
    single = table[table["gpu_count"] == 1].set_index(key(table[table["gpu_count"] == 1], CASE_COLUMNS))["duration_s"]
    t1 = key(table, CASE_COLUMNS).map(single)
    return table.assign(
        log_C=np.log(tokens * 20 * size * table["hidden_size"]),
        log_M=np.log(table["micro_batch_size"] * table["sequence_length"] * size),
        log_h=np.log(t1 * table["gpu_count"] / (table["gpu_count"] * table["duration_s"])),
        fsdp=(table["strategy"] == "fsdp").astype(float),
        case=key(table, CASE_COLUMNS),
    )


def coefficients(table: pd.DataFrame, law: str, target: str) -> pd.DataFrame:
    fitted = fit_law(law, table, CATALOGUE, bootstrap=0)
    rows = [(c.name, c.value, c.low, c.high) for c in fitted.coefficients if c.target == target]
    return pd.DataFrame(rows, columns=["name", "value", "low", "high"]).set_index("name")


@pytest.mark.parametrize("target", ["energy", "duration"])
def test_post_run_it_is_statsmodels_least_squares_with_cluster_robust_errors(target: str) -> None:
    table = proxies(measured(CATALOGUE, noise=0.1))
    ours = coefficients(table.drop(columns=["case"]), "reduced_form_post_run", target)
    column = "energy_j" if target == "energy" else "duration_s"
    model = smf.ols(f"np.log({column}) ~ log_C + log_M + log_h + fsdp", table)
    theirs = model.fit(cov_type="cluster", cov_kwds={"groups": table["case"].astype("category").cat.codes}, use_t=True)
    np.testing.assert_allclose(ours["value"], theirs.params, rtol=1e-7)
    np.testing.assert_allclose(ours[["low", "high"]], theirs.conf_int(), rtol=1e-6)


def test_data_of_its_own_form_give_the_exponents_back() -> None:
    table = proxies(measured(CATALOGUE))
    exact = np.exp(1.0 + 0.05 * table["log_C"] + 0.4 * table["log_M"] - 1.1 * table["log_h"] - 0.3 * table["fsdp"])
    found = coefficients(table.assign(energy_j=exact).drop(columns="case"), "reduced_form_post_run", "energy")["value"]
    np.testing.assert_allclose(found, [1.0, 0.05, 0.4, -1.1, -0.3], rtol=1e-6)


def test_pre_run_one_device_has_efficiency_one_and_groups_a_forecast_one() -> None:
    table = measured(CATALOGUE, noise=0.02)
    fitted = fit_law("reduced_form", table, CATALOGUE, bootstrap=0)
    names = {c.name for c in fitted.coefficients if c.target == "efficiency"}
    assert {"log_gpu_count", "log_C", "log_M"} <= names
    without = table.drop(columns=["duration_s", "energy_j"])
    forecast = fitted.predict(without)
    assert (forecast["predicted_energy_j"] > 0).all()
    # The efficiency's own terms move groups and leave single devices alone.
    moved = {**fitted.parameters, "efficiency.intercept": fitted.parameters["efficiency.intercept"] - 1.0}
    rows = Rows.of(check_measurements(table), CATALOGUE)
    before = fitted.law.forecast(fitted.parameters, rows).energy_j
    after = fitted.law.forecast(moved, rows).energy_j
    assert ((before == after) == (table["gpu_count"] == 1)).all()


def test_with_one_strategy_the_efficiency_is_dropped_and_named() -> None:
    table = measured(CATALOGUE)
    table = table[table["strategy"] == "single"]
    for law in ("reduced_form", "reduced_form_post_run"):
        fitted = fit_law(law, table, CATALOGUE, bootstrap=0)
        assert any("log_h" in note for note in fitted.notes)
        dropped = [c for c in fitted.coefficients if c.name == "log_h"]
        assert all(not c.identified and c.value == 0.0 for c in dropped)
        assert np.isfinite(fitted.predict(table)["predicted_energy_j"]).all()


def test_fewer_rows_than_coefficients_are_refused() -> None:
    with pytest.raises(InputError, match="4 trials cannot fix 5 coefficients"):
        fit_law("reduced_form", measured(CATALOGUE, most=4), CATALOGUE, bootstrap=0)


def test_a_resample_without_groups_drops_the_terms_of_efficiency() -> None:
    """One case alone has groups, so that bootstrap draws over cases often hold none."""
    table = measured(CATALOGUE, noise=0.05)
    cases = key(table, CASE_COLUMNS)
    table = table[(table["gpu_count"] == 1) | (cases == cases.iloc[0])]
    fitted = fit_law("reduced_form", table, CATALOGUE, bootstrap=30)
    assert np.isfinite(fitted.predict(table)["predicted_duration_s"]).all()
    assert np.isfinite(fitted.covariance).all()


def grouped_rows() -> Rows:
    return Rows.of(check_measurements(measured(CATALOGUE, noise=0.05)), CATALOGUE)


def test_the_forecast_of_h_is_one_of_those_listed_and_said_in_the_notes() -> None:
    fitted = fit_law("reduced_form", measured(CATALOGUE, noise=0.05), CATALOGUE, bootstrap=0)
    (note,) = [note for note in fitted.notes if "is forecast from" in note]
    assert any(f"from {label}:" in note for label in CANDIDATES)


def test_the_chosen_forecast_of_h_misses_unseen_cases_least() -> None:
    """By scikit-learn's regression on the same columns and folds."""
    rows = grouped_rows()
    names, y, measured_h = form_terms(rows), np.log(rows.column("energy_j")), measured_log_h(rows)
    missed = {}
    for one in predictors(rows):
        X = design(rows, names, one.cross_fitted(rows, measured_h))[:, 1:]
        parts = [
            ((y[m] - LinearRegression().fit(X[~m], y[~m]).predict(X[m])) ** 2).sum() for m in case_folds(rows.cases, 10)
        ]
        missed[one.label] = sum(parts)
    assert best_predictor(rows, names, measured_h).label == min(missed, key=missed.__getitem__)


def test_no_row_sees_its_own_case_in_its_cross_fitted_h() -> None:
    rows = grouped_rows()
    one = predictors(rows)[0]
    before = one.cross_fitted(rows, measured_log_h(rows))
    case = np.array(rows.cases) == rows.cases[5]
    slower = np.where(case & (rows.column("gpu_count") > 1), 3.0, 1.0)
    slowed = Rows(rows.table.assign(duration_s=rows.table["duration_s"] * slower), rows.counts)
    after = one.cross_fitted(slowed, measured_log_h(slowed))
    np.testing.assert_array_equal(before[case], after[case])
    assert not np.allclose(before[~case], after[~case])


def test_a_table_with_its_own_h_has_both_meanings_tried() -> None:
    """The efficiency per token is told from an own, un-normalised column, and a law file keeps which one it was."""
    rows = grouped_rows()
    assert {one.kind for one in predictors(rows)} == {"efficiency"}
    own = Rows(rows.table.assign(parallel_efficiency=1.0), rows.counts)
    assert {one.kind for one in predictors(own)} == {"efficiency", "throughput_efficiency"}
    for one in predictors(own):
        parameters = {f"{one.kind}.{name}": 0.5 for name in one.terms}
        assert predictor_of(parameters) == Predictor(one.kind, one.terms)
        assert (forecast_log_h(parameters, own)[own.column("gpu_count") == 1] == 0).all()


def test_products_of_terms_are_products_of_their_columns() -> None:
    rows = grouped_rows()
    names = ["log_gpu_count", "strategy[fsdp]", "log_gpu_count*strategy[fsdp]", "gpu_model[a*b]"]
    count, fsdp, both, odd = design(rows, names, np.zeros(len(rows))).T
    np.testing.assert_array_equal(both, count * fsdp)
    assert (odd == 0).all()
