"""What `joulelaw validate` wrote, read and checked: scores, and the forecasts of trials while they were left out."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.dataset.storage import Place
from joulelaw.model.metrics import Score

UNITS = {"duration": "s", "energy": "j"}
_SUMMARY = {"law", "target", "post_run", "folds", "median", "pooled"}
_SCORE = {field.name for field in fields(Score)}
_FORECAST = ("trial_id", "law", "target", "predicted", "low", "high")
_REMEDY = "make one with joulelaw validate --out"


def fold_forecasts(validation: Mapping[str, Any], law: str) -> pd.DataFrame:
    """One row a trial that some fold left out: the law's forecast in the first such fold, in a forecast's columns.

    The first, not a mean over folds: one forecast of one fit is what a user gets. Without rows where a validation keeps
    no forecasts.
    """
    told = validation.get("predictions")
    everything = told if isinstance(told, list) else []
    rows = [each for each in everything if isinstance(each, dict) and each.get("law") == law]
    if not rows or any(name not in row for row in rows for name in _FORECAST):
        return pd.DataFrame()
    table = pd.DataFrame(rows).drop_duplicates(["trial_id", "target"])
    parts = []
    for target, unit in UNITS.items():
        mine = table[table["target"] == target].set_index("trial_id")[["predicted", "low", "high"]].astype(float)
        mine.columns = pd.Index([f"predicted_{target}_{unit}", f"{target}_low_{unit}", f"{target}_high_{unit}"])
        parts.append(mine)
    return pd.concat(parts, axis=1)


def read_validation(path: Path) -> dict[str, Any]:
    """Raises InputError for a file that is missing, no validation, or not a whole one."""
    values = read_json(path)
    if missing := {"summaries", "hold_out", "provenance"} - values.keys():
        what = f"not a validation: {', '.join(sorted(missing))} missing"
        raise InputError(what, where=str(path), remedy=_REMEDY)
    if not _is_whole(values):
        raise InputError(
            "not a whole validation: edited, cut short or of another version", where=str(path), remedy=_REMEDY
        )
    return values


def read_json(path: Place) -> dict[str, Any]:
    """A JSON object; an absent file of the dataset is an empty one, as imported datasets have no plan."""
    if not path.is_file():
        if path.name in ("plan.json", "environment.json"):
            return {}
        raise InputError("no such file", where=str(path), remedy=_REMEDY)
    remedy = "bring back what `joulelaw run` or `validate` wrote"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"not JSON: {error}", where=str(path), remedy=remedy) from error
    if not isinstance(values, dict):
        raise InputError("not a JSON object", where=str(path), remedy=remedy)
    return values


def _is_whole(validation: Mapping[str, Any]) -> bool:
    """Whether what a report shows of a validation is there. A score's numbers may be null, and are shown so."""
    summaries, provenance = validation["summaries"], validation["provenance"]
    return (
        isinstance(provenance, dict)
        and "data_hash" in provenance
        and isinstance(summaries, list)
        and all(isinstance(each, dict) and each.keys() >= _SUMMARY for each in summaries)
        and all(isinstance(each[name], dict) for each in summaries for name in ("median", "pooled"))
        and all(each[name].keys() >= _SCORE for each in summaries for name in ("median", "pooled"))
    )
