"""The measurement table: its columns, which of them are known before a run, and whether its values can be true."""

import hashlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from joulelaw import InputError

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
        _refuse(checked, name, checked[name].isna() | (checked[name].astype(str) == ""), "is empty")
        checked[name] = checked[name].astype(str)
    for name in (*COUNT_COLUMNS, "micro_steps"):
        numbers = _numbers(checked, name)
        _refuse(checked, name, ~(numbers >= 1), "must be at least 1")
        _refuse(checked, name, numbers > MOST, f"must be at most {MOST:.0e}")
        _refuse(checked, name, numbers != np.floor(numbers), "must be a whole number")
        checked[name] = numbers.astype(np.int64)
    _refuse(checked, "num_heads", checked["hidden_size"] % checked["num_heads"] != 0, "must divide hidden_size")
    _refuse(checked, "node_count", checked["node_count"] > checked["gpu_count"], "must be at most gpu_count")
    if "trial_id" in checked.columns:
        _refuse(checked, "trial_id", checked["trial_id"].isna(), "is empty")
        _refuse(checked, "trial_id", checked["trial_id"].duplicated(), "occurs twice")
    return checked


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
        numbers = _numbers(checked, name)
        _refuse(checked, name, ~(np.isfinite(numbers) & (numbers > 0)), "must be a positive number")
        checked[name] = numbers
    _refuse(checked, "boundary", checked["boundary"].isna(), "is empty")
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


def _numbers(table: pd.DataFrame, name: str) -> pd.Series:
    numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
    _refuse(table, name, numbers.isna(), "is not a number")
    return numbers


def _refuse(table: pd.DataFrame, name: str, wrong: "pd.Series[bool]", why: str) -> None:
    if not wrong.any():
        return
    position = int(np.flatnonzero(wrong.to_numpy())[0])
    value = table[name].iloc[position]
    plain = value.item() if hasattr(value, "item") else value
    trial = f", trial {table['trial_id'].iloc[position]}" if "trial_id" in table.columns else ""
    remedy = "correct the value, or leave the row out"
    raise InputError(f"{name} {why} (it is {plain!r})", where=f"table row {position + 1}{trial}", remedy=remedy)
