"""What every law is: the rows it sees, its fit, its forecast, and the fitted law that users hold."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model import efficiency
from joulelaw.model.blocks import in_blocks
from joulelaw.model.columns import coded, has
from joulelaw.model.hardware import Catalogue
from joulelaw.model.history import Event
from joulelaw.model.intervals import DISCREPANCY, POWER, TARGETS, Widths, Z, case_bootstrap
from joulelaw.model.operation_timings import OperationTimings
from joulelaw.model.parallelism import counts as count
from joulelaw.model.ranges import Outside, Ranges, in_words, outside
from joulelaw.model.repeats import once_each
from joulelaw.model.tables import CASE_COLUMNS, PRE_RUN_COLUMNS, TEXT_COLUMNS, check_configurations, key

Array = npt.NDArray[np.float64]
Target = Literal["duration", "energy"]
Parameters = Mapping[str, float]  # "target.name" -> value; all that a law's forecast depends on


@dataclass(frozen=True)
class Coefficient:
    """One fitted number. `low` and `high` are its 95 % interval; without a bootstrap nan, and nothing is identified."""

    target: str
    name: str
    value: float
    low: float
    high: float
    unit: str
    meaning: str
    at_bound: bool = False
    identified: bool = True  # False: the rows leave it open, and its value is mostly what was assumed beforehand


@dataclass(frozen=True)
class Rows:
    """Trials as a law sees them: a checked table (index 0, 1, ...) and its counts, row by row."""

    table: pd.DataFrame
    counts: pd.DataFrame
    operations: OperationTimings | None = None  # of the same devices; known before any run

    @classmethod
    def of(cls, table: pd.DataFrame, catalogue: Catalogue, operations: pd.DataFrame | None = None) -> Self:
        """Count the work of a checked table; only columns that are known before a run are looked at.

        Devices get the catalogue's own names: under two drivers' names one device would be two.
        """
        table = table.assign(gpu_model=table["gpu_model"].map(catalogue.own_names(table["gpu_model"].unique())))
        known = [name for name in PRE_RUN_COLUMNS if name in table.columns]
        timings = None if operations is None else OperationTimings.of(operations, catalogue)
        return cls(table, count(table[known], catalogue, peak=False), timings)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, which: npt.NDArray[np.bool_] | npt.NDArray[np.intp]) -> Self:
        """The rows of a mask, or of positions (which may repeat)."""
        at = np.flatnonzero(which) if which.dtype == bool else which
        table, counts = (frame.iloc[at].reset_index(drop=True) for frame in (self.table, self.counts))
        taken = type(self)(table, counts, self.operations)
        if "cases" in self.__dict__:
            taken.__dict__["cases"] = [self.cases[row] for row in at]
        return taken

    def pre_run(self) -> Self:
        """The same rows without a single column that is only known after the run."""
        known = [name for name in PRE_RUN_COLUMNS if name in self.table.columns]
        return type(self)(self.table[known], self.counts, self.operations)

    def column(self, name: str) -> Array:
        """A numeric column of the table, or of the counts where the table has none."""
        source = self.table if name in self.table.columns and name not in self.counts.columns else self.counts
        return source[name].to_numpy(dtype=float)

    @property
    def sized(self) -> pd.DataFrame:
        """The table with what else are axes of extrapolation: the counted size of a micro-step, a group's link, and
        the enforced power limit against the default."""
        return self.table.assign(
            flop_per_micro_step=self.counts["flop_per_micro_step"],
            link_bytes_per_s=np.where(self.column("gpu_count") > 1, self.column("link_bytes_per_s"), np.nan),
            power_limit_share=self.column("power_limit_w") / self.column("default_power_limit_w"),
        )

    @cached_property
    def cases(self) -> list[str]:
        return list(key(self.table, CASE_COLUMNS))

    @property
    def tokens(self) -> Array:
        return efficiency.total_tokens(self.table, self.counts)


@dataclass(frozen=True)
class Forecast:
    """Seconds and joules of each row; nan where the law cannot tell (said in the law's notes)."""

    duration_s: Array
    energy_j: Array
    outside: npt.NDArray[np.object_] | None = None  # by row, in words, what only this law knows to lie outside its fit

    def log(self, target: str) -> Array:
        return np.log(self.duration_s if target == "duration" else self.energy_j)


@dataclass(frozen=True)
class Estimate:
    """What a law's fit gives: its parameters, and remarks (what was dropped, left out or assumed)."""

    parameters: dict[str, float]
    notes: tuple[str, ...] = ()
    # Of the parameters in their order (of their logarithms for a law of positive ones); empty where the law has none.
    covariance: Array = field(default_factory=lambda: np.zeros((0, 0)))
    settled: bool = True  # False: the search for the parameters was stopped before it came to rest


class Law(Protocol):
    """One form of law. Everything it learns is in the parameters, so a law file needs nothing else."""

    @property
    def name(self) -> str: ...
    @property
    def post_run(self) -> bool: ...  # True: its forecasts use what is known only after the run
    @property
    def logarithmic(self) -> bool: ...  # True: parameters are positive, and vary in their logarithm

    @property
    def parameter_names(self) -> tuple[Sequence[str], Sequence[str]]:
        """Parameters that every fit has, and those that it may have; of names that end with "[" any continuation."""

    def fit(self, rows: Rows, *, seed: int = 0, start: Parameters | None = None, resampled: bool = False) -> Estimate:
        """Fit on measured rows. `resampled` marks a bootstrap draw. `start` are known near parameters: of such a refit
        nothing but the parameters need be found."""

    def resamples(self, rows: Rows, estimate: Estimate, draws: int, seed: int) -> Iterator[Rows]:
        """The bootstrap's data sets."""

    def forecast(self, parameters: Parameters, rows: Rows) -> Forecast: ...

    def slopes(self, parameters: Parameters, rows: Rows) -> tuple[Sequence[str], dict[str, Array]]:
        """By target, of the log forecasts in the parameters (their logarithms for positive ones): rows x names."""

    def coefficients(self, estimate: Estimate, draws: list[dict[str, float]], rows: Rows) -> tuple[Coefficient, ...]:
        """The fitted numbers with intervals: from the bootstrap draws, or the law's own errors."""


@dataclass(frozen=True)
class Provenance:
    """Where a law comes from: the data it was fitted on and what that covers."""

    n_trials: int
    n_cases: int
    data_hash: str
    meters: tuple[tuple[str, str], ...]  # (meter, measured | estimated | replayed)
    boundaries: tuple[str, ...]
    ranges: Ranges
    created_by: str

    @property
    def energy_is_estimated(self) -> bool:
        """True where no joule was metered: energy is watts times time, or assumed, and its scores prove nothing."""
        return all(kind == "estimated" for _, kind in self.meters)


@dataclass(frozen=True)
class FittedLaw:
    """A law with its parameters, coefficients, intervals and origin: what is saved, loaded and asked for forecasts."""

    law: Law
    parameters: dict[str, float]
    coefficients: tuple[Coefficient, ...]
    provenance: Provenance
    catalogue: Catalogue
    widths: Widths = field(default_factory=Widths)
    # Of the parameters, or of their logarithms for a law of positive ones; empty where nothing was drawn.
    covariance: Array = field(default_factory=lambda: np.zeros((0, 0)))
    notes: tuple[str, ...] = ()
    calibrated: tuple[str, ...] = ()  # device models that a few trials were taken up for after the fit
    history: tuple[Event, ...] = ()  # what was done to it, first to last

    def predict(self, table: pd.DataFrame, *, power: bool = False) -> pd.DataFrame:
        """Forecasts with 95 % intervals for the trials of a table, index-aligned with it.

        Columns: predicted_energy_j, energy_low_j, energy_high_j, predicted_duration_s, duration_low_s,
        duration_high_s, boundary (what the joules are of), extrapolates (the axes on which a row lies outside what was
        fitted; text, empty inside). With `power` also average_power_factor: what energy over duration is known to,
        either way (nan where the law cannot tell: see `model.costs`).
        A pre-run law sees the PRE_RUN_COLUMNS and nothing else. Raises InputError for a table that lacks
        configuration columns, an unknown device, or a boundary that the law was not fitted on.
        """
        checked = self.at_boundary(check_configurations(table))
        if self.law.post_run:  # its reference runs are other rows of the table
            frame = self.predict_rows(Rows.of(checked, self.catalogue), power=power)
        else:
            frame = in_blocks(lambda block: self._predict(block, power), checked)
        frame.index = table.index
        return frame

    def _predict(self, checked: pd.DataFrame, power: bool) -> pd.DataFrame:
        known = [name for name in PRE_RUN_COLUMNS if name in checked.columns]
        table = coded(checked[known], (*TEXT_COLUMNS, "boundary"))
        return once_each(lambda part: self.predict_rows(Rows.of(part, self.catalogue), power=power), table)

    def at_boundary(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the boundary that its energies are forecast for: the fit's, or, of several, the row's own."""
        fitted = self.provenance.boundaries
        asked = table["boundary"] if "boundary" in table.columns else pd.Series(None, index=table.index, dtype=object)
        if len(fitted) == 1:
            asked = asked.fillna(fitted[0])
        if (asked == fitted[0]).all():
            return table.assign(boundary=fitted[0])
        if not asked.isin(fitted).all():
            raise InputError(
                f"boundary {asked[~asked.isin(fitted)].iloc[0]!r} is none of those fitted",
                where="table, column boundary",
                remedy=f"state one of {', '.join(fitted)} in every row",
            )
        return table

    def predict_rows(self, rows: Rows, *, power: bool = False) -> pd.DataFrame:
        """As predict, of rows already checked and counted."""
        seen = rows if self.law.post_run else rows.pre_run()
        forecast = self.law.forecast(self.parameters, seen)
        axes = outside(seen.sized, self.provenance.ranges)
        said = in_words(axes, seen.table.index)
        if forecast.outside is not None:
            said = (said + "; " + pd.Series(forecast.outside, index=said.index, dtype=str)).str.strip("; ")
        if self.provenance.n_trials == 0:
            said = pd.Series("everything: nothing was fitted", index=said.index, dtype=str)
        targets = (*TARGETS, POWER) if power and self.widths.tells_power else TARGETS
        half = self._half_widths(seen, axes, (said != "").to_numpy(dtype=bool), targets)
        columns: dict[str, object] = {}
        for target, unit, values in (("energy", "j", forecast.energy_j), ("duration", "s", forecast.duration_s)):
            factor = np.exp(half[target])
            columns[f"predicted_{target}_{unit}"] = values
            columns[f"{target}_low_{unit}"] = values / factor
            columns[f"{target}_high_{unit}"] = values * factor
        if power:
            columns["average_power_factor"] = np.exp(half.get(POWER, np.full(len(rows), np.nan)))
        columns["boundary"] = seen.table["boundary"]  # what the joules are of
        return pd.DataFrame(columns | {"extrapolates": said}, index=seen.table.index)

    def _half_widths(
        self, rows: Rows, axes: Mapping[str, Outside], told: npt.NDArray[np.bool_], targets: Sequence[str]
    ) -> dict[str, Array]:
        """Log half-widths: what unseen cases missed by; outside the fit (`told`) also what parameters leave open."""
        few = has(rows.table, "gpu_model", self.calibrated)
        half = self.widths.of_cases(rows.table, targets)
        self.widths.widen(half, axes)
        wide = {target: told | few | np.isnan(each) for target, each in half.items()}
        rows_wide = np.flatnonzero(np.logical_or.reduce(list(wide.values())))
        spread = self._spread(rows.take(rows_wide)) if rows_wide.size and self.covariance.size else {}
        for target, each in half.items():
            if target in spread:
                own = wide[target][rows_wide]
                at = rows_wide[own]
                each[at] = np.hypot(np.nan_to_num(each[at]), Z * spread[target][own])
            each[few] = np.hypot(each[few], Z * DISCREPANCY)
        return half

    def _spread(self, rows: Rows) -> dict[str, Array]:
        """Standard deviation of log forecasts by target, from the parameters' covariance by the delta method."""
        names, slopes = self.law.slopes(self.parameters, rows)
        place = {name: j for j, name in enumerate(list(self.parameters)[: len(self.covariance)])}
        known = [j for j, name in enumerate(names) if name in place]
        at = [place[names[j]] for j in known]
        covariance = self.covariance[np.ix_(at, at)]

        def spread(slope: Array) -> Array:
            variance: Array = np.einsum("ij,ij->i", slope @ covariance, slope)
            return np.sqrt(np.maximum(variance, 0.0))

        slopes = {**slopes, POWER: slopes["energy"] - slopes["duration"]}
        return {target: spread(slope[:, known]) for target, slope in slopes.items()}


def case_resamples(rows: Rows, draws: int, seed: int) -> Iterator[Rows]:
    """As many cases as there are, drawn whole with replacement."""
    return (rows.take(at) for at in case_bootstrap(rows.cases, draws, seed))
