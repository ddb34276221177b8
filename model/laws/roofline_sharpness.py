"""How far each row's joules count in the fit: less where their meter says that they are uncertain."""

import numpy as np
import numpy.typing as npt

from joulelaw.model.fitting import NOISE
from joulelaw.model.laws.base import Rows


def sharpness(rows: Rows) -> npt.NDArray[np.float64]:
    """What each row's log residual is multiplied by: 1 where its joules are exact, or nothing is said of them.

    A row misses the law by the law's own error, expected at NOISE, and by the random error of its joules,
    `energy_stderr_j` over `energy_j`: independent, so that their squares add, and the residual counts by the root of
    the share that is the law's. A sensor's gain is not in it: it is the same in all rows of a device, and no weight
    could take it out.
    """
    if "energy_stderr_j" not in rows.table.columns:
        return np.ones(len(rows))
    doubt = np.nan_to_num(rows.column("energy_stderr_j") / rows.column("energy_j"))
    return np.asarray(1.0 / np.sqrt(1.0 + (doubt / NOISE) ** 2))
