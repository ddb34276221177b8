"""Validation: what is forecast was not fitted, nothing measured leaks, and scores are those of the listed forecasts."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_percentage_error, r2_score

from joulelaw import InputError
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import group_of
from joulelaw.model.validation import Validation, validate
from tests.model.synthetic import DEVICES, measured

CATALOGUE = Catalogue.load()
TABLE = measured(CATALOGUE, noise=0.05, most=60)


@pytest.fixture(scope="module")
def by_split() -> Validation:
    return validate(TABLE, CATALOGUE, hold_out="split")


def test_every_law_and_baseline_is_scored_and_post_run_ones_are_labelled(by_split: Validation) -> None:
    post_run = {summary.law: summary.post_run for summary in by_split.summaries}
    assert post_run == {
        "roofline": False,
        "reduced_form": False,
        "reduced_form_post_run": True,
        "constant": False,
        "power_limit_x_time": True,
        "trees": False,
    }


def test_exactly_the_held_out_trials_are_forecast(by_split: Validation) -> None:
    held = set(TABLE["trial_id"][TABLE["split"] == "hold_out"])
    for _, part in by_split.predictions.groupby(["law", "target"]):
        assert set(part["trial_id"]) == held
        assert len(part) == len(held)


def test_the_scores_are_those_of_the_listed_forecasts(by_split: Validation) -> None:
    part = by_split.predictions.query("law == 'roofline' and target == 'energy'")
    pooled = by_split.of("roofline", "energy").pooled
    assert pooled.r2_log == pytest.approx(r2_score(np.log(part["measured"]), np.log(part["predicted"])))
    assert pooled.mape == pytest.approx(mean_absolute_percentage_error(part["measured"], part["predicted"]))
    assert pooled.coverage == pytest.approx(part["measured"].between(part["low"], part["high"]).mean())
    energies = TABLE.set_index("trial_id")["energy_j"]
    assert (part.set_index("trial_id")["measured"] == energies.loc[part["trial_id"]]).all()


def test_the_law_that_made_the_data_is_best_and_the_mean_is_worst(by_split: Validation) -> None:
    r2 = {s.law: s.pooled.r2_log for s in by_split.summaries if s.target == "energy"}
    assert r2["roofline"] > 0.99
    assert max(r2, key=r2.__getitem__) == "roofline"
    assert min(r2, key=r2.__getitem__) == "constant"


def test_drawn_folds_never_split_a_case_and_are_all_listed() -> None:
    scores = validate(TABLE, CATALOGUE, laws=("reduced_form",), hold_out="case", draws=4, baselines=False)
    assert [fold.fold for fold in scores.fold_scores if fold.target == "energy"] == [f"draw {k}" for k in range(4)]
    cases = pd.Series(group_of(TABLE, "case").to_numpy(), index=TABLE["trial_id"])
    sizes = cases.value_counts()
    for _, part in scores.predictions.query("target == 'energy'").groupby("fold"):
        assert cases.loc[part["trial_id"]].value_counts().eq(sizes).sum() == cases.loc[part["trial_id"]].nunique()


@pytest.mark.parametrize("hold_out", ["gpu_count", "strategy", "size"])
def test_a_left_out_group_is_forecast_marked_and_told_from_a_failed_fold(hold_out: str) -> None:
    scores = validate(TABLE, CATALOGUE, laws=("roofline",), hold_out=hold_out, baselines=False)
    assert len(scores.fold_scores) == 2 * {"gpu_count": 3, "strategy": 2, "size": 2}[hold_out]
    assert all(fold.score is not None for fold in scores.fold_scores)
    assert (scores.predictions["extrapolates"] != "").any()


def test_a_fold_that_cannot_be_fitted_says_why() -> None:
    """Without the other strategy too few rows are left for P1's coefficients."""
    few = TABLE[:8]
    scores = validate(few, CATALOGUE, laws=("reduced_form",), hold_out="strategy", baselines=False)
    failed = [fold for fold in scores.fold_scores if fold.score is None]
    assert failed
    assert all("cannot fix" in fold.failure for fold in failed)


def test_every_fold_says_what_it_was_fitted_on_and_tested_on() -> None:
    scores = validate(TABLE, CATALOGUE, laws=("reduced_form",), hold_out="gpu_count", baselines=False)
    for fold in scores.fold_scores:
        assert fold.score is not None
        assert fold.n_fit + fold.score.n == len(TABLE)
        assert 0 <= fold.score.coverage <= 1 <= fold.score.half_width_factor


def test_the_forecast_of_efficiency_is_chosen_anew_in_every_fold_and_said() -> None:
    scores = validate(TABLE, CATALOGUE, laws=("reduced_form",), hold_out="case", draws=3, baselines=False)
    said = [note for note in scores.notes if note.startswith("reduced_form: the efficiency h is forecast from")]
    counts = [int(note.partition(" of 3 folds")[0].rpartition("(")[2]) if "folds" in note else 3 for note in said]
    assert sum(counts) == 3


def test_the_noise_of_the_rows_stands_beside_the_scores() -> None:
    twice = pd.concat([measured(CATALOGUE, noise=0.05, seed=seed, most=60) for seed in range(2)], ignore_index=True)
    twice["trial_id"] = [f"t{k}" for k in range(len(twice))]
    scores = validate(twice, CATALOGUE, laws=("reduced_form",), baselines=False)
    assert {floor.target for floor in scores.noise} == {"duration", "energy"}
    assert all(floor.sigma == pytest.approx(0.05, rel=0.25) for floor in scores.noise)


def test_the_dictionary_is_json_without_nan(by_split: Validation) -> None:
    text = json.dumps(by_split.to_dict(), allow_nan=False)
    content = json.loads(text)
    constant = next(s for s in content["summaries"] if s["law"] == "constant")
    assert constant["pooled"]["coverage"] is None
    assert content["provenance"]["n_trials"] == 60
    assert len(content["hold_out_sha256"]) == 64


def test_estimated_energy_is_flagged() -> None:
    table = TABLE.assign(meter="cpu_time_estimate", meter_kind="estimated")
    assert validate(table, CATALOGUE, laws=("reduced_form",), baselines=False).energy_is_estimated


def test_unjudged_trials_and_mixed_meters_are_refused() -> None:
    with pytest.raises(InputError, match="no verdict"):
        validate(TABLE.assign(verdict=[None, *["valid"] * 59]), CATALOGUE)
    with pytest.raises(InputError, match="mixed meters"):
        validate(TABLE.assign(meter=["nvml", *["rapl"] * 59]), CATALOGUE)


def test_invalid_trials_are_neither_fitted_nor_scored() -> None:
    table = TABLE.assign(verdict=["invalid", *["valid"] * 58, "invalid"])
    scores = validate(table, CATALOGUE, laws=("reduced_form",), baselines=False)
    assert scores.provenance.n_trials == 58
    assert TABLE["trial_id"].iloc[59] not in set(scores.predictions["trial_id"])


def test_rows_that_a_contender_cannot_forecast_are_counted_by_fold() -> None:
    """Watts of a power limit times time are no forecast of a device that has none."""
    unlimited = replace(CATALOGUE.get("Tesla T4"), power_limit_w=None)
    catalogue = Catalogue({**CATALOGUE.devices, unlimited.name: unlimited})
    table = pd.concat([measured(CATALOGUE, noise=0.05, devices=(name,), most=30) for name in DEVICES])
    table = table.assign(trial_id=[f"t{k}" for k in range(60)]).drop(columns="power_limit_w", errors="ignore")
    scores = validate(table, catalogue, laws=("reduced_form",), hold_out="strategy")
    (said,) = [note for note in scores.notes if note.startswith("power_limit_x_time: ")]
    assert said == (
        "power_limit_x_time: 30 of 60 held-out rows have no energy forecast and are left out of its scores "
        "(strategy=fsdp: 20 of 40, strategy=single: 10 of 20)"
    )
    assert scores.of("power_limit_x_time", "energy").pooled.n == 30


def test_where_all_is_forecast_nothing_is_said_of_rows_left_out(by_split: Validation) -> None:
    assert not [note for note in by_split.notes if "left out of its scores" in note]
