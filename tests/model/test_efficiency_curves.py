"""Efficiency curves: a known one is recovered, hiccups do not bend it, and what cannot be fitted is refused."""

import numpy as np
import numpy.typing as npt
import pytest

from joulelaw import InputError
from joulelaw.model.efficiency_curves import Curve, fit_curve

Array = npt.NDArray[np.float64]
TRUTH = Curve(h_max=66.8, k=8.65, a=0.8)
FLOP = np.geomspace(3e8, 3e11, 60)


def noisy(curve: Curve, flop: Array, noise: float = 0.5) -> Array:
    return np.asarray(curve.percent(flop) + np.random.default_rng(0).normal(0, noise, len(flop)))


@pytest.mark.parametrize(
    ("truth", "flop"),
    [
        (TRUTH, FLOP),
        (Curve(78.5, 21.8, 0.56), FLOP),
        (Curve(0.0965, 17544.0, 0.94), np.geomspace(2e4, 1e9, 60)),
    ],
)
def test_a_curve_is_recovered_from_its_own_values(truth: Curve, flop: Array) -> None:
    fitted = fit_curve(flop, truth.percent(flop))
    np.testing.assert_allclose([fitted.h_max, fitted.k, fitted.a], [truth.h_max, truth.k, truth.a], rtol=1e-3)
    assert not fitted.at_bound


def test_standard_errors_are_of_the_size_of_the_misses() -> None:
    draws = []
    for seed in range(40):
        noise = np.random.default_rng(seed).normal(0, 0.5, len(FLOP))
        draws.append(fit_curve(FLOP, TRUTH.percent(FLOP) + noise, robust=False))
    off = np.array([[(d.h_max - TRUTH.h_max), np.log(d.k / TRUTH.k), d.a - TRUTH.a] for d in draws])
    ratio = off / np.array([d.errors for d in draws])
    assert np.all((ratio.std(axis=0) > 0.7) & (ratio.std(axis=0) < 1.4))


def test_a_hiccup_does_not_bend_the_curve() -> None:
    percent = noisy(TRUTH, FLOP)
    percent[[25, 40, 50, 55]] = 1.0  # four calls that took up to sixty times as long
    fitted = fit_curve(FLOP, percent)
    np.testing.assert_allclose(fitted.percent(FLOP[-20:]), TRUTH.percent(FLOP[-20:]), rtol=0.03)
    bent = fit_curve(FLOP, percent, robust=False)
    assert np.max(np.abs(bent.percent(FLOP[-20:]) / TRUTH.percent(FLOP[-20:]) - 1)) > 0.04


def test_more_than_the_whole_peak_is_told_as_a_bound() -> None:
    fitted = fit_curve(FLOP, 2 * TRUTH.percent(FLOP))
    assert fitted.h_max == pytest.approx(100.0, rel=1e-6)
    assert fitted.at_bound == ("h_max",)


def test_too_few_sizes_are_refused_whatever_their_repeats() -> None:
    few = np.repeat(FLOP[:3], 50)
    with pytest.raises(InputError, match="3 different sizes cannot fix"):
        fit_curve(few, TRUTH.percent(few))


def test_seconds_are_work_over_what_is_reached_of_the_peak() -> None:
    seconds = TRUTH.seconds(FLOP, 156e12)
    np.testing.assert_allclose(FLOP / seconds / 156e12, TRUTH.percent(FLOP) / 100)
    assert TRUTH.seconds(0.0, 156e12) == 0.0
