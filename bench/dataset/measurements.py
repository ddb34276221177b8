"""Read datasets back: measurements for the fit, and one trial's steps and readings. Loads neither torch nor Ray."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from joulelaw import InputError
from joulelaw.bench.dataset.file_names import trial_files
from joulelaw.bench.dataset.storage import Place, as_argument, files
from joulelaw.bench.dataset.table_files import UnreadableTableError, read_file, read_files
from joulelaw.bench.dataset.tables import EVENTS, METERS, POWER, STEPS, TRIALS


def read_measurements(folders: Sequence[Place], *, include_invalid: bool = False) -> pd.DataFrame:
    """The measurement rows of these datasets: the columns of TRIALS, and `dataset`, a name for its folder.

    Only finished, valid trials, unless `include_invalid`; finished ones that nobody judged are refused. Units are those
    of `bench.tables`; a missing number is NaN, never 0. Rows are ordered by dataset and trial_id. A trial_id that
    several datasets share (the same configuration, measured in each) becomes `<dataset>:<trial_id>`, so that trial_id
    stays unique.
    """
    names = _dataset_names(folders)
    parts = [
        table.append_column("dataset", pa.array([name] * len(table), pa.string()))
        for name, table in zip(names, map(read_trials_table, folders), strict=True)
    ]
    nothing = TRIALS.append(pa.field("dataset", pa.string())).empty_table()
    rows = pa.concat_tables([nothing, *parts])
    if not include_invalid:  # before pandas, where a failed trial's gaps would turn counts into floats
        rows = rows.filter(pc.equal(rows["status"], "done"))
        _check_judged(rows)
        rows = rows.filter(pc.equal(rows["verdict"], "valid"))
    table = _frame(rows.sort_by([("dataset", "ascending"), ("trial_id", "ascending")]))
    shared = table["trial_id"].duplicated(keep=False)
    table["trial_id"] = table["trial_id"].mask(shared, table["dataset"] + ":" + table["trial_id"])
    return table


def _check_judged(rows: pa.Table) -> None:
    """Raises InputError where a finished trial has no verdict: it would be left out, or believed, unseen."""
    judged = pc.fill_null(pc.is_in(rows["verdict"], pa.array(["valid", "invalid"])), False)
    unjudged = rows.filter(pc.invert(judged))
    if len(unjudged):
        what = f"{len(unjudged)} trials have no verdict, first {unjudged['trial_id'][0].as_py()}"
        remedy = "take their files out of the dataset, and run the study again: it measures them anew"
        raise InputError(what, where=unjudged["dataset"][0].as_py(), remedy=remedy)


def with_full_texts(measured: pd.DataFrame) -> pd.DataFrame:
    """The measurement rows that laws can be fitted on and compared with: those whose texts all reached sequence_length.

    The laws' counts are of full sequences. Schema 1 did not record padded tokens, and had full sequences only.
    """
    data_parallel = measured["gpu_count"] // measured["tensor_parallel"]
    sequences = measured["micro_steps"] * measured["micro_batch_size"] * data_parallel
    computed = measured["padded_tokens"]
    return measured[computed.isna() | (computed == sequences * measured["sequence_length"])]


def read_trials(folder: Place) -> pd.DataFrame:
    """Every committed trial of one dataset, failed and invalid ones included, ordered by trial_id."""
    return _frame(read_trials_table(folder))


def read_trials_table(folder: Place) -> pa.Table:
    """As `read_trials`, in the order of the files, with whole numbers whole where others are missing."""
    if not is_dataset(folder):
        remedy = "give the folder that `joulelaw run` or `import` wrote to"
        raise UnreadableTableError("not a dataset (no folder trials)", where=str(folder), remedy=remedy)
    return _read_files(files(folder / "trials", "*.parquet"), TRIALS)


def is_dataset(folder: Place) -> bool:
    """Whether there are trials, or a plan of some: in an object store an empty folder is none."""
    return (folder / "trials").is_dir() or (folder / "plan.json").is_file()


def read_steps(folder: Place, trial_id: str) -> pd.DataFrame:
    """The steps of the committed attempt of a trial (all attempts while it is unfinished), by rank and step."""
    return _of_trial(folder, "steps", trial_id, STEPS).sort_values(["attempt", "rank", "step"], ignore_index=True)


def read_power(folder: Place, trial_id: str) -> pd.DataFrame:
    """The readings of the committed attempt of a trial (all attempts while it is unfinished), by device and time."""
    return _of_trial(folder, "power", trial_id, POWER).sort_values(["device_uuid", "time_ns"], ignore_index=True)


def read_meters(folder: Place) -> pd.DataFrame:
    """The metered domains of each session of a study, with their idle power; none before schema 4."""
    return _frame(_read_files(files(folder / "meters", "session.*.parquet"), METERS))


def read_events(folder: Place) -> pd.DataFrame:
    """What happened to a study, in the order in which it was noted; none before schema 5."""
    noted = sorted(files(folder / "events", "study.*.parquet"), key=lambda path: int(path.name.split(".")[1]))
    return _frame(_read_files(noted, EVENTS))


def devices_files(folders: Sequence[Place]) -> list[Place]:
    """The catalogue entries that these datasets bring along, for `Catalogue.load`."""
    return [path for folder in folders if (path := folder / "devices.toml").is_file()]


def data_hash(table: pd.DataFrame) -> str:
    """SHA-256 over the measurement rows used: their TRIALS columns, whatever the order of rows and columns.

    What is null is left out, so that columns which a later schema adds change nothing.
    """
    columns = [field for field in TRIALS if field.name in table.columns]
    rows = pa.table([_exact(table[field.name], field.type) for field in columns], names=[f.name for f in columns])
    known = ({name: value for name, value in row.items() if value is not None} for row in rows.to_pylist())
    lines = sorted(json.dumps(row, sort_keys=True, default=str) for row in known)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _exact(column: "pd.Series[Any]", kind: pa.DataType) -> pa.Array:
    """Back to the schema's type: pandas turns integers with a gap into floats, and lists into arrays."""
    if pa.types.is_list(kind):
        return pa.array([None if value is None else list(np.asarray(value)) for value in column], kind)
    return pa.array(column, kind, from_pandas=True)


def _dataset_names(folders: Sequence[Place]) -> list[str]:
    """machine/sweep where that tells the folders apart, the path as given otherwise."""
    resolved = [folder.resolve() for folder in folders]
    for place, folder in zip(resolved, folders, strict=True):
        if resolved.count(place) > 1:
            raise InputError("the dataset is given twice", where=str(folder), remedy="its rows would count double")
    names = ["/".join(place.parts[-2:]) for place in resolved]
    return names if len(set(names)) == len(names) else [as_argument(folder) for folder in folders]


def _of_trial(folder: Place, name: str, trial_id: str, schema: pa.Schema) -> pd.DataFrame:
    rows = _read_files([file.path for file in trial_files(folder, name, trial_id)], schema)
    record = folder / "trials" / f"{trial_id}.parquet"
    if record.is_file():
        attempt = read_file(record, TRIALS)["attempt"][0]
        rows = rows.filter(pc.equal(rows["attempt"], attempt))
    return _frame(rows)


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _read_files(paths: Sequence[Place], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *read_files(paths, schema)])
