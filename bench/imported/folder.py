"""The folder of an imported dataset: what it gets, and what it will not take twice.

<folder>/  imported.json   where the rows come from: file name, its SHA-256, rows
           devices.toml    the user's own devices
           trials/imported-<hash>.parquet    operations/imported-<hash>.parquet
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import ORIGIN, Dataset
from joulelaw.bench.dataset.measurements import is_dataset, read_trials_table
from joulelaw.bench.dataset.parquet_groups import encoded
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import put, storage_errors, write_text
from joulelaw.model.hardware import Catalogue, DeviceSpec, read_devices, to_toml
from joulelaw.model.problems import MOST_SHOWN, shown_value
from joulelaw.model.tables import CONFIGURATION_COLUMNS, MEASURED_COLUMNS

# Rows of one id are the same trial where these agree.
SAME = (*CONFIGURATION_COLUMNS, "micro_steps", *MEASURED_COLUMNS, "boundary", "meter", "meter_kind")


def check_place(folder: Place) -> None:
    """Raises InputError where `joulelaw run` keeps a study in the folder."""
    if Dataset.exists(folder):
        remedy = "import into a folder of its own; fit and validate take several"
        raise InputError("a study of `joulelaw run` is in it", where=str(folder), remedy=remedy)


def all_devices(folder: Place, files: Sequence[Path]) -> tuple[Catalogue, list[DeviceSpec]]:
    """The catalogue with the folder's devices and those of the user's files, and all of these devices.

    Raises InputError where a file gives a device of the folder other figures: rows that are there would change.
    """
    saved = folder / "devices.toml"
    known = {spec.name: spec for spec in read_devices(saved)} if saved.is_file() else {}
    for path in files:
        for spec in read_devices(path):
            if known.setdefault(spec.name, spec) != spec:
                what = f"{spec.name!r} has other figures than in {saved if saved.is_file() else 'another file'}"
                raise InputError(what, where=str(path), remedy="keep one of the entries, or import into a new folder")
    return Catalogue.load([*([saved] if saved.is_file() else []), *files]), list(known.values())


def new_rows(folder: Place, trials: pa.Table) -> pa.Table:
    """The trials whose ids the folder does not have.

    Raises InputError, with both rows' values, where an id stands for another trial there.
    """
    if not is_dataset(folder):
        return trials
    there = read_trials_table(folder)
    shared = pc.is_in(trials["trial_id"], value_set=there["trial_id"].combine_chunks())
    before = {row["trial_id"]: row for row in there.select(["trial_id", *SAME]).to_pylist()}
    clashes = [
        f"row {number}, trial {row['trial_id']}: {name} is {shown_value(row[name])}, and there {shown_value(old[name])}"
        for number, row in enumerate(trials.select(["trial_id", *SAME]).to_pylist(), start=1)
        if (old := before.get(row["trial_id"])) and (name := next((n for n in SAME if row[n] != old[n]), ""))
    ]
    if clashes:
        more = [f"and {len(clashes) - MOST_SHOWN} more"] if len(clashes) > MOST_SHOWN else []
        what = "trials of these ids are there already, and are others; rename them, or import into another folder"
        raise InputError("\n  ".join([what, *clashes[:MOST_SHOWN], *more]), where=str(folder))
    return trials.filter(pc.invert(shared))


def add_file(folder: Place, table: str, rows: pa.Table, origin: dict[str, Any]) -> None:
    """Adds rows to a table of the folder as one file, whole or not at all, and notes once where they are from."""
    place = folder / table
    with storage_errors(place):
        (folder / "trials").mkdir(exist_ok=True)
        place.mkdir(exist_ok=True)
    if len(rows):
        put(place / f"imported-{origin['sha256'][:12]}.parquet", encoded(rows, rows.schema), folder)
    _note(folder / ORIGIN, origin)


def save_devices(folder: Place, devices: Sequence[DeviceSpec]) -> None:
    """Keeps the user's devices with the rows that need them."""
    if devices:
        write_text(folder / "devices.toml", "\n".join(map(to_toml, devices)))


def _note(path: Place, origin: dict[str, Any]) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    if all(each["sha256"] != origin["sha256"] for each in known):
        write_text(path, json.dumps([*known, origin], indent=1, ensure_ascii=False) + "\n")
