"""The measurement table: its columns, which of them are known before a run, and whether its values can be true."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.architecture import HEADS
from joulelaw.model.columns import numbers, refuse

# A case (P1: configuration family). Strategy, counts and repeats stay out: they would leak between fit and hold-out.
CASE_COLUMNS = (
    "gpu_model",
    "model_family",
    "num_layers",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "vocab_size",
    "sequence_length",
    "micro_batch_size",
    "grad_accumulation",
    "precision",
)
WORKLOAD_COLUMNS = CASE_COLUMNS[1:]
# Details that are no part of the case, and change what a device does: who compares two trials asks for equal ones.
DETAIL_COLUMNS = ("dropout", "attention", "head", "activation_checkpointing", "torch_compile", "data")
CONFIGURATION_COLUMNS = (*CASE_COLUMNS, "strategy", "gpu_count", "node_count")

TEXT_COLUMNS = ("gpu_model", "strategy", "model_family", "precision")
COUNT_COLUMNS = tuple(name for name in CONFIGURATION_COLUMNS if name not in TEXT_COLUMNS)
# What may be left out or empty, and is then as `parallelism.counts` says.
OPTIONAL_COUNTS = ("num_labels", "tensor_parallel")
OPTIONAL_RATES = ("power_limit_w", "link_bytes_per_s", "network_bytes_per_s")
OPTIONAL_CHOICES = {"attention": ("sdpa", "eager"), "head": HEADS}
MEASURED_COLUMNS = ("duration_s", "energy_j")

# All that a forecast may look at. Everything else in a table is dropped before a pre-run law sees it.
PRE_RUN_COLUMNS = (
    *CONFIGURATION_COLUMNS,
    "micro_steps",
    "boundary",
    "num_labels",
    "dropout",
    "attention",
    "head",
    "tensor_parallel",
    "activation_checkpointing",
    "torch_compile",
    "link",
    "link_bytes_per_s",
    "network_bytes_per_s",
    "power_limit_w",
)

UNKNOWN_METER = "unstated"
MOST = 1e9  # of any count: products of a few stay far below what a float holds


def check_configurations(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with whole-number counts and a fresh index, of a table that has what a forecast needs.

    Raises InputError with every missing column, or with the first row whose value cannot be.
    """
    needed = (*CONFIGURATION_COLUMNS, "micro_steps")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        remedy = f"name them so in the first line; all that are needed: {', '.join(needed)}"
        raise InputError(f"columns missing: {', '.join(missing)}", where="table", remedy=remedy)
    if table.empty:
        raise InputError("no rows", where="table", remedy="give at least one trial")
    checked = table.reset_index(drop=True).copy()
    for name in TEXT_COLUMNS:
        refuse(checked, name, checked[name].isna() | (checked[name].astype(str) == ""), "is empty")
        checked[name] = checked[name].astype(str)
    for name in (*COUNT_COLUMNS, "micro_steps"):
        counts = _filled(checked, name)
        _refuse_all_but_counts(checked, name, counts)
        checked[name] = counts.astype(np.int64)
    _check_optional(checked)
    refuse(checked, "num_heads", checked["hidden_size"] % checked["num_heads"] != 0, "must divide hidden_size")
    refuse(checked, "node_count", checked["node_count"] > checked["gpu_count"], "must be at most gpu_count")
    if "trial_id" in checked.columns:
        refuse(checked, "trial_id", checked["trial_id"].isna(), "is empty")
        refuse(checked, "trial_id", checked["trial_id"].duplicated(), "occurs twice")
    return checked


def _check_optional(table: pd.DataFrame) -> None:
    """That what is given of the optional columns can be, so that no default stands in for what could not be read."""
    for name in OPTIONAL_COUNTS:
        _refuse_all_but_counts(table, name, numbers(table, name))
    for name in OPTIONAL_RATES:
        given = numbers(table, name)
        refuse(table, name, (given <= 0) | np.isinf(given), "must be a positive number")
    dropout = numbers(table, "dropout")
    refuse(table, "dropout", (dropout < 0) | (dropout >= 1), "must be at least 0 and below 1")
    for name, choices in OPTIONAL_CHOICES.items():
        if name in table.columns:
            known = table[name].isna() | table[name].isin(choices)
            refuse(table, name, ~known, f"must be one of {', '.join(choices)}")


def _refuse_all_but_counts(table: pd.DataFrame, name: str, given: npt.NDArray[np.float64]) -> None:
    """Whole numbers from 1 to MOST; what is empty passes."""
    refuse(table, name, given < 1, "must be at least 1")
    refuse(table, name, given > MOST, f"must be at most {MOST:.0e}")
    refuse(table, name, given > np.floor(given), "must be a whole number")


def check_measurements(table: pd.DataFrame, *, allow_mixed_meters: bool = False) -> pd.DataFrame:
    """A clean copy of a table that a law can be fitted on: valid, finished trials with energy and duration.

    Failed trials (`status`) and invalid ones (`verdict`) are left out. A dataset's trial without a verdict, a
    missing or non-positive measurement, a repeated trial_id, and (unless allowed) more than one meter or
    boundary raise InputError.
    """
    missing = [name for name in ("trial_id", *MEASURED_COLUMNS, "boundary") if name not in table.columns]
    if missing:
        raise InputError(f"columns missing: {', '.join(missing)}", where="table", remedy="a fit needs measured trials")
    rows = table
    if "status" in rows.columns:
        rows = rows[rows["status"] == "done"]
    if "verdict" in rows.columns:
        unjudged = rows[~rows["verdict"].isin(["valid", "invalid"])]
        if not unjudged.empty:
            raise InputError(
                f"{len(unjudged)} trials have no verdict, first {unjudged['trial_id'].iloc[0]}",
                where="table",
                remedy="a trial is fitted or scored only after its energy was checked",
            )
        rows = rows[rows["verdict"] == "valid"]
    if rows.empty:
        raise InputError(f"no valid trials among {len(table)}", where="table", remedy="see the reasons column")
    checked = check_configurations(rows)
    for name in MEASURED_COLUMNS:
        checked[name] = _filled(checked, name)
        refuse(checked, name, ~(np.isfinite(checked[name]) & (checked[name] > 0)), "must be a positive number")
    refuse(checked, "boundary", checked["boundary"].isna(), "is empty")
    if not allow_mixed_meters:
        refuse_mixed(checked)
    return checked


def meters_of(table: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """The (meter, kind) pairs that a table's energies come from; "unstated" where the table does not say."""
    names = [_column(table, name) for name in ("meter", "meter_kind")]
    return tuple(sorted(set(zip(*names, strict=True))))


def refuse_mixed(table: pd.DataFrame) -> None:
    """Raise InputError when the energies come from several meters or cover several boundaries."""
    boundaries = sorted(set(table["boundary"].astype(str)))
    meters = [" ".join(pair) for pair in meters_of(table)]
    for what, values in (("boundaries", boundaries), ("meters", meters)):
        if len(values) > 1:
            raise InputError(
                f"mixed {what}: {', '.join(values)}",
                where="table",
                remedy="fit them apart, or give --allow-mixed-meters",
            )


def key(table: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """One text per row that is equal exactly where the columns are (given checked, whole-number counts)."""
    values = zip(*(map(str, table[name].tolist()) for name in columns), strict=True)
    return pd.Series(["|".join(texts) for texts in values], index=table.index, dtype=str)


def content_hash(table: pd.DataFrame) -> str:
    """SHA-256 of the configurations and measurements, whatever the order of rows and other columns."""
    columns = [*CONFIGURATION_COLUMNS, "micro_steps", *MEASURED_COLUMNS, "boundary"]
    exact = {name: [format(float(value), ".17g") for value in table[name]] for name in MEASURED_COLUMNS}
    lines = sorted(key(table.assign(**exact), columns))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _column(table: pd.DataFrame, name: str) -> pd.Series:
    if name not in table.columns:
        return pd.Series(UNKNOWN_METER, index=table.index)
    return table[name].fillna(UNKNOWN_METER).astype(str)


def _filled(table: pd.DataFrame, name: str) -> npt.NDArray[np.float64]:
    """A column of numbers none of which may be empty."""
    values = numbers(table, name)
    refuse(table, name, np.isnan(values), "is not a number")
    return values
