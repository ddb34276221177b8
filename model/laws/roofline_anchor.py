"""Anchor the roofline's corrections: of the device models measured they are 1 in the geometric mean.

Rows tell what each device reaches, which is shared coefficient x correction, and so what one reaches against another.
They do not tell the two factors apart: there only the priors speak. Anchored, the shared coefficients are those of the
devices measured, which rows fix, and what the priors say about devices in general becomes the corrections of an
UNMEASURED device: where all hosts measured were slow, the next is expected to be less so. No forecast changes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from joulelaw.model.laws.roofline_forms import Layout
from joulelaw.model.laws.roofline_terms import CORRECTIONS, UNMEASURED

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Anchor:
    """The linear map of logarithms from a layout's coefficients to the anchored parameters.

    The corrections of one device alone are all 1.
    """

    names: tuple[str, ...]
    matrix: Array
    unmeasured: Array  # how far the corrections of an unmeasured device may be from what is expected: the last names

    @classmethod
    def of(cls, layout: Layout) -> Self:
        target = layout.coefficients[0].target
        kinds = {c.name.partition("[")[0] for c in layout.coefficients[layout.shared :]}
        used = [c for c in CORRECTIONS[target] if c.name in kinds]
        given = [f"{c.target}.{c.name}" for c in layout.coefficients]
        shared, models = layout.shared, (len(given) - layout.shared) // len(used)
        common = np.zeros((len(used), len(given)))  # the mean of each correction over the devices
        for j in range(len(used)):
            common[j, shared + j :: len(used)] = 1.0 / models
        identity = np.eye(len(given))
        own = identity[shared:] - np.tile(common, (models, 1))
        matrix = np.vstack([identity[:shared] + layout.moves @ common, own, -common])
        names = (*given, *(f"{target}.{c.name}[{UNMEASURED}]" for c in used))
        return cls(names, matrix, np.log([c.factor for c in used]))

    def parameters(self, logs: Array) -> dict[str, float]:
        """By name, from the logarithms of the layout's coefficients."""
        return {name: float(v) for name, v in zip(self.names, np.exp(self.matrix @ logs), strict=True)}

    def covariance(self, covariance: Array) -> Array:
        """Of the parameters' logarithms, from that of the coefficients'; an unmeasured device's own doubt is added."""
        own = np.concatenate([np.zeros(len(self.names) - len(self.unmeasured)), self.unmeasured**2])
        return np.asarray(self.matrix @ covariance @ self.matrix.T + np.diag(own))
