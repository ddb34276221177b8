"""Intervals: bootstrap over cases, and conformal forecasts grouped by case."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.columns import Rows as Places
from joulelaw.model.columns import codes, groups
from joulelaw.model.ranges import Outside

Array = npt.NDArray[np.float64]

LEVEL = 0.95
Z = 1.959963984540054  # the normal distribution's two-sided 95 % point
TARGETS = ("duration", "energy")
# Energy over duration: the two are missed by together. Of a law file that does not tell, nothing is known of it.
POWER = "power"

# Where the fit had one GPU model (strategy, ...) only, nothing says how far a new one lies off: a factor 2 is assumed,
# about what a data sheet alone misses by, and said in the widths' method.
UNSEEN_HALF_WIDTH = float(np.log(2.0))

# On a device that a law knows by a few trials only, a family or a strategy may be off as a whole by so much (log, a
# standard deviation).
DISCREPANCY = 0.15

WIDTH_GROUPS = ("gpu_model", "model_family", "strategy")
# A new kind of link is forecast from its closed form, as a new strategy is: it is given that one's interval; and a size
# outside those fitted what sizes beyond a quartile were missed by.
STANDS_IN = {"link_bytes_per_s": "strategy", "flop_per_micro_step": "size"}


@dataclass(frozen=True)
class Widths:
    """Half-widths of forecast intervals, in the logarithm, and the way they were found.

    `half` maps an axis ("case" and the text axes) to target to half-width: what new cases, a new GPU model or a new
    strategy were forecast to within, each left out whole; targets are TARGETS, and POWER where the law tells it.
    `ratios` maps target to group (WIDTH_GROUPS, as `tables.key` writes them) to what the group's half-widths are of
    those of all; a group not there takes the largest of its family and strategy on other devices, or of all.
    """

    method: str = "none: too few cases"
    aimed: float = LEVEL
    achieved: float = float("nan")
    half: dict[str, dict[str, float]] = field(default_factory=dict)
    ratios: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def tells_power(self) -> bool:
        """Whether power has half-widths of its own; a law with no half-widths at all has its parameters' instead."""
        return not self.half or POWER in self.half["case"]

    def of_cases(self, table: pd.DataFrame, targets: Sequence[str] = TARGETS) -> dict[str, Array]:
        """By target, the half-width of each row as of a new case of known kind; nan where none was found."""
        kinds = groups([codes(table, name) for name in WIDTH_GROUPS])
        return {target: self._of_kinds(target, kinds, len(table)) for target in targets}

    def _of_kinds(self, target: str, kinds: Sequence[tuple[tuple[str, ...], Places]], count: int) -> Array:
        half, ratios = self.half.get("case", {}).get(target), self.ratios.get(target, {})
        if half is None or not ratios:
            return np.full(count, np.nan if half is None else half)
        alike: dict[str, float] = {}  # the largest of a family and strategy, whatever the device
        for group, ratio in ratios.items():
            kind = group.partition("|")[2]
            alike[kind] = max(ratio, alike.get(kind, 0.0))
        result = np.empty(count)
        for names, rows in kinds:
            widest = alike.get("|".join(names[1:]), max(alike.values()))
            result[rows] = half * ratios.get("|".join(names), widest)
        return result

    def widen(self, half: Mapping[str, Array], outside: Mapping[str, Outside]) -> None:
        """Makes half-widths of a new GPU model, strategy, ... at least what forecasts of those were missed by."""
        for axis, new in outside.items():
            missed_by = self.half.get(STANDS_IN.get(axis, axis), {})
            for target, missed in ((name, missed_by[name]) for name in half if name in missed_by):
                half[target][new.rows] = np.fmax(half[target][new.rows], missed)


def case_bootstrap(cases: Sequence[str], draws: int, seed: int) -> Iterator[npt.NDArray[np.intp]]:
    """Row numbers of `draws` resamples, each of as many cases as there are, drawn whole with replacement."""
    _, member = np.unique(np.asarray(cases, dtype=str), return_inverse=True)
    rows = [np.flatnonzero(member == case) for case in range(int(member.max()) + 1)]
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.concatenate([rows[case] for case in rng.integers(len(rows), size=len(rows))])


def case_folds(cases: Sequence[str], most: int = 5) -> list[npt.NDArray[np.bool_]]:
    """Test masks of a cross-validation that never splits a case; at most `most`, the cases dealt out by hash."""
    names = sorted(set(cases), key=lambda name: hashlib.sha256(name.encode()).digest())
    if len(names) < 2:
        return []
    count = min(most, len(names))
    fold = {name: k % count for k, name in enumerate(names)}
    numbers = np.array([fold[name] for name in cases])
    return [numbers == k for k in range(count)]


def conformal_half_width(residuals: Array, groups: Sequence[str], level: float = LEVEL) -> tuple[float, float]:
    """(half-width, level achieved) from the out-of-fold |log residuals| of grouped rows.

    Every group (case) weighs the same, whatever its number of rows, and the unseen one counts as a further group
    with an infinite residual: the distribution-free interval for the next row of a new group (Dunn, Wasserman and
    Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", 2022). G groups can support at
    most the level G / (G + 1); with fewer than 19 the largest residual is taken and that level is what is achieved.
    """
    size = pd.Series(np.abs(residuals))
    names = pd.Series(np.asarray(groups, dtype=str))
    count = int(names.nunique())
    weight = (1.0 / names.groupby(names).transform("size") / (count + 1)).to_numpy(dtype=float)
    order = np.argsort(size.to_numpy(dtype=float), kind="stable")
    reached = np.cumsum(weight[order])
    at = min(int(np.searchsorted(reached, level - 1e-12)), len(order) - 1)
    return float(size.iloc[int(order[at])]), float(min(level, reached[-1]))
