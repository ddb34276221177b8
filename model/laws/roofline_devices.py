"""Watts and joules of each device, from the roofline's shared coefficients and the device's data sheet."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from joulelaw.model.laws.base import Coefficient, Rows

Array = npt.NDArray[np.float64]

# kappa -> (name of the device's own, what the power limit is divided by, unit, meaning)
OWN = {
    "kappa_static": ("static_w", "", "W", "power of one device whatever it does"),
    "kappa_flop": ("flop_j", "peak_flop_per_s", "J/FLOP", "energy of one floating-point operation"),
    "kappa_byte": ("byte_j", "bandwidth_bytes_per_s", "J/B", "energy of one byte of memory traffic"),
    "kappa_link": ("link_byte_j", "link_bytes_per_s", "J/B", "energy of one byte sent"),
    "kappa_kernel_s": ("kernel_j", "", "J", "energy of one kernel whatever its size"),
}


def device_coefficients(shared: Sequence[Coefficient], rows: Rows, limit_w: Array) -> tuple[Coefficient, ...]:
    """The energy coefficients of every device model and precision among the rows, intervals scaled along.

    Where rows of a device have several power limits, their median is used.
    """
    result: list[Coefficient] = []
    pairs = list(zip(rows.table["gpu_model"], rows.table["precision"], strict=True))
    for model, precision in sorted(set(pairs)):
        at = [k for k, pair in enumerate(pairs) if pair == (model, precision)]
        for kappa in shared:
            if kappa.name not in OWN:
                continue
            name, divisor, unit, meaning = OWN[kappa.name]
            scale = float(np.median(limit_w[at]))
            scale /= float(rows.column(divisor)[at[0]]) if divisor else 1.0
            where = f"{model}, {precision}" if divisor == "peak_flop_per_s" else str(model)
            own = replace(
                kappa,
                name=f"{name}[{where}]",
                value=kappa.value * scale,
                low=kappa.low * scale,
                high=kappa.high * scale,
                unit=unit,
                meaning=f"{meaning}, from {kappa.name}",
            )
            if all(known.name != own.name for known in result):
                result.append(own)
    return tuple(result)
