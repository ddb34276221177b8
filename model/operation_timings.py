"""Timings of isolated operations, checked, and the curves through them: one a GPU, precision and operation."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.columns import codes, groups, numbers, refuse
from joulelaw.model.efficiency_curves import Curve, fit_curve
from joulelaw.model.hardware import Catalogue
from joulelaw.model.operations import FLOP, forward_calls

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
TEXT = ("gpu_model", "precision", "model_family", "operation")


class Key(NamedTuple):
    """What a curve belongs to; `network` is the timing's model_family: transformer, lstm or gru."""

    gpu_model: str
    precision: str
    network: str
    operation: str


Curves = Mapping[Key, Curve]


@dataclass(frozen=True)
class OperationTimings:
    """A checked table of timings: TEXT columns, flop of the one call, duration_s of that call, peak_flop_per_s."""

    table: pd.DataFrame

    @classmethod
    def of(cls, table: pd.DataFrame, catalogue: Catalogue) -> Self:
        """Raises InputError for a missing column, a value that cannot be, or a device or precision unknown."""
        missing = [name for name in (*TEXT, "flop", "duration_s") if name not in table.columns]
        if missing:
            what = f"columns missing: {', '.join(missing)}"
            raise InputError(what, where="operation timings", remedy="see the table of operation timings")
        checked = table.reset_index(drop=True).astype(dict.fromkeys(TEXT, str))
        for name in ("flop", "duration_s"):
            checked[name] = numbers(checked, name)
            wrong = ~(np.isfinite(checked[name]) & (checked[name] > 0))
            refuse(checked, name, wrong, "must be a positive number")
        pairs = checked[["gpu_model", "precision"]].drop_duplicates()
        peaks = {(gpu, kind): catalogue.get(gpu).peak(kind) for gpu, kind in pairs.itertuples(index=False)}
        rows = zip(checked["gpu_model"], checked["precision"], strict=True)
        return cls(checked.assign(peak_flop_per_s=[peaks[row] for row in rows]))

    @property
    def percent(self) -> "pd.Series[float]":
        """The share of the device's peak that each call reached."""
        t = self.table
        percent: pd.Series[float] = 100 * t["flop"] / t["duration_s"] / t["peak_flop_per_s"]
        return percent

    @cached_property
    def curves(self) -> dict[Key, Curve]:
        """The curve of every operation that P2 has. Raises InputError where one was timed at too few sizes."""
        fitted = {}
        percent = self.percent
        for names, part in self.table.groupby(list(TEXT), sort=True):
            key = Key(*map(str, names))
            if key.operation in FLOP.get(key.network, {}):
                where = f"timings of {key.network} {key.operation} on {key.gpu_model} in {key.precision}"
                fitted[key] = fit_curve(part["flop"].to_numpy(), percent[part.index].to_numpy(), where=where)
        return fitted

    @property
    def without_term(self) -> tuple[str, ...]:
        """Operations that were timed but that P2's law has no term for."""
        pairs = self.table[["model_family", "operation"]].drop_duplicates().itertuples(index=False)
        return tuple(sorted(f"{network}.{name}" for network, name in pairs if name not in FLOP.get(network, {})))


def forward_seconds(network: str, table: pd.DataFrame, peak_flop_per_s: Array, curves: Curves) -> tuple[Array, Mask]:
    """(seconds, outside): rows x operations of the network, for one forward pass of each row's micro-batch.

    t_i = the number of calls x c / (v_max h_i(c)). `outside` is True for rows whose calls are larger or smaller than
    any timed one. Raises InputError for a row on a device or in a precision that has no curves.
    """
    names = list(FLOP[network])
    seconds, outside = np.zeros((len(table), len(names))), np.zeros(len(table), dtype=bool)
    devices = groups([codes(table, "gpu_model"), codes(table, "precision")])
    calls = forward_calls(network, table)
    for (gpu, precision), at in devices:
        for call in calls:
            key = Key(gpu, precision, network, call.operation)
            curve = _curve(curves, key)
            flop, number = call.flop[at], call.number[at]
            seconds[at, names.index(call.operation)] += number * curve.seconds(flop, peak_flop_per_s[at])
            c = flop / 1e12
            outside[at] |= (number > 0) & ((c > curve.c_high * (1 + 1e-9)) | (c < curve.c_low * (1 - 1e-9)))
    return seconds, outside


def _curve(curves: Curves, key: Key) -> Curve:
    if key not in curves:
        known = sorted({f"{k.gpu_model} in {k.precision}" for k in curves if k.network == key.network})
        what = f"no timings of {key.network} {key.operation} on {key.gpu_model!r} in {key.precision}"
        there = f"there are some of {'; '.join(known)}" if known else f"there are none of any {key.network}"
        remedy = f"time its operations and fit anew, or leave the row out ({there})"
        raise InputError(what, where="gpu_model, precision", remedy=remedy)
    return curves[key]
