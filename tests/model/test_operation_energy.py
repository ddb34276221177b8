"""The linear law of energy: statsmodels' least squares, watts that cannot be negative, and twins merged."""

import numpy as np
import statsmodels.api as sm

from joulelaw.model.operation_energy import fit_linear

RNG = np.random.default_rng(1)
TIMES = RNG.lognormal(0, 1, (80, 3))
ENERGY = 4 + TIMES @ [2.0, 0.0, 5.0] + RNG.normal(0, 0.5, 80)


def test_signs_free_it_is_ordinary_least_squares() -> None:
    reference = sm.OLS(ENERGY, sm.add_constant(TIMES)).fit()
    fitted = fit_linear(TIMES, ENERGY, non_negative=False)
    np.testing.assert_allclose([fitted.intercept, *fitted.slopes], reference.params, rtol=1e-8)
    np.testing.assert_allclose(fitted.r2(TIMES, ENERGY), reference.rsquared, rtol=1e-10)


def test_watts_are_never_negative_and_free_signs_explain_no_less() -> None:
    y = 30 + TIMES @ [2.0, -1.0, 5.0]
    bound, free = fit_linear(TIMES, y), fit_linear(TIMES, y, non_negative=False)
    assert bound.slopes[1] == 0
    assert min(bound.intercept, *bound.slopes) >= 0
    assert bound.r2(TIMES, y) < free.r2(TIMES, y)


def test_equal_columns_share_one_coefficient() -> None:
    twins = np.column_stack([TIMES[:, 0], TIMES[:, 2], TIMES[:, 2] * (1 + 1e-15)])
    fitted = fit_linear(twins, ENERGY)
    assert fitted.twins == ((1, 2),)
    assert fitted.slopes[1] == fitted.slopes[2]
    np.testing.assert_allclose(2 * fitted.slopes[1], fit_linear(TIMES[:, [0, 2]], ENERGY).slopes[1], rtol=1e-8)


def test_relative_residuals_weigh_each_row_by_its_value() -> None:
    reference = sm.WLS(ENERGY, sm.add_constant(TIMES), weights=ENERGY**-2.0).fit()
    fitted = fit_linear(TIMES, ENERGY, non_negative=False, relative=True)
    np.testing.assert_allclose([fitted.intercept, *fitted.slopes], reference.params, rtol=1e-8)
