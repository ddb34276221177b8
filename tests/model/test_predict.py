"""A table is forecast row by row: whatever the blocks, the order, the rows beside and the columns' types."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from joulelaw.model import blocks
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw, Rows
from tests.model.synthetic import DEVICES, configurations, measured

STRATEGIES = (("single", 1), ("ddp", 2), ("fsdp", 4), ("zero1", 2), ("zero3", 4), ("tp", 2), ("fsdp_tp", 4))


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    catalogue = Catalogue.load()
    return fit_law("roofline", measured(catalogue, 0.02, most=60), catalogue, bootstrap=0)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """Inside and outside of what was fitted: every strategy, a new device, both families, deeper models, limits."""
    parts = []
    for k, (strategy, gpus) in enumerate(STRATEGIES):
        part = configurations((*DEVICES, "NVIDIA A30")).drop(columns="trial_id")
        part["num_layers"] += 3 * k
        parts.append(part.assign(strategy=strategy, gpu_count=gpus, model_family=["bert", "gpt2"][k % 2]))
    whole = pd.concat(parts, ignore_index=True)
    whole["power_limit_w"] = np.where(np.arange(len(whole)) % 5 == 0, 60.0, np.nan)
    return whole


def test_parts_order_and_repeats_change_no_forecast(law: FittedLaw, table: pd.DataFrame) -> None:
    whole = law.predict(table)
    assert set(whole["extrapolates"] == "") == {True, False}
    rng = np.random.default_rng(0)
    for rows in (np.arange(40), rng.permutation(len(table)), rng.integers(len(table), size=300)):
        _assert_same(law.predict(table.iloc[rows]), whole.iloc[rows])


def test_blocks_change_no_forecast(law: FittedLaw, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = law.predict(table)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 97)
    _assert_same(law.predict(table), whole)


def test_rows_that_repeat_are_forecast_once_each_and_told_apart_by_every_column(
    law: FittedLaw, table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecast: list[int] = []
    whole_rows = FittedLaw.predict_rows

    def counting(self: FittedLaw, rows: Rows, *, power: bool = False) -> pd.DataFrame:
        forecast.append(len(rows))
        return whole_rows(self, rows, power=power)

    monkeypatch.setattr(FittedLaw, "predict_rows", counting)
    one = table.iloc[[0]].assign(boundary="gpu")
    changes = {"gpu_model": "NVIDIA A30", "micro_batch_size": 64, "power_limit_w": 200.0, "precision": "fp32"}
    distinct = pd.concat([one, *(one.assign(**{name: value}) for name, value in changes.items())], ignore_index=True)
    rows = np.random.default_rng(0).integers(len(distinct), size=3000)
    repeated = law.predict(distinct.iloc[rows].reset_index(drop=True))
    assert forecast == [len(distinct)]
    each = pd.concat([law.predict(distinct.iloc[[k]]) for k in range(len(distinct))], ignore_index=True)
    assert each["predicted_duration_s"].nunique() == len(distinct)
    _assert_same(repeated, each.iloc[rows].reset_index(drop=True))


def test_a_table_is_left_as_it_was(law: FittedLaw, table: pd.DataFrame) -> None:
    given = table.iloc[::-1]
    before = given.copy(deep=True)
    assert list(law.predict(given).index) == list(before.index)
    pd.testing.assert_frame_equal(given, before)


def test_texts_may_be_strings_objects_or_categories(law: FittedLaw, table: pd.DataFrame) -> None:
    texts = ["gpu_model", "strategy", "model_family", "precision"]
    whole = law.predict(table)
    for kind in ("object", "category"):
        _assert_same(law.predict(table.astype(dict.fromkeys(texts, kind))), whole)


def _assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, rtol=1e-12, atol=0.0)


def test_power_is_told_only_where_asked_for_and_where_the_law_was_fitted_with_it(
    law: FittedLaw, table: pd.DataFrame
) -> None:
    plain, asked = law.predict(table), law.predict(table, power=True)
    pd.testing.assert_frame_equal(asked.drop(columns="average_power_factor"), plain)
    inside = (asked["extrapolates"] == "").to_numpy()
    assert (asked["average_power_factor"] > 1).all()
    assert asked["average_power_factor"][inside].max() < asked["average_power_factor"][~inside].max()
    half = {axis: {name: each[name] for name in ("duration", "energy")} for axis, each in law.widths.half.items()}
    older = replace(law, widths=replace(law.widths, half=half))
    assert older.predict(table, power=True)["average_power_factor"].isna().all()
