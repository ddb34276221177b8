"""Joules that their meter calls uncertain count for less in the fit of the roofline; seconds as before."""

import numpy as np
import pandas as pd
import pytest

from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import Rows
from joulelaw.model.laws.roofline_sharpness import sharpness
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()
TRUE = measured(CATALOGUE, most=60)


def fitted_error(table: pd.DataFrame) -> float:
    """Of the law's joules, against the truth's: the root mean square of the log."""
    law = fit_law("roofline", table, CATALOGUE, bootstrap=0)
    forecast = law.predict(TRUE)["predicted_energy_j"].to_numpy()
    return float(np.sqrt(np.mean(np.log(forecast / TRUE["energy_j"].to_numpy()) ** 2)))


def test_uncertain_joules_weigh_less_when_they_say_so() -> None:
    """Two of three rows with errors of 40 %, over ten draws: told of them, the law is nearer to the truth."""
    untold, told = [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        doubt = np.where(np.arange(len(TRUE)) % 3 > 0, 0.4, 0.01)
        drawn = TRUE["energy_j"] * np.exp(rng.normal(0, doubt))
        table = TRUE.assign(energy_j=drawn)
        untold.append(fitted_error(table))
        told.append(fitted_error(table.assign(energy_stderr_j=doubt * drawn)))
    assert np.mean(told) < 0.6 * np.mean(untold)


def test_one_row_s_residual_counts_by_the_law_s_share_of_its_variance() -> None:
    """With the law's own error expected at 5 %, one of 5 % more halves a row's weight; none leaves it whole."""
    table = TRUE.iloc[:3].assign(boundary="gpu", energy_stderr_j=[0.0, np.nan, np.nan])
    table.loc[table.index[2], "energy_stderr_j"] = 0.05 * table["energy_j"].iloc[2]
    rows = Rows.of(check_configurations(table), CATALOGUE)
    assert sharpness(rows) ** 2 == pytest.approx([1.0, 1.0, 0.5])


def test_seconds_do_not_depend_on_what_is_said_of_joules() -> None:
    plain = fit_law("roofline", TRUE, CATALOGUE, bootstrap=0)
    table = TRUE.assign(energy_stderr_j=0.2 * TRUE["energy_j"])
    doubted = fit_law("roofline", table, CATALOGUE, bootstrap=0)
    seconds = [law.predict(TRUE)["predicted_duration_s"] for law in (plain, doubted)]
    pd.testing.assert_series_equal(*seconds)
