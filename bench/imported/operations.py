"""A table of operation timings from elsewhere, checked whole: one row a timing of one operation alone."""

import numpy as np
import pandas as pd
import pyarrow as pa

from joulelaw import InputError
from joulelaw.bench.dataset.columns import as_table
from joulelaw.bench.dataset.tables import OPERATIONS
from joulelaw.bench.imported.units import unit_problems
from joulelaw.model.columns import numbers, read_numbers
from joulelaw.model.hardware import Catalogue
from joulelaw.model.problems import Problems
from joulelaw.model.vocabulary import find_unknown

FAMILIES = ("transformer", "lstm", "gru")
TEXTS = ("gpu_model", "model_family", "operation", "precision")
SIZES = ("micro_batch_size", "sequence_length", "hidden_size", "input_size")


def check_operations(table: pd.DataFrame, catalogue: Catalogue) -> pa.Table:
    """Rows of OPERATIONS. Raises InputError with all that is missing, impossible or unknown, and its row."""
    if table.empty:
        raise InputError("no rows", where="table", remedy="give at least one timing")
    problems = Problems(table)
    for text in unit_problems(table.columns, OPERATIONS.names, ()):
        problems.add(text)
    checked = table.reset_index(drop=True)
    for name in (name for name in TEXTS if name in checked.columns):
        problems.find(name, checked[name].isna() | (checked[name].astype(str).str.strip() == ""), "is empty")
    for name in (name for name in ("flop", "duration_s") if name in checked.columns):
        values, _ = read_numbers(checked[name])
        number = problems.find(name, np.isnan(values), "is not a number")
        problems.find(name, number & ~(np.isfinite(values) & (values > 0)), "must be a positive number")
    for name in (name for name in SIZES if name in checked.columns):
        values, unreadable = read_numbers(checked[name])
        problems.find(name, unreadable, "is not a number")
        wrong = (values < 1) | (values > np.iinfo(np.int32).max) | (values > np.floor(values))
        problems.find(name, wrong, "must be a whole number of at least 1, or empty")
    if "model_family" in checked.columns:
        other = checked["model_family"].notna() & ~checked["model_family"].isin(FAMILIES)
        problems.find("model_family", other, f"must be one of {', '.join(FAMILIES)}")
    find_unknown(checked.drop(columns="model_family", errors="ignore"), catalogue, problems)
    problems.refuse()
    columns: dict[str, object] = {name: pa.array(checked[name].astype(str).tolist(), pa.string()) for name in TEXTS}
    columns["gpu_model"] = [catalogue.get(str(name)).name for name in checked["gpu_model"]]
    for name in OPERATIONS.names[len(TEXTS) :]:
        columns[name] = pa.array(numbers(checked, name), OPERATIONS.field(name).type, from_pandas=True)
    return as_table(columns, OPERATIONS, "operations")
