"""No forecast sees what is only known after a run: shuffled, changed or deleted, it moves no bit of any forecast."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw.model.baselines import BASELINES
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import LAWS, Rows, fit_law
from joulelaw.model.tables import PRE_RUN_COLUMNS, check_measurements
from joulelaw.model.validation import validate
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()
FORECAST = ["predicted", "low", "high", "extrapolates"]
# What a dataset or an imported table may have beside the two that are forecast.
AFTERWARDS = {
    "parallel_efficiency": 0.7,
    "repeats": 2.0,
    "energy_net_j": 50.0,
    "energy_stderr_j": 1.0,
    "energy_trace_j": 60.0,
    "mean_power_w": 200.0,
    "step_s_median": 0.1,
    "peak_memory_bytes": 1e9,
}
MEASURED = ["duration_s", "energy_j", *AFTERWARDS]


def table_with_all() -> pd.DataFrame:
    table = measured(CATALOGUE, noise=0.05, most=60)
    rng = np.random.default_rng(3)
    return table.assign(**{name: value * rng.uniform(0.5, 1.5, len(table)) for name, value in AFTERWARDS.items()})


TABLE = table_with_all()
HELD = TABLE["split"] == "hold_out"
FITTED = {name: fit_law(name, TABLE[~HELD], CATALOGUE, bootstrap=2) for name in ("roofline", "reduced_form")}


def shuffled(rng: np.random.Generator) -> pd.DataFrame:
    spoilt = TABLE.copy()
    for name in MEASURED:
        spoilt.loc[HELD, name] = rng.permutation(spoilt.loc[HELD, name])
    return spoilt


def changed(rng: np.random.Generator) -> pd.DataFrame:
    spoilt = TABLE.copy()
    for name in MEASURED:
        spoilt.loc[HELD, name] = rng.lognormal(0, 5, int(HELD.sum()))
    return spoilt


def emptied(rng: np.random.Generator) -> pd.DataFrame:
    """Joules and seconds stay, as there is nothing to score without; the rest is gone."""
    spoilt = changed(rng)
    spoilt.loc[HELD, list(AFTERWARDS)] = np.nan
    return spoilt


@pytest.fixture(scope="module")
def before() -> pd.DataFrame:
    return validate(TABLE, CATALOGUE, hold_out="split").predictions


@pytest.mark.parametrize("spoil", [shuffled, changed, emptied])
def test_validate_forecasts_the_same_bits_whatever_the_held_out_trials_measured(
    before: pd.DataFrame, spoil: Callable[[np.random.Generator], pd.DataFrame]
) -> None:
    after = validate(spoil(np.random.default_rng(8)), CATALOGUE, hold_out="split").predictions
    pre_run = ~before["post_run"].astype(bool)
    assert set(before["law"][pre_run]) == {"roofline", "reduced_form", "constant", "trees"}
    pd.testing.assert_frame_equal(before[pre_run][FORECAST], after[pre_run][FORECAST], check_exact=True)
    # The post-run references do look, so that the test would see it if a forecast did.
    assert not np.allclose(before[~pre_run]["predicted"], after[~pre_run]["predicted"])


@pytest.mark.parametrize("law", FITTED)
def test_predict_gives_the_same_bits_without_any_measured_column(law: str) -> None:
    held = TABLE[HELD]
    whole = FITTED[law].predict(held)
    only = held[[name for name in PRE_RUN_COLUMNS if name in held]]
    pd.testing.assert_frame_equal(whole, FITTED[law].predict(only), check_exact=True)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), law=st.sampled_from(sorted(FITTED)))
def test_predict_gives_the_same_bits_whatever_is_written_in_measured_columns(data: st.DataObject, law: str) -> None:
    held = TABLE[HELD].copy()
    whole = FITTED[law].predict(held)
    for name in MEASURED:
        held[name] = data.draw(st.floats() | st.text(max_size=5) | st.none(), label=name)
    pd.testing.assert_frame_equal(whole, FITTED[law].predict(held), check_exact=True)


def test_a_row_to_forecast_has_no_measured_column_to_look_at() -> None:
    rows = Rows.of(check_measurements(TABLE), CATALOGUE).pre_run()
    for name in MEASURED:
        with pytest.raises(KeyError):
            rows.column(name)
    assert not set(rows.table.columns) & {*MEASURED, "split", "verdict", "trial_id"}
    assert not set(PRE_RUN_COLUMNS) & set(MEASURED)


@pytest.mark.parametrize("one", [*FITTED, *(name for name, b in BASELINES.items() if not b.post_run)])
def test_every_pre_run_contender_forecasts_rows_that_have_no_measured_column(one: str) -> None:
    rows = Rows.of(check_measurements(TABLE), CATALOGUE)
    if one in LAWS:
        forecast = LAWS[one].forecast(FITTED[one].parameters, rows.pre_run())
    else:
        forecast = BASELINES[one].fit(rows).forecast(rows.pre_run())
    assert np.isfinite([forecast.energy_j, forecast.duration_s]).all()
