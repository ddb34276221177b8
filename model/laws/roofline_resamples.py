"""Data sets as they might have come out: the law's forecasts, each case with the residuals of a case drawn at random.

A resample of the cases themselves would lose the only trials that tell of some coefficient, and 25 cases cannot spare
any: its intervals came out up to twice as wide as estimates scatter. Residuals with a random sign keep all trials, and
keep together what errs together: the trials of a case, and its energies with its durations. Residuals of a fit are
smaller than errors, the more a case decides its own forecast; they are enlarged by that (Bell and McCaffrey 2002).
Assumes that all cases err alike; where they do not, an interval is a mean over them.
Source: the residual bootstrap (Efron 1979; Davison and Hinkley 1997, section 6.3), by case.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from joulelaw.model.fitting import priors, size_of
from joulelaw.model.laws.base import Forecast, Rows
from joulelaw.model.laws.roofline_forms import Layout
from joulelaw.model.levenberg import weights

Array = npt.NDArray[np.float64]
Groups = list[npt.NDArray[np.intp]]

# Of a residual that its case alone decides nothing is left to enlarge: at most tenfold in the variance.
LEAST_LEFT = 0.1
SIGNS = (-1.0, 1.0)


def resamples(
    rows: Rows, forecast: Forecast, layouts: dict[str, tuple[Layout, Array]], draws: int, seed: int
) -> Iterator[Rows]:
    """`draws` times the rows with other seconds and joules; `layouts` are, by target, a formula and its logarithms."""
    _, member = np.unique(np.asarray(rows.cases), return_inverse=True)
    cases = [np.flatnonzero(member == case) for case in range(int(member.max()) + 1)]
    forecasts = {"duration_s": forecast.duration_s, "energy_j": forecast.energy_j}
    missed = {
        name: _enlarged(*layouts[name.partition("_")[0]], np.log(rows.column(name) / values), cases)
        for name, values in forecasts.items()
    }
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        donors, signs = np.empty(len(rows), dtype=np.intp), np.empty(len(rows))
        for case in cases:
            given = cases[rng.integers(len(cases))]
            alone = len(case) == len(given) == 1  # most cases of long tables: nothing to choose, which takes long
            donors[case] = given if alone else rng.choice(given, size=len(case), replace=len(case) > len(given))
            signs[case] = SIGNS[rng.integers(2)]
        drawn = {name: values * np.exp(signs * missed[name][donors]) for name, values in forecasts.items()}
        yield replace(rows, table=rows.table.assign(**drawn))


def _enlarged(layout: Layout, logs: Array, missed: Array, cases: Groups) -> Array:
    """The residuals as they would be of trials that the fit had not seen, so far as its slopes tell."""
    _, slope = layout.log_and_slope(logs)
    _, spread = priors(layout.coefficients)
    noise = max(size_of(missed), 1e-12)
    scaled = slope * (np.sqrt(weights(missed, noise)) / noise)[:, None]
    # The hat matrix is q q' (as long as the rows in both directions: never formed); what is normal to q is left whole.
    q = np.linalg.qr(np.vstack([scaled, np.diag(1 / spread)]))[0][: len(scaled)]
    enlarged = missed.copy()
    for case in cases:
        axes, sizes, _ = np.linalg.svd(q[case], full_matrices=False)
        factor = 1 / np.sqrt(np.clip(1 - sizes**2, LEAST_LEFT, 1.0))
        enlarged[case] += axes @ ((factor - 1) * (axes.T @ missed[case]))
    return enlarged
