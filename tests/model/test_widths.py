"""Half-widths: scaled by kind, conformal over cases, wider for sizes beyond those fitted, by forecast rows alone."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import Widths, conformal_half_width
from joulelaw.model.laws.base import Estimate, Forecast, Rows
from joulelaw.model.laws.widths import forecast_widths
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import configurations

CATALOGUE = Catalogue.load()


@dataclass(frozen=True)
class OneSecond:
    """A law that forecasts one second and one joule for all, but for rows on more devices than it can tell of."""

    most_gpus: int = 4
    post_run: bool = False

    def fit(self, rows: Rows, **_: Any) -> Estimate:
        return Estimate({})

    def forecast(self, _: Any, rows: Rows) -> Forecast:
        values = np.where(rows.column("gpu_count") <= self.most_gpus, 1.0, np.nan)
        return Forecast(duration_s=values, energy_j=values)


def rows_missed_by(missed: np.ndarray, joules_missed: np.ndarray | None = None) -> Rows:
    checked = check_configurations(configurations().assign(boundary="gpu"))
    joules = np.exp(missed if joules_missed is None else joules_missed)
    return Rows.of(checked.assign(duration_s=np.exp(missed), energy_j=joules), CATALOGUE)


def widths(missed: np.ndarray, most_gpus: int = 4) -> tuple[Widths, Rows]:
    rows = rows_missed_by(missed)
    law: Any = OneSecond(most_gpus)
    return forecast_widths(law, rows, Estimate({})), rows


def test_a_kind_that_is_missed_ten_times_as_far_has_wider_intervals_and_both_hold_their_rows() -> None:
    rng = np.random.default_rng(0)
    far = (configurations()["strategy"] == "fsdp").to_numpy()
    missed = np.where(far, 0.3, 0.03) * rng.normal(size=len(far))
    found, rows = widths(missed)
    half = found.of_cases(rows.table)["energy"]
    assert half[far].min() > 2 * half[~far].max()  # 20 rows a kind and 5 of all: a good part of the ten times
    for kind in (far, ~far):
        assert 0.9 <= np.mean(np.abs(missed[kind]) <= half[kind]) <= 1.0


def test_where_all_are_missed_alike_no_kind_is_told_apart_by_much() -> None:
    missed = 0.1 * np.random.default_rng(1).normal(size=len(configurations()))
    found, _ = widths(missed)
    # The 90 % quantile of 20 rows scatters by a quarter.
    assert 0.6 < min(found.ratios["energy"].values()) <= max(found.ratios["energy"].values()) < 1.6


def test_a_kind_on_a_new_device_takes_the_widest_of_its_family_and_strategy() -> None:
    found, rows = widths(np.where(configurations()["strategy"] == "fsdp", 0.4, 0.05))
    new = rows.table.assign(gpu_model="NVIDIA L4")
    np.testing.assert_allclose(found.of_cases(new)["energy"], found.of_cases(rows.table)["energy"])
    unknown = rows.table.assign(gpu_model="NVIDIA L4", strategy="tp")
    assert (found.of_cases(unknown)["energy"] == found.of_cases(rows.table)["energy"].max()).all()


def test_rows_that_are_not_forecast_narrow_no_interval() -> None:
    """They were missed by nothing that is known: counted as hits they would make every quantile smaller."""
    missed = np.random.default_rng(2).normal(size=len(configurations()))
    found, rows = widths(missed, most_gpus=1)
    size = rows.column("flop_per_micro_step")
    first, third = np.quantile(size, [0.25, 0.75])
    told = (rows.column("gpu_count") == 1) & ((size < first) | (size > third))
    expected, _ = conformal_half_width(missed[told], rows.take(told).cases)
    assert found.half["size"]["energy"] == pytest.approx(expected)


def test_sizes_beyond_a_quartile_get_what_such_were_missed_by() -> None:
    table = configurations()
    size = Rows.of(check_configurations(table.assign(boundary="gpu")), CATALOGUE).column("flop_per_micro_step")
    first, third = np.quantile(size, [0.25, 0.75])
    found, _ = widths(np.where((size < first) | (size > third), 0.5, 0.02))
    assert found.half["size"]["duration"] == pytest.approx(0.5)


def test_power_is_as_wide_as_energy_over_duration_is_missed_and_not_as_both_together() -> None:
    rng = np.random.default_rng(2)
    together, own = 0.3 * rng.normal(size=len(configurations())), 0.03 * rng.normal(size=len(configurations()))
    rows = rows_missed_by(together, together + own)
    law: Any = OneSecond()
    found = forecast_widths(law, rows, Estimate({}))
    half = found.of_cases(rows.table, ("duration", "energy", "power"))
    assert half["power"].max() < 0.3 * min(half["duration"].min(), half["energy"].min())
    assert 0.9 <= np.mean(np.abs(own) <= half["power"]) <= 1.0
    assert found.tells_power
