"""Known coefficients come back inside their intervals, and what the trials cannot tell is not called identified.

The slow version, with 200 draws and a share for every coefficient, is benchmarks/law_recovery.py.
"""

import numpy as np
import pandas as pd
import pytest

from benchmarks.recovery_truths import PLANS, TRUTHS, Truth
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import Coefficient
from joulelaw.model.laws.roofline import Roofline, a_priori
from joulelaw.model.laws.roofline_seconds import settled_s

CATALOGUE = Catalogue.load()
LAW = Roofline()


def fitted(known: Truth, seed: int, resamples: int) -> tuple[Coefficient, ...]:
    rows = known.measured(0.05, seed)
    estimate = LAW.fit(rows)
    drawn = [
        LAW.fit(sample, seed=1 + k, start=estimate.parameters, resampled=True).parameters
        for k, sample in enumerate(LAW.resamples(rows, estimate, resamples, seed))
    ]
    return LAW.coefficients(estimate, drawn, rows)


@pytest.fixture(scope="module")
def draws() -> pd.DataFrame:
    known = Truth.of("mixed", "quick", CATALOGUE)
    rows = []
    for seed in range(10):
        for c in fitted(known, 1000 + seed, 30):
            truth = known.values[f"{c.target}.{c.name}"]
            rows.append((c.name, c.identified, c.low <= truth <= c.high, c.value / truth))
    return pd.DataFrame(rows, columns=["name", "identified", "covered", "ratio"])


def test_intervals_of_identified_coefficients_hold_the_truth(draws: pd.DataFrame) -> None:
    told = draws[draws["identified"]]
    assert 0.86 <= told["covered"].mean() <= 0.995
    assert told["ratio"].between(0.5, 2.0).mean() > 0.97


def test_what_the_trials_tell_is_called_identified(draws: pd.DataFrame) -> None:
    share = draws.groupby("name")["identified"].mean()
    shared = ["eta_flop", "eta_flop_reduced", "kernel_s", "input_token_s", "host_w[gpu_host_modelled]"]
    corrections = [f"{name}[{PLANS['mixed'].devices[0]}]" for name in ("host", "link", "compute")]
    assert (share[[*shared, *corrections]] > 0.8).all()


def test_what_the_trials_cannot_tell_is_never_called_identified(draws: pd.DataFrame) -> None:
    """No trial shards as ZeRO does; nothing in the plan tells a collective's start or a sent byte's energy."""
    share = draws.groupby("name")["identified"].mean()
    assert share["zero_layer_s"] == 0.0
    assert (share[["collective_s", "kappa_link", "fsdp_layer_s"]] <= 0.1).all()


def test_plans_have_sixty_trials_of_two_devices_and_truths_are_not_the_priors() -> None:
    for plan in PLANS.values():
        table = plan.configurations()
        assert len(table) == 60
        assert set(table["gpu_model"]) == set(plan.devices)
        assert set(table["precision"]) == {"fp16", "fp32"}
    expected = a_priori(CATALOGUE).parameters
    for shared, _ in TRUTHS.values():
        assert set(shared) >= set(expected)
        assert not any(np.isclose(shared[name], value) for name, value in expected.items())


def test_a_resample_keeps_every_trial_and_errs_as_much_as_the_data_do() -> None:
    rows = Truth.of("mixed", "quick", CATALOGUE).measured(0.05, 3)
    estimate = LAW.fit(rows)
    forecast = LAW.forecast(estimate.parameters, rows.pre_run())
    samples = list(LAW.resamples(rows, estimate, 100, 0))
    for name, expected in (("duration_s", forecast.duration_s), ("energy_j", forecast.energy_j)):
        errors = np.log([sample.column(name) / expected for sample in samples])
        assert 0.045 < errors.std() < 0.065  # the noise is 5 %; the fit's own residuals are some 15 % smaller
        assert abs(errors.mean()) < 0.005
    assert all(sample.table["trial_id"].equals(rows.table["trial_id"]) for sample in samples)
    pd.testing.assert_frame_equal(samples[0].counts, rows.counts)


def test_energies_that_follow_the_measured_seconds_are_fitted_on_them_and_others_on_the_fitted() -> None:
    rng = np.random.default_rng(0)
    law_s, work_j = rng.uniform(0.01, 1.0, (2, 200))
    measured_s = law_s * np.exp(0.05 * rng.standard_normal(200))

    def joules(seconds: np.ndarray) -> np.ndarray:
        return 100 * seconds + 30 * work_j

    noise = np.exp(0.02 * rng.standard_normal(200))
    true, noisy = (
        settled_s(law_s, measured_s, joules(seconds) * noise, joules(law_s), joules(measured_s))
        for seconds in (measured_s, law_s)
    )
    assert np.abs(np.log(true / measured_s)).max() < 0.02
    assert np.abs(np.log(noisy / law_s)).max() < 0.02


def test_noise_in_the_seconds_does_not_take_from_static_power() -> None:
    """Fitted on noisy seconds alone, the terms in proportion to time came out 40 % too small on the mean."""
    known = Truth.of("mixed", "quick", CATALOGUE)
    boost = [
        LAW.fit(known.measured(0.05, seed)).parameters["energy.kappa_boost"] / known.values["energy.kappa_boost"]
        for seed in range(8)
    ]
    assert 0.75 < np.exp(np.mean(np.log(boost))) < 1.35
