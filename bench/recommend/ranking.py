"""Candidates -> what each costs, which are worth choosing, the cheapest within limits, and how sure that is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, ndtri

from joulelaw import InputError
from joulelaw.bench.recommend.fits import Fitting
from joulelaw.bench.recommend.odds import COSTS, odds_of
from joulelaw.model.choices import pareto_front
from joulelaw.model.costs import POWER_FACTOR, Prices, costs
from joulelaw.model.intervals import Z
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.tables import PRE_RUN_COLUMNS

Array = npt.NDArray[np.float64]

KIND = ["gpu_model", "strategy"]


@dataclass(frozen=True)
class Asked:
    """What is to be low, and what is to be kept."""

    by: str = "energy"
    limits: Mapping[str, float] = field(default_factory=dict)
    """By the names of COSTS, in J, s, currency and kg."""
    confidence: float = 0.9
    """The probability that each limit is to be kept with; 0.5 takes forecasts at their word."""
    inside_only: bool = False
    """Leaves out what lies outside the law's ranges."""
    show: int = 5


@dataclass(frozen=True)
class Recommendation:
    """Candidates in the order of what they cost (index 0, 1, ...), and what of them is told. Positions are of them.

    Columns beside those of the candidates, the forecast and its costs: inside (the law's ranges), on_front,
    within_limits and p_within_limits (of the limit that is kept least surely).
    """

    asked: Asked
    candidates: pd.DataFrame
    left_out: dict[str, int]
    best: int | None
    """The cheapest within the limits: of those inside the law's ranges; where there is none, of those outside."""
    next: tuple[int, ...]
    """Those that follow it, inside as it is."""
    of_kinds: tuple[int, ...]
    """The cheapest of each GPU model and strategy that are not the best's, within the limits; inside where there is
    one."""
    cheaper_outside: int | None
    """The cheapest outside the law's ranges, where the best is inside and costs more."""
    nearest: int | None
    """Where none keeps the limits: the one that exceeds them least."""
    odds: dict[int, float]
    """By position, the probability that the best costs less."""

    @property
    def front(self) -> list[int]:
        """Positions of the front, the fastest first."""
        rows = self.candidates[self.candidates["on_front"]]
        return [int(at) for at in rows.sort_values("predicted_duration_s", kind="stable").index]


def recommended(fitted: FittedLaw, fit: Fitting, prices: Mapping[str, Prices], asked: Asked) -> Recommendation:
    """The recommendation among candidates that fit; `prices` are by GPU model.

    Raises:
        InputError: as `FittedLaw.predict`; nothing that could be compared is left.
    """
    table, left_out = _costed(fitted, fit, prices), dict(fit.left_out)
    value = COSTS[asked.by][0]
    known = np.isfinite(table[value].to_numpy(dtype=float))
    left_out["unknown cost"] = int((~known).sum())
    if not known.any():
        what = f"the law cannot tell the {asked.by} of any candidate"
        raise InputError(what, where="--by", remedy="of a device without a power limit it knows the time alone")
    if not table.loc[known, value].any():
        raise InputError(
            f"the {asked.by} of every candidate is 0", where="--by", remedy="give a price or intensity above 0"
        )
    if asked.inside_only:
        left_out["outside the law's ranges"] = int((known & ~table["inside"]).sum())
        known &= table["inside"].to_numpy()
        if not known.any():
            what = (
                f"all {len(table):,} candidates lie outside the law's ranges, as in {table['extrapolates'].iloc[0]!r}"
            )
            raise InputError(what, where="--inside", remedy="leave the option out, or ask for what was fitted")
    ranked = table[known].sort_values([value, "predicted_duration_s"], kind="stable").reset_index(drop=True)
    ranked["on_front"] = _front(ranked)
    over, ranked["p_within_limits"] = _against_limits(ranked, asked)
    ranked["within_limits"] = over <= 1
    return _chosen(fitted, ranked, left_out, over, prices, asked)


def _costed(fitted: FittedLaw, fit: Fitting, prices: Mapping[str, Prices]) -> pd.DataFrame:
    """The candidates with forecasts, what these come to by each GPU model's prices, and whether they lie inside."""
    known = [name for name in PRE_RUN_COLUMNS if name in fit.table]
    forecast = fitted.predict(fit.table[known], power=True)
    table = fit.table.drop(columns=[name for name in forecast if name in fit.table]).join(forecast)
    parts = [
        costs(forecast.loc[rows.index], rows["gpu_count"], prices[str(model)])
        for model, rows in table.groupby("gpu_model", sort=False, observed=True)
    ]
    return (
        table.join(pd.concat(parts))
        .drop(columns=POWER_FACTOR, errors="ignore")
        .assign(inside=forecast["extrapolates"] == "")
    )


def _front(ranked: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Of energy against time. Nothing outside the law's ranges takes a candidate inside off the front: those outside
    are on it beside, where no candidate at all beats them."""
    seconds, joules = (ranked[COSTS[name][0]].to_numpy(dtype=float) for name in ("time", "energy"))
    inside, on = ranked["inside"].to_numpy(), np.zeros(len(ranked), dtype=bool)
    at = np.flatnonzero(inside)
    on[at[pareto_front(seconds[at], joules[at])]] = True
    overall = pareto_front(seconds, joules)
    on[overall[~inside[overall]]] = True
    return on


def _against_limits(ranked: pd.DataFrame, asked: Asked) -> tuple[Array, Array]:
    """By how much each candidate exceeds its worst limit at the confidence asked for (1: just kept), and the least
    probability that a limit is kept. An interval that is not known is taken to be none."""
    over, kept = np.zeros(len(ranked)), np.ones(len(ranked))
    for name, limit in asked.limits.items():
        value, _, high = (ranked[column].to_numpy(dtype=float) for column in COSTS[name])
        spread = np.nan_to_num(np.log(high / value) / Z)
        over = np.fmax(over, np.nan_to_num(value, nan=np.inf) * np.exp(ndtri(asked.confidence) * spread) / limit)
        with np.errstate(divide="ignore", invalid="ignore"):
            surely = np.where(spread > 0, ndtr(np.log(limit / value) / spread), value <= limit)
        kept = np.fmin(kept, surely)
    return over, kept if asked.limits else np.full(len(ranked), np.nan)


def _chosen(
    fitted: FittedLaw,
    ranked: pd.DataFrame,
    left_out: dict[str, int],
    over: Array,
    prices: Mapping[str, Prices],
    asked: Asked,
) -> Recommendation:
    inside, within = ranked["inside"].to_numpy(), ranked["within_limits"].to_numpy()
    alike = within & inside
    outside = np.flatnonzero(within & ~inside)
    if not alike.any():
        alike = within
    order = np.flatnonzero(alike)
    if not order.size:
        pool = np.flatnonzero(inside) if inside.any() else np.arange(len(ranked))
        nearest = int(pool[np.argmin(over[pool])])
        return Recommendation(asked, ranked, left_out, None, (), (), None, nearest, {})
    best, following = int(order[0]), tuple(int(at) for at in order[1 : asked.show])
    of_kinds = _of_other_kinds(ranked[within], best)
    cheaper = int(outside[0]) if inside[best] and outside.size and outside[0] < best else None
    compared = sorted({best, *following, *of_kinds, *([] if cheaper is None else [cheaper])})
    odds = odds_of(fitted, ranked.loc[compared], best, prices, asked.by)
    return Recommendation(asked, ranked, left_out, best, following, of_kinds, cheaper, None, odds)


def _of_other_kinds(ranked: pd.DataFrame, best: int) -> tuple[int, ...]:
    """The cheapest of each kind but the best's: inside the law's ranges, or, of a kind that has none there, outside."""
    own = (ranked[KIND] == ranked.loc[best, KIND]).all(axis=1)
    others = ranked[~own].sort_values("inside", ascending=False, kind="stable")
    return tuple(sorted(int(at) for at in others.drop_duplicates(KIND).index))


def global_batches(rows: pd.DataFrame) -> Sequence[int]:
    """The sequences of an optimizer step that there are among candidates."""
    return sorted(int(each) for each in rows["global_batch"].unique())
