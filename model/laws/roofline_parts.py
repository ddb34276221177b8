"""Where a run's seconds and joules go by the roofline: exact shares of each forecast, that add up to all of it.

Energy is a sum of terms, each in proportion to one coefficient kappa or to the host's watts: a term's share is the
slope of log E in the logarithm of its coefficient. Time is made of sums and smooth maxima of seconds, which are
homogeneous of degree 1: by Euler's theorem T is the sum of each term's seconds times its slope, and the share of what
is hidden behind something longer is as small as its influence. Seconds fall as speeds (eta) rise: their slopes count
negatively. Coefficients that scale a part of such a term (fill_rows, elementwise_passes, staging, step_launches) and
the sharpness are in the slopes of the others already.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import Roofline
from joulelaw.model.laws.roofline_terms import HOST
from joulelaw.model.tables import check_configurations

Array = npt.NDArray[np.float64]

# target -> part -> coefficients whose slopes make its share.
PARTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "energy": {
        "arithmetic": ("kappa_flop",),
        "memory": ("kappa_byte",),
        "communication": ("kappa_link",),
        "kernels": ("kappa_kernel_s",),
        "load": ("kappa_boost",),
        "host": tuple(host.name for host in HOST.values()),
        "idle": ("kappa_static",),
    },
    "duration": {
        "arithmetic": ("eta_flop", "eta_flop_reduced"),
        "memory": ("eta_bandwidth",),
        "communication": ("eta_link", "collective_s"),
        "host": (
            "kernel_s",
            "micro_step_s",
            "step_s",
            "input_token_s",
            "fsdp_layer_s",
            "zero_layer_s",
            "tensor_layer_s",
        ),
        "idle": ("group_s",),
    },
}
MEANINGS: Mapping[str, Mapping[str, str]] = {
    "energy": {
        "arithmetic": "floating-point operations",
        "memory": "bytes moved to and from a device's memory",
        "communication": "bytes sent between devices",
        "kernels": "waking the device for each kernel",
        "load": "higher clocks and voltage while the device works",
        "host": "the node beside its devices",
        "idle": "static power: drawn whatever a device does",
    },
    "duration": {
        "arithmetic": "the device computes",
        "memory": "the device waits for its memory",
        "communication": "messages and the start of collectives",
        "host": "launches, framework and input",
        "idle": "waiting for the slowest rank",
    },
}


def shares(fitted: FittedLaw, table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By target, the share of each part (columns) in the forecast of each row, index-aligned; rows add up to 1.

    Without the host where the law has none (boundary gpu). Nothing for laws other than the roofline. Raises InputError
    as `FittedLaw.predict` does.
    """
    if not isinstance(fitted.law, Roofline):
        return {}
    rows = Rows.of(fitted.at_boundary(check_configurations(table)), fitted.catalogue).pre_run()
    names, slopes = fitted.law.slopes(fitted.parameters, rows)
    place = {name: column for column, name in enumerate(names)}

    def share(target: str, coefficients: tuple[str, ...]) -> Array:
        columns = [place[name] for each in coefficients if (name := f"{target}.{each}") in place]
        return np.asarray(np.abs(slopes[target][:, columns]).sum(axis=1))

    return {
        target: pd.DataFrame(
            {
                part: share(target, coefficients)
                for part, coefficients in parts.items()
                if any(f"{target}.{each}" in place for each in coefficients)
            },
            index=table.index,
        )
        for target, parts in PARTS.items()
    }
