"""The measurement table: its columns, which of them are known before a run, and whether its values can be true."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.architecture import HEADS
from joulelaw.model.columns import read_numbers
from joulelaw.model.hardware import Catalogue
from joulelaw.model.problems import Problems
from joulelaw.model.vocabulary import find_unknown

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
DETAIL_COLUMNS = ("dropout", "attention", "head", "activation_checkpointing", "torch_compile", "data", "input_size")
CONFIGURATION_COLUMNS = (*CASE_COLUMNS, "strategy", "gpu_count", "node_count")

TEXT_COLUMNS = ("gpu_model", "strategy", "model_family", "precision")
COUNT_COLUMNS = tuple(name for name in CONFIGURATION_COLUMNS if name not in TEXT_COLUMNS)
# What may be left out or empty, and is then as `parallelism.counts` says.
OPTIONAL_COUNTS = ("num_labels", "tensor_parallel", "input_size")
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
    "input_size",
)

# What a table tells about a trial beside that.
TOLD_COLUMNS = ("trial_id", "meter", "meter_kind", "verdict", "split", "repeats", "parallel_efficiency")
NESTED = (list, tuple, dict, set, np.ndarray)

UNKNOWN_METER = "unstated"
MOST = 1e9  # of any count: products of a few stay far below what a float holds


def check_configurations(table: pd.DataFrame, catalogue: Catalogue | None = None) -> pd.DataFrame:
    """A copy with whole-number counts and a fresh index, of a table that has what a forecast needs.

    Raises InputError with every missing column, or with every value that cannot be, and its row; with a catalogue
    also with every name that neither it nor the counts know.
    """
    check_columns(table, (*CONFIGURATION_COLUMNS, "micro_steps"))
    problems = Problems(table)
    checked = find_configurations(table, problems)
    if catalogue is not None and not problems:
        find_unknown(checked, catalogue, problems)
    problems.refuse()
    return checked


def check_columns(table: pd.DataFrame, needed: Sequence[str]) -> None:
    """Raises InputError where columns are missing or there twice, or there is no row."""
    twice = sorted({str(name) for name in table.columns[table.columns.duplicated()]})
    if twice:
        raise InputError(f"columns there twice: {', '.join(twice)}", where="table", remedy="keep one of each")
    missing = [name for name in needed if name not in table.columns]
    if missing:
        remedy = f"name them so in the first line; all that are needed: {', '.join(needed)}"
        raise InputError(f"columns missing: {', '.join(missing)}", where="table", remedy=remedy)
    if table.empty:
        raise InputError("no rows", where="table", remedy="give at least one trial")


def find_configurations(table: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The table with whole-number counts and a fresh index; what cannot be goes to `problems`.

    Of the columns that are there: which are missing is the caller's question. Where there are problems the result is
    good for looking on, not for counting.
    """
    _refuse_nested(table, problems)
    checked = table.reset_index(drop=True)
    for name in TEXT_COLUMNS:
        if name in checked.columns:
            checked[name] = _texts(checked, name, problems)
    for name in (*COUNT_COLUMNS, "micro_steps"):
        if name in checked.columns and not _are_counts(checked[name]):
            checked[name] = _read_counts(checked, name, problems)
    _find_optional(checked, problems)
    if {"hidden_size", "num_heads"} <= set(checked.columns):
        wrong = checked["hidden_size"] % checked["num_heads"] > 0
        problems.find("num_heads", wrong, "must divide hidden_size")
    if {"node_count", "gpu_count"} <= set(checked.columns):
        wrong = (checked["node_count"] > checked["gpu_count"]) & (checked["gpu_count"] >= 1)
        problems.find("node_count", wrong, "must be at most gpu_count")
    if "trial_id" in checked.columns:
        _find_repeated_ids(checked["trial_id"], problems)
    return checked


def _refuse_nested(table: pd.DataFrame, problems: Problems) -> None:
    """Lists and structs, which Parquet has: no other check can look at them."""
    for name in (*PRE_RUN_COLUMNS, *MEASURED_COLUMNS, *TOLD_COLUMNS):
        here = name in table.columns and table[name].dtype == object
        if here and pd.api.types.infer_dtype(table[name]) == "mixed":
            nested = [isinstance(each, NESTED) for each in table[name]]
            if not problems.find(name, nested, "must be one value, not several").all():
                problems.refuse()


def _texts(table: pd.DataFrame, name: str, problems: Problems) -> pd.Series:
    column = table[name]
    if not isinstance(column.dtype, pd.CategoricalDtype) and not pd.api.types.is_string_dtype(column):
        column = column.astype(str).where(column.notna(), None)
    if (empty := column.isna()).any() or (column == "").any():
        problems.find(name, empty | (column == ""), "is empty")
    return column


def _are_counts(column: pd.Series) -> bool:
    """Told in two passes, as most columns of most tables are."""
    return bool(column.dtype == np.int64 and column.min() >= 1 and column.max() <= MOST)


def _read_counts(table: pd.DataFrame, name: str, problems: Problems) -> npt.NDArray[np.int64] | npt.NDArray[np.float64]:
    """Whole numbers from 1 to MOST; as floats where a value is none."""
    values, _ = read_numbers(table[name])
    good = problems.find(name, np.isnan(values), "is not a number") & _find_counts(name, values, problems)
    return values.astype(np.int64) if good.all() else values


def _find_counts(name: str, given: npt.NDArray[np.float64], problems: Problems) -> npt.NDArray[np.bool_]:
    """What is not a whole number from 1 to MOST; what is empty passes."""
    good = problems.find(name, given < 1, "must be at least 1")
    good &= problems.find(name, given > MOST, f"must be at most {MOST:.0e}")
    return good & problems.find(name, good & (given > np.floor(given)), "must be a whole number")


def _find_optional(table: pd.DataFrame, problems: Problems) -> None:
    """That what is given of the optional columns can be, so that no default stands in for what could not be read."""
    for name in OPTIONAL_COUNTS:
        _find_counts(name, _given(table, name, problems), problems)
    for name in OPTIONAL_RATES:
        given = _given(table, name, problems)
        problems.find(name, (given <= 0) | np.isinf(given), "must be a positive number")
    dropout = _given(table, "dropout", problems)
    problems.find("dropout", (dropout < 0) | (dropout >= 1), "must be at least 0 and below 1")
    for name, choices in OPTIONAL_CHOICES.items():
        if name in table.columns:
            known = table[name].isna() | table[name].isin(choices)
            problems.find(name, ~known, f"must be one of {', '.join(choices)}")


def _given(table: pd.DataFrame, name: str, problems: Problems) -> npt.NDArray[np.float64]:
    """An optional column of numbers, nothing where there is none."""
    if name not in table.columns:
        return np.empty(0)
    values, unreadable = read_numbers(table[name])
    problems.find(name, unreadable, "is not a number")
    return values


def _find_repeated_ids(ids: pd.Series, problems: Problems) -> None:
    if not problems.find("trial_id", ids.isna(), "is empty").all():
        ids = ids.dropna()
    if ids.is_unique:
        return
    first = ids.drop_duplicates()
    places = dict(zip(first, first.index, strict=True))
    again = problems.table["trial_id"].reset_index(drop=True)
    wrong = (again.duplicated() & again.notna()).to_numpy(dtype=bool)
    problems.find("trial_id", wrong, lambda row: f"occurs twice, first in row {problems.number(places[again[row]])}")


def check_measurements(table: pd.DataFrame, *, allow_mixed_meters: bool = False) -> pd.DataFrame:
    """A clean copy of a table that a law can be fitted on: valid, finished trials with energy and duration.

    Failed trials (`status`) and invalid ones (`verdict`) are left out. A dataset's trial without a verdict, a
    missing or non-positive measurement, a repeated trial_id, and (unless allowed) more than one meter or
    boundary raise InputError; what is wrong with values is told of all rows at once.
    """
    check_columns(table, ("trial_id", *CONFIGURATION_COLUMNS, "micro_steps", *MEASURED_COLUMNS, "boundary"))
    wanted = np.ones(len(table), dtype=bool)
    if "status" in table.columns:
        wanted &= (table["status"] == "done").to_numpy(dtype=bool)
    if "verdict" in table.columns:
        unjudged = table[wanted & ~table["verdict"].isin(["valid", "invalid"]).to_numpy(dtype=bool)]
        if not unjudged.empty:
            raise InputError(
                f"{len(unjudged)} trials have no verdict, first {unjudged['trial_id'].iloc[0]}",
                where="table",
                remedy="a trial is fitted or scored only after its energy was checked",
            )
        wanted &= (table["verdict"] == "valid").to_numpy(dtype=bool)
    if not wanted.any():
        raise InputError(f"no valid trials among {len(table)}", where="table", remedy="see the reasons column")
    rows = table[wanted]
    problems = Problems(rows, np.flatnonzero(wanted))
    checked = find_measurements(find_configurations(rows, problems), problems)
    problems.refuse()
    if not allow_mixed_meters:
        refuse_mixed(checked)
    return checked


def find_measurements(checked: pd.DataFrame, problems: Problems) -> pd.DataFrame:
    """The table with durations and energies as numbers; what cannot be goes to `problems`."""
    for name in MEASURED_COLUMNS:
        if name in checked.columns:
            values, _ = read_numbers(checked[name])
            number = problems.find(name, np.isnan(values), "is not a number")
            problems.find(name, number & ~(np.isfinite(values) & (values > 0)), "must be a positive number")
            checked[name] = values
    if "boundary" in checked.columns:
        problems.find("boundary", checked["boundary"].isna(), "is empty")
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
