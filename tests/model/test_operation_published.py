"""P2 on its own data: every curve held, the published R2 reached, the selection example to the joule, flaws as told."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.operation_published import (
    A100,
    PUBLISHED_ENERGY,
    PUBLISHED_US,
    CurveScore,
    EnergyScore,
    curve_scores,
    energy_scores,
    fitted_curves,
    left_out_scores,
    load_timings,
    selection,
)
from joulelaw.model.efficiency_curves import Curve
from joulelaw.model.operation_timings import Key

FOLDER = Path(__file__).resolve().parents[2] / "results" / "published" / "ecai2025"


@pytest.fixture(scope="module")
def curves() -> dict[Key, Curve]:
    return fitted_curves(load_timings(FOLDER))


@pytest.fixture(scope="module")
def published() -> list[CurveScore]:
    return curve_scores(FOLDER, load_timings(FOLDER))


@pytest.fixture(scope="module")
def energies(curves: dict[Key, Curve]) -> dict[str, EnergyScore]:
    return {f"{score.network}, {score.name}": score for score in energy_scores(FOLDER, curves)}


def test_each_published_curve_is_met_within_2_percent_or_in_residual(published: list[CurveScore]) -> None:
    assert len(published) == 8 + 5
    assert [score.key for score in published if not score.holds] == []


def test_the_printed_projections_fit_each_others_timings_better(published: list[CurveScore]) -> None:
    projections = [score for score in published if np.isfinite(score.relabelled_rmse)]
    assert len(projections) == 4
    assert all(score.relabelled_rmse < 0.81 * score.published_rmse for score in projections)


def test_the_lstms_hidden_gating_below_1_tflop_is_the_printed_curve(published: list[CurveScore]) -> None:
    (score,) = [score for score in published if score.key.operation == "hidden_gating"]
    assert (round(score.ours.h_max, 2), round(score.ours.k, 2), round(score.ours.a, 2)) == (80.04, 10.08, 0.79)


def test_the_energy_fits_reach_the_published_r2(energies: dict[str, EnergyScore]) -> None:
    assert energies["transformer, published times, all rows, signs free"].r2 >= 0.958
    assert energies["transformer, our times, all rows, signs free"].r2 >= 0.958
    assert energies["transformer, our times, all rows, non-negative"].r2 >= 0.958
    assert energies["lstm, published times, all rows, signs free"].r2 >= 0.95
    assert energies["lstm, our times, all rows, signs free"].r2 >= 0.95
    assert round(energies["transformer, published times, GPT-2 (two GPUs), signs free"].r2, 2) == 0.98


def test_a_negative_coefficient_buys_next_to_nothing(energies: dict[str, EnergyScore]) -> None:
    free = energies["transformer, published times, BERT (A100), signs free"]
    bound = energies["transformer, published times, BERT (A100), non-negative"]
    assert free.law.slopes[0] < 0 <= bound.law.slopes.min()
    assert free.law.twins == bound.law.twins == ((1, 2),)
    assert free.r2 - bound.r2 < 0.001


def test_an_unseen_gpu_is_forecast_worse_than_a_random_split_says(curves: dict[Key, Curve]) -> None:
    scores = {(s.name, s.held_out): s.r2 for s in left_out_scores(FOLDER, curves)}
    for origin in ("published times", "our times"):
        split = scores[origin, "20 random splits, median"]
        assert all(r2 < split for (name, _), r2 in scores.items() if name == origin and r2 != split)


def test_the_published_times_are_true_seconds_over_100_times_layers() -> None:
    """From the one curve a GPU that lies behind the file, and from the shape."""
    table = pd.read_parquet(FOLDER / "transformer_training.parquet")
    table = table[(table["gpu_model"] == A100) & (table["repeats"] == 1)]
    curve = Curve(68.4285, 8.1420, 0.7542)
    flop = 6.0 * table["micro_batch_size"] * table["sequence_length"] * table["hidden_size"] ** 2.0
    seconds = table["num_layers"] * curve.seconds(flop, 156e12)
    np.testing.assert_allclose(table["published_us_qkv_projections"], seconds * 1e6 / 100, rtol=1e-3)


def test_model_b_costs_79_joules_and_model_a_36(published: list[CurveScore], energies: dict[str, EnergyScore]) -> None:
    printed = selection(PUBLISHED_ENERGY, {score.key: score.published for score in published}, PUBLISHED_US)
    assert (round(printed["A"]), round(printed["B"])) == (36, 79)


def test_our_fit_chooses_model_a_too(curves: dict[Key, Curve], energies: dict[str, EnergyScore]) -> None:
    ours = selection(energies["transformer, our times, all rows, non-negative"].law, curves)
    assert ours["A"] < ours["B"] < 3 * ours["A"]
