"""A bad measurement table is refused with the row and the column that are wrong."""

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.model.tables import (
    CASE_COLUMNS,
    CONFIGURATION_COLUMNS,
    check_configurations,
    check_measurements,
    content_hash,
    meters_of,
)
from tests.model.synthetic import configurations


@pytest.fixture
def table() -> pd.DataFrame:
    return configurations(most=8).assign(
        duration_s=10.0, energy_j=500.0, boundary="gpu", meter="nvml", meter_kind="measured", verdict="valid"
    )


def test_case_and_columns_are_those_of_the_dataset() -> None:
    """The two packages state them apart, as the model may not import the bench."""
    assert set(CASE_COLUMNS) < set(CONFIGURATION_COLUMNS) <= set(TRIALS.names)


def test_a_good_table_passes_with_whole_number_counts(table: pd.DataFrame) -> None:
    as_floats = table.astype({"num_layers": float, "gpu_count": float})
    checked = check_measurements(as_floats)
    assert checked["num_layers"].dtype == np.int64
    assert len(checked) == len(table)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("energy_j", np.nan, "energy_j"),
        ("energy_j", 0.0, "energy_j must be a positive number"),
        ("energy_j", -5.0, "energy_j must be a positive number"),
        ("duration_s", np.inf, "duration_s must be a positive number"),
        ("duration_s", np.nan, "duration_s"),
        ("micro_steps", 0, "micro_steps must be at least 1"),
        ("num_layers", 2.5, "num_layers must be a whole number"),
        ("num_layers", "six", "num_layers is not a number"),
        ("strategy", None, "strategy is empty"),
        ("boundary", None, "boundary is empty"),
        ("trial_id", "t000", "trial_id occurs twice"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_its_row(
    table: pd.DataFrame, column: str, value: object, message: str
) -> None:
    values = table[column].astype(object)
    values.iloc[5] = value
    with pytest.raises(InputError, match=message) as refusal:
        check_measurements(table.assign(**{column: values}))
    assert "row 6" in str(refusal.value), "as people count"


def test_missing_columns_are_all_named(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="num_heads, precision"):
        check_configurations(table.drop(columns=["num_heads", "precision"]))
    with pytest.raises(InputError, match="energy_j"):
        check_measurements(table.drop(columns="energy_j"))


def test_invalid_and_failed_trials_are_left_out_and_unjudged_ones_refused(table: pd.DataFrame) -> None:
    table = table.assign(status="done")
    table.loc[0, "verdict"] = "invalid"
    table.loc[0, "energy_j"] = np.nan
    table.loc[1, "status"] = "failed"
    table.loc[1, "verdict"] = None
    assert list(check_measurements(table)["trial_id"]) == list(table["trial_id"][2:])
    table.loc[2, "verdict"] = None
    with pytest.raises(InputError, match="no verdict, first t002"):
        check_measurements(table)


def test_no_valid_trial_at_all_is_said(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="no valid trials"):
        check_measurements(table.assign(verdict="invalid"))


@pytest.mark.parametrize("column", ["boundary", "meter", "meter_kind"])
def test_mixed_meters_and_boundaries_need_the_explicit_switch(table: pd.DataFrame, column: str) -> None:
    table.loc[3, column] = "other"
    with pytest.raises(InputError, match="mixed"):
        check_measurements(table)
    assert len(check_measurements(table, allow_mixed_meters=True)) == len(table)


def test_a_table_that_does_not_name_its_meter_says_unstated(table: pd.DataFrame) -> None:
    assert meters_of(table.drop(columns=["meter", "meter_kind"])) == (("unstated", "unstated"),)


def test_the_content_hash_is_that_of_the_measurements_not_of_their_order(table: pd.DataFrame) -> None:
    assert content_hash(table) == content_hash(table.iloc[::-1].assign(extra=1))
    changed = table.copy()
    changed.loc[2, "energy_j"] = np.nextafter(500.0, 501.0)
    assert content_hash(table) != content_hash(changed)
