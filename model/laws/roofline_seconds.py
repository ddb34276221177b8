"""The seconds that energies are fitted on: measured so far as the energies follow them, the fitted ones for the rest.

A run that took longer than the law says drew power for longer: its joules follow its seconds. Where the seconds only
were measured with noise, joules do not, and terms in proportion to time would be fitted too small, those of work too
large (errors in variables; Fuller 1987). How far the joules follow is the slope of what the energy misses on what the
duration's misses would make of it: 1 where all of it is true, 0 where it is noise.
"""

import numpy as np
import numpy.typing as npt

from joulelaw.model.fitting import size_of
from joulelaw.model.levenberg import weights

Array = npt.NDArray[np.float64]


def settled_s(fitted_s: Array, measured_s: Array, joules: Array, at_fitted: Array, at_measured: Array) -> Array:
    """Seconds between the fitted and the measured; the last two are the law's joules for either."""
    missed, follows = np.log(joules / at_fitted), np.log(at_measured / at_fitted)
    counted = weights(missed - follows, max(size_of(missed), 1e-12))
    slope = float(np.sum(counted * missed * follows) / max(np.sum(counted * follows**2), 1e-300))
    return np.asarray(fitted_s * (measured_s / fitted_s) ** np.clip(slope, 0.0, 1.0))
