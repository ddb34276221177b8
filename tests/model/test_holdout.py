"""Hold-outs are whole groups, drawn by rule and seed alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw import InputError
from joulelaw.model.holdout import draw_hold_out, folds, group_of, hold_out_hash
from tests.model.synthetic import configurations

PLAN = configurations()
SIZES = pd.Series(np.arange(len(PLAN), dtype=float))


@settings(max_examples=30, deadline=None)
@given(
    by=st.sampled_from(["case", "workload", "configuration", "gpu_model", "strategy", "gpu_count"]),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 10_000),
)
def test_a_hold_out_never_splits_a_group_and_leaves_something_to_fit(by: str, fraction: float, seed: int) -> None:
    split = draw_hold_out(PLAN, by, fraction, seed)
    sides = pd.Series(split.to_numpy()).groupby(group_of(PLAN, by)).nunique()
    assert (sides == 1).all()
    assert set(split) == {"fit", "hold_out"}


def test_strategies_and_counts_of_a_case_stay_together() -> None:
    cases = group_of(PLAN, "case")
    assert cases.nunique() == len(PLAN) // 3
    assert PLAN.groupby(cases)["strategy"].nunique().eq(2).all()


def test_the_draw_is_the_same_whatever_the_order_of_rows_and_the_number_of_repeats() -> None:
    split = draw_hold_out(PLAN, "case", 0.3, seed=7)
    shuffled = draw_hold_out(PLAN.sample(frac=1, random_state=1), "case", 0.3, seed=7)
    twice = pd.concat([PLAN, PLAN.assign(trial_id=PLAN["trial_id"] + "-again")])
    repeated = draw_hold_out(twice, "case", 0.3, seed=7)
    assert shuffled.loc[split.index].equals(split)
    assert repeated.loc[split.index].equals(split)
    assert hold_out_hash(shuffled) == hold_out_hash(split)


def test_another_seed_draws_another_hold_out_and_hash() -> None:
    assert hold_out_hash(draw_hold_out(PLAN, "case", 0.3, 1)) != hold_out_hash(draw_hold_out(PLAN, "case", 0.3, 2))


def test_the_fraction_is_that_of_the_groups() -> None:
    held = draw_hold_out(PLAN, "case", 0.25, seed=0) == "hold_out"
    assert held.mean() == pytest.approx(0.25)


def test_no_measurement_is_looked_at() -> None:
    spoilt = PLAN.assign(duration_s=np.nan, energy_j=-1.0)
    assert draw_hold_out(spoilt, "case", 0.3, 0).equals(draw_hold_out(PLAN, "case", 0.3, 0))


@pytest.mark.parametrize(("by", "fraction"), [("gpu_size", 0.3), ("case", 0.0), ("case", 1.0), ("model_family", 0.3)])
def test_a_rule_that_cannot_be_followed_is_refused(by: str, fraction: float) -> None:
    with pytest.raises(InputError):
        draw_hold_out(PLAN, by, fraction)


def test_leaving_out_a_category_gives_one_fold_a_value() -> None:
    names = [fold.name for fold in folds(PLAN, "gpu_count", SIZES)]
    assert names == ["gpu_count=1", "gpu_count=2", "gpu_count=4"]
    for fold in folds(PLAN, "gpu_count", SIZES):
        assert PLAN["gpu_count"][fold.test].nunique() == 1
        assert not set(PLAN["gpu_count"][fold.test]) & set(PLAN["gpu_count"][fold.fit])


def test_size_folds_test_beyond_what_they_fit() -> None:
    up, down = folds(PLAN, "size", SIZES)
    assert SIZES[up.test].min() > SIZES[up.fit].max()
    assert SIZES[down.test].max() < SIZES[down.fit].min()


def test_the_drawn_split_is_used_as_it_was_drawn() -> None:
    split = draw_hold_out(PLAN, "case", 0.3, 0).to_numpy()
    (fold,) = folds(PLAN.assign(split=split), "split", SIZES)
    assert (fold.test == (split == "hold_out")).all()
    with pytest.raises(InputError, match="no drawn split"):
        folds(PLAN, "split", SIZES)
