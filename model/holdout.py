"""Hold-outs and folds: whole groups of trials set aside by rule and seed, before anything is fitted."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.tables import CASE_COLUMNS, CONFIGURATION_COLUMNS, WORKLOAD_COLUMNS, key

FIT, HOLD_OUT = "fit", "hold_out"

# What a hold-out may leave out whole, and the columns that make one group of it.
GROUPS: dict[str, tuple[str, ...]] = {
    "case": CASE_COLUMNS,
    "workload": WORKLOAD_COLUMNS,
    "configuration": CONFIGURATION_COLUMNS,
    "gpu_model": ("gpu_model",),
    "strategy": ("strategy",),
    "gpu_count": ("gpu_count",),
    "model_family": ("model_family",),
}
# Groups that are many and alike are drawn again and again; the others are left out one by one.
DRAWN = ("case", "workload", "configuration")


@dataclass(frozen=True)
class Fold:
    """One division of rows: its name, and which rows are fitted and which are forecast."""

    name: str
    fit: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_]


def group_of(table: pd.DataFrame, by: str) -> pd.Series:
    """The group of each row, as text, for a rule in GROUPS."""
    if by not in GROUPS:
        raise InputError(f"unknown hold-out '{by}'", where="hold_out", remedy=f"choose one of {', '.join(GROUPS)}")
    return key(table, GROUPS[by])


def draw_groups(groups: Sequence[str], fraction: float, seed: int) -> set[str]:
    """The groups to hold out: round(fraction x groups), at least one and never all.

    A group's place in the draw is the hash of the seed and its own name, so neither the order of the rows nor
    the presence of other trials of a group changes it.
    """
    names = sorted(set(groups), key=lambda name: hashlib.sha256(f"{seed}|{name}".encode()).digest())
    if len(names) < 2:
        raise InputError("only one group: nothing is left to fit", where="hold_out", remedy="hold out by another rule")
    if not 0 < fraction < 1:
        raise InputError(f"fraction {fraction} is not between 0 and 1", where="hold_out.fraction")
    count = min(max(round(fraction * len(names)), 1), len(names) - 1)
    return set(names[:count])


def draw_hold_out(table: pd.DataFrame, by: str = "case", fraction: float = 0.3, seed: int = 0) -> "pd.Series[str]":
    """'fit' or 'hold_out' for each trial of a plan, indexed by trial_id; whole groups, deterministic.

    `table` has trial_id and the configuration columns; no measurement is looked at.
    """
    groups = group_of(table, by)
    held = draw_groups(list(groups), fraction, seed)
    split = np.where(groups.isin(held), HOLD_OUT, FIT)
    return pd.Series(split, index=pd.Index(table["trial_id"].astype(str), name="trial_id"), name="split", dtype=str)


def hold_out_hash(split: "pd.Series[str]") -> str:
    """SHA-256 of who is held out, to be written down before the first trial; the order of rows does not matter."""
    lines = sorted(f"{trial_id}:{value}" for trial_id, value in split.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def folds(
    table: pd.DataFrame, hold_out: str, sizes: "pd.Series[float]", draws: int = 20, fraction: float = 0.3, seed: int = 0
) -> tuple[Fold, ...]:
    """The folds of a rule.

    'split' is the one drawn before the trials (column split). 'case', 'workload' and 'configuration' are drawn
    `draws` times; 'gpu_model', 'strategy', 'gpu_count' and 'model_family' leave each value out once; 'size' fits
    at or below the third quartile of `sizes` (FLOPs per micro-step) and tests above, and the reverse at the first.
    """
    if hold_out == "split":
        return (_split_fold(table),)
    if hold_out == "size":
        return _size_folds(np.asarray(sizes, dtype=np.float64))
    groups = group_of(table, hold_out)
    if hold_out in DRAWN:
        drawn = (draw_groups(list(groups), fraction, seed + k) for k in range(draws))
        tests = [(f"draw {k}", groups.isin(held).to_numpy(dtype=bool)) for k, held in enumerate(drawn)]
    else:
        if groups.nunique() < 2:
            raise InputError(f"only one {hold_out} in the table: nothing to leave out", where="hold_out")
        tests = [(f"{hold_out}={name}", (groups == name).to_numpy(dtype=bool)) for name in sorted(groups.unique())]
    return tuple(Fold(name, ~test, test) for name, test in tests)


def _split_fold(table: pd.DataFrame) -> Fold:
    if "split" not in table.columns or not table["split"].isin([FIT, HOLD_OUT]).all():
        raise InputError("no drawn split in the table", where="hold_out", remedy="use --hold-out case")
    test = (table["split"] == HOLD_OUT).to_numpy(dtype=bool)
    if test.all() or not test.any():
        what = "the drawn split leaves nothing to fit or to test"
        raise InputError(what, where="hold_out", remedy="use --hold-out case")
    return Fold("split", ~test, test)


def _size_folds(sizes: npt.NDArray[np.float64]) -> tuple[Fold, ...]:
    first, third = np.quantile(sizes, [0.25, 0.75])
    cuts = (("small to large", sizes <= third), ("large to small", sizes >= first))
    if any(fit.all() for _, fit in cuts):
        raise InputError("all trials are of one size", where="hold_out", remedy="hold out by another rule")
    return tuple(Fold(name, fit, ~fit) for name, fit in cuts)
