"""The law file: a fitted law as JSON that executes nothing, and its coefficients as json, csv or parquet."""

import datetime
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from joulelaw import InputError
from joulelaw.model.hardware import Catalogue, DeviceSpec
from joulelaw.model.history import Event
from joulelaw.model.intervals import Widths
from joulelaw.model.law_file_checks import faults, finite
from joulelaw.model.laws import LAWS, POST_RUN, law_named
from joulelaw.model.laws.base import Coefficient, FittedLaw, Law, Provenance
from joulelaw.model.parallelism import COUNTS_VERSION

SCHEMA_VERSION = 2
SCHEMA = Path(__file__).with_name("law.schema.json")  # the form of the file, for other programs
READABLE = (1, 2)  # version 1 had no history
FORMATS = ("json", "csv", "parquet")
REMEDY = "make one with joulelaw fit"
UNCHANGED = "fit it again; coefficients are not changed by hand"


class LawFileError(InputError):
    """A law file that cannot be used.

    >>> print(LawFileError("its content does not match its checksum", where="law.json", remedy="fit it again"))
    law.json: its content does not match its checksum; fit it again
    """


def to_dict(fitted: FittedLaw) -> dict[str, Any]:
    """The law file's content: all that a forecast needs, with the devices it was fitted on, and a checksum of it."""
    devices = sorted({*map(str, fitted.provenance.ranges.get("gpu_model", [])), *fitted.calibrated})
    content = {
        "schema_version": SCHEMA_VERSION,
        "counts_version": COUNTS_VERSION,
        "law": fitted.law.name,
        "post_run": fitted.law.post_run,
        "energy_is_estimated": fitted.provenance.energy_is_estimated,
        "provenance": asdict(fitted.provenance),
        "parameters": fitted.parameters,
        "coefficients": [asdict(coefficient) for coefficient in fitted.coefficients],
        "widths": asdict(fitted.widths),
        "covariance": fitted.covariance.tolist(),
        "notes": list(fitted.notes),
        "calibrated": list(fitted.calibrated),
        "history": [event.to_dict() for event in fitted.history],
        "devices": [_device_to_dict(fitted.catalogue.get(name)) for name in devices],
    }
    plain = json.loads(json.dumps(_without_nan(content)))
    return {**plain, "checksum": _checksum(plain)}


def save_law(fitted: FittedLaw, path: Path) -> None:
    """Write the law file; the file appears whole or not at all."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.tmp")
    text = json.dumps(to_dict(fitted), indent=1) + "\n"
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def load_law(path: Path, catalogue: Catalogue | None = None) -> FittedLaw:
    """The fitted law of a file; nothing in it is executed.

    Devices come from the catalogue (the shipped one unless given), those that the law was fitted on from the file.
    Raises LawFileError for a file that is missing, no law, of another version, fitted on other counts, or edited by
    hand.
    """
    path = Path(path)
    content = _read(path)
    try:
        return _assembled(path, content, catalogue or Catalogue.load())
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # made by another program, checksum and all
        what = f"is not a whole law file ({type(error).__name__}: {error})"
        raise LawFileError(what, where=str(path), remedy=REMEDY) from error


def _assembled(path: Path, content: dict[str, Any], known: Catalogue) -> FittedLaw:
    if content["law"] not in LAWS | POST_RUN:
        raise LawFileError(f"is of a law {content['law']!r} that is not known here", where=str(path), remedy=REMEDY)
    law = law_named(content["law"])
    _check_names(path, law, content["parameters"])
    if wrong := next(faults(law, content), None):
        raise LawFileError(f"its {wrong}", where=str(path), remedy=UNCHANGED)
    devices = {device["name"]: _device_from_dict(device) for device in content["devices"]}
    others = {name: spec for name, spec in known.devices.items() if name not in devices}
    origin = content["provenance"]
    provenance = {
        **origin,
        "meters": tuple((str(name), str(kind)) for name, kind in origin["meters"]),
        "boundaries": tuple(origin["boundaries"]),
    }
    widths = Widths(**_with_nan(Widths, content["widths"]))
    return FittedLaw(
        law=law,
        parameters=content["parameters"],
        coefficients=tuple(Coefficient(**_with_nan(Coefficient, c)) for c in content["coefficients"]),
        provenance=Provenance(**provenance),
        catalogue=Catalogue({**_without_names(others, devices), **devices}),
        widths=widths,
        covariance=np.array(content["covariance"], dtype=float).reshape([len(content["covariance"])] * 2),
        notes=tuple(content["notes"]),
        calibrated=tuple(content["calibrated"]),
        history=tuple(Event.from_dict(each) for each in content["history"]),
    )


def export_law(fitted: FittedLaw, path: Path, file_format: str = "json") -> None:
    """Write the coefficients alone: json (the law file), or csv or parquet, one row a coefficient.

    Every row of the table repeats where the law comes from: law, data hash, trials, cases, meters, boundaries.
    """
    path = Path(path)
    if file_format not in FORMATS:
        raise InputError(f"unknown format '{file_format}'", where="--format", remedy=f"one of {', '.join(FORMATS)}")
    if file_format == "json":
        save_law(fitted, path)
        return
    table = coefficient_table(fitted)
    if file_format == "csv":
        table.to_csv(path, index=False)
        return
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata({"joulelaw_law_schema": str(SCHEMA_VERSION)}), path)


def coefficient_table(fitted: FittedLaw) -> pd.DataFrame:
    """One row a coefficient, with its interval, unit and meaning, and the law's origin."""
    table = pd.DataFrame([asdict(coefficient) for coefficient in fitted.coefficients])
    origin = fitted.provenance
    return table.assign(
        law=fitted.law.name,
        schema_version=SCHEMA_VERSION,
        n_trials=origin.n_trials,
        n_cases=origin.n_cases,
        meters="; ".join(f"{name} ({kind})" for name, kind in origin.meters),
        boundaries="; ".join(origin.boundaries),
        energy_is_estimated=origin.energy_is_estimated,
        data_hash=origin.data_hash,
        created_by=origin.created_by,
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(), parse_constant=_refuse_constant, parse_int=finite, parse_float=finite)
    except OSError as error:
        raise LawFileError(f"cannot be read: {error.strerror}", where=str(path), remedy=REMEDY) from error
    except (ValueError, RecursionError) as error:
        raise LawFileError(f"is not a law file: no JSON ({error})", where=str(path), remedy=REMEDY) from error
    if not isinstance(content, dict) or "schema_version" not in content:
        raise LawFileError("is not a law file", where=str(path), remedy=REMEDY)
    if content["schema_version"] not in READABLE:
        readable = " and ".join(map(str, READABLE))
        raise LawFileError(
            f"is of version {content['schema_version']!r}, this program reads versions {readable}",
            where=str(path),
            remedy="fit it again, or use the program that wrote it",
        )
    written = content.pop("checksum", None)
    if written != _checksum(content):
        raise LawFileError(
            "its content does not match its checksum: it was edited or cut short",
            where=str(path),
            remedy=UNCHANGED,
        )
    if content.get("counts_version") != COUNTS_VERSION:
        found = f"version {content['counts_version']!r}" if "counts_version" in content else "an earlier version"
        raise LawFileError(
            f"was fitted on counts of {found}, this program counts by version {COUNTS_VERSION}",
            where=str(path),
            remedy="fit it anew on its measurements with joulelaw fit",
        )
    return content if content["schema_version"] > 1 else {**content, "history": []}


def _check_names(path: Path, law: Law, parameters: dict[str, float]) -> None:
    """The names of a law's parameters change with what it counts; those of another version mean something else."""
    always, perhaps = law.parameter_names
    missing = sorted(set(always) - set(parameters))
    unknown = sorted(name for name in set(parameters) - set(always) if not _is_among(name, perhaps))
    if missing or unknown:
        parts = [f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("unknown", unknown)) if names]
        raise LawFileError(
            f"its parameters are not those of this program's law '{law.name}' ({'; '.join(parts)})",
            where=str(path),
            remedy="fit it again on its measurements with joulelaw fit",
        )


def _is_among(name: str, names: Sequence[str]) -> bool:
    return any(name.startswith(each) if each.endswith("[") else name == each for each in names)


def _refuse_constant(name: str) -> float:
    """Python's reader takes NaN and Infinity, which are no JSON and which no law file has."""
    raise ValueError(f"{name} is not a number")


def _checksum(content: dict[str, Any]) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _without_names(others: dict[str, DeviceSpec], devices: dict[str, DeviceSpec]) -> dict[str, DeviceSpec]:
    """Catalogue devices that share no name or alias with the law's own, which go first."""
    taken = {name.casefold() for spec in devices.values() for name in (spec.name, *spec.aliases)}
    names = {name: {each.casefold() for each in (spec.name, *spec.aliases)} for name, spec in others.items()}
    return {name: spec for name, spec in others.items() if not taken & names[name]}


def _device_to_dict(spec: DeviceSpec) -> dict[str, Any]:
    return {**asdict(spec), "date": spec.date.isoformat()}


def _device_from_dict(values: dict[str, Any]) -> DeviceSpec:
    date = datetime.date.fromisoformat(values["date"])
    return DeviceSpec(**{**values, "date": date, "aliases": tuple(values["aliases"])})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nan(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no nan
    return value


def _with_nan(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    numbers = {field.name for field in fields(kind) if field.type in (float, "float")}
    return {name: math.nan if value is None and name in numbers else value for name, value in values.items()}
