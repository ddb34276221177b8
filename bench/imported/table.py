"""A measurement table from elsewhere, checked whole, as rows of a dataset's trials."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from joulelaw import InputError
from joulelaw.bench.dataset.columns import as_table
from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.bench.forecast.tables import MODEL, with_shapes
from joulelaw.bench.imported.checks import reasons_of
from joulelaw.bench.imported.units import unit_problems
from joulelaw.bench.trial.checks import Remark
from joulelaw.model.columns import flags, numbers, read_numbers
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import FIT, HOLD_OUT
from joulelaw.model.problems import Problems
from joulelaw.model.tables import (
    CONFIGURATION_COLUMNS,
    MEASURED_COLUMNS,
    UNKNOWN_METER,
    find_configurations,
    find_measurements,
)
from joulelaw.model.vocabulary import find_unknown

# What joules may cover; the last two are those of this program's meters of processors.
BOUNDARIES = ("gpu", "gpu_host_modelled", "node_dc", "node_ac", "cpu_package", "cpu_modelled")
# What kind of number an energy is. A table that does not say has stated it, and no more.
STATED = "stated"
METER_KINDS = ("measured", "estimated", "replayed", STATED)

NEEDED = ("trial_id", *CONFIGURATION_COLUMNS, "micro_steps", *MEASURED_COLUMNS)
CHOICES = {
    "boundary": BOUNDARIES,
    "meter_kind": METER_KINDS,
    "split": (FIT, HOLD_OUT),
    "verdict": ("valid", "invalid"),
}
POSITIVE = ("parallel_efficiency", "energy_net_j", "padded_tokens")
TRUTHS = ("activation_checkpointing", "torch_compile", "ambiguous_steps")
OPTIONAL = (
    *CHOICES,
    *POSITIVE,
    *TRUTHS,
    *("meter", "energy_stderr_j", "power_limit_w", "link", "link_bytes_per_s", "network_bytes_per_s"),
    *("repeats", "input_size", "num_labels", "dropout", "attention", "head", "tensor_parallel"),
)


@dataclass(frozen=True)
class Imported:
    """`trials` are rows of TRIALS; `ignored` the columns that mean nothing here; `renamed` devices by other names."""

    trials: pa.Table
    ignored: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]


def check_imported(table: pd.DataFrame, catalogue: Catalogue, boundary: str | None = None) -> Imported:
    """The table's rows as trials, each with a verdict.

    `boundary` is what the joules cover where the table has no column of it. Raises InputError with all that is
    missing, in another unit, impossible or unknown, and its row.
    """
    if boundary is not None and boundary not in BOUNDARIES:
        raise InputError(f"unknown boundary {boundary!r}", where="--boundary", remedy=f"one of {', '.join(BOUNDARIES)}")
    if table.empty:
        raise InputError("no rows", where="table", remedy="give at least one trial")
    given, table = table.columns, with_shapes(table)
    problems = Problems(table)
    for text in unit_problems(table.columns, NEEDED, OPTIONAL):
        problems.add(text)
    checked = _with_boundary(table.reset_index(drop=True), boundary, problems)
    checked = find_measurements(find_configurations(checked, problems), problems)
    find_unknown(checked, catalogue, problems)
    _find_optional(checked, problems)
    problems.refuse()
    read = {*NEEDED, *OPTIONAL, *([MODEL] if len(table.columns) > len(given) else [])}
    names = {str(name): catalogue.get(str(name)).name for name in checked["gpu_model"].unique()}
    checked["gpu_model"] = checked["gpu_model"].astype(str).map(names)
    return Imported(
        trials=_trials(checked, reasons_of(checked, catalogue)),
        ignored=tuple(str(name) for name in given if name not in read),
        renamed=tuple((other, name) for other, name in names.items() if other != name),
    )


def _with_boundary(table: pd.DataFrame, boundary: str | None, problems: Problems) -> pd.DataFrame:
    if "boundary" not in table.columns:
        if boundary is None:
            problems.add(f"column boundary is missing: say what energy_j covers with --boundary {'|'.join(BOUNDARIES)}")
            return table
        return table.assign(boundary=boundary)
    if boundary is not None:
        other = table["boundary"].notna() & (table["boundary"] != boundary)
        problems.find("boundary", other, f"is not the {boundary} of --boundary")
        return table.assign(boundary=table["boundary"].fillna(boundary))
    return table


def _find_optional(table: pd.DataFrame, problems: Problems) -> None:
    for name, choices in CHOICES.items():
        if name in table.columns:
            wrong = table[name].notna() & ~table[name].isin(choices)
            problems.find(name, wrong, f"must be one of {', '.join(choices)}")
    if "split" in table.columns and table["split"].notna().any():
        problems.find("split", table["split"].isna(), "is empty, where other rows have one")
    for name in (*POSITIVE, "repeats", "energy_stderr_j"):
        if name in table.columns:
            values, unreadable = read_numbers(table[name])
            problems.find(name, unreadable, "is not a number")
            least = 0 if name == "energy_stderr_j" else np.nextafter(0, 1)
            problems.find(name, (values < least) | np.isinf(values), "must be a positive number")
            if name == "repeats":
                problems.find(name, values > np.floor(values), "must be a whole number")
    for name in TRUTHS:
        if name in table.columns:
            known = table[name].isna() | table[name].astype(str).str.lower().isin(_WORDS)
            problems.find(name, ~known, "is neither true nor false")


_WORDS = ("true", "false", "1", "0", "1.0", "0.0")


def _trials(table: pd.DataFrame, reasons: Sequence[list[str]]) -> pa.Table:
    """The rows in the dataset's schema; what the table does not say is null."""
    columns: dict[str, object] = dict.fromkeys(TRIALS.names)
    for name in (*NEEDED, *OPTIONAL):
        if name in table.columns and name in TRIALS.names:
            columns[name] = _column(table, TRIALS.field(name))
    columns |= {
        "attempt": 0,
        "status": "done",
        "failure": "",
        "verdict": ["invalid" if codes else "valid" for codes in reasons],
        "reasons": [codes or [Remark.IMPORTED.value] for codes in reasons],
        "meter": _texts(table, "meter", UNKNOWN_METER),
        "meter_kind": _texts(table, "meter_kind", STATED),
    }
    return as_table(columns, TRIALS, "trials")


def _column(table: pd.DataFrame, field: pa.Field) -> object:
    if pa.types.is_boolean(field.type):
        truths = flags(table, field.name)
        return [None if empty else bool(truth) for empty, truth in zip(table[field.name].isna(), truths, strict=True)]
    if pa.types.is_string(field.type):
        return pa.array([None if pd.isna(text) else str(text) for text in table[field.name]], pa.string())
    return pa.array(numbers(table, field.name), field.type, from_pandas=True)


def _texts(table: pd.DataFrame, name: str, default: str) -> list[str]:
    if name not in table.columns:
        return [default] * len(table)
    return [default if pd.isna(text) else str(text) for text in table[name]]
