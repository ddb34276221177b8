"""Everything one report is made from, read and joined once: trials, forecasts, counts, scores, plan, environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

from joulelaw import InputError
from joulelaw.bench.dataset.dataset import ORIGIN
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, with_full_texts
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.report.quantity import percent
from joulelaw.model.coefficients import load_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.metrics import Score
from joulelaw.model.parallelism import counts
from joulelaw.model.tables import check_measurements, content_hash

ESTIMATED = "estimated: watts × CPU time, an identity"
UNITS = {"duration": "s", "energy": "J"}
_SUMMARY = {"law", "target", "post_run", "folds", "median", "pooled"}
_SCORE = {field.name for field in fields(Score)}
_REMEDY = "make one with joulelaw validate --out"


@dataclass(frozen=True)
class Study:
    """A dataset with the law and the scores that came of it, where there are any.

    `trials` has every committed trial, a row each (index 0, 1, ...): the columns of TRIALS; for those that a fit
    takes (`counted`) also the counted work (`flop_per_micro_step`, ...) and, given a law, its forecasts
    (`predicted_duration_s`, ...).
    """

    name: str
    folder: Place
    trials: pd.DataFrame
    law: FittedLaw | None
    validation: Mapping[str, Any] | None
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    sweep: str

    @classmethod
    def load(cls, folder: Place, law_path: Path | None, validation_path: Path | None) -> "Study":
        """Read the folder and the files. Raises InputError for what is missing, broken, or unknown to the law."""
        trials = read_measurements([folder], include_invalid=True)
        catalogue = Catalogue.load(devices_files([folder]))
        law = load_law(law_path, catalogue) if law_path else None
        plan = _json(folder / "plan.json")
        return cls(
            name=str(plan.get("name") or folder.resolve().name),
            folder=folder,
            trials=_with_work(trials, with_full_texts(read_measurements([folder])), law, catalogue),
            law=law,
            validation=_validation(validation_path) if validation_path else None,
            plan=plan,
            environment=_json(folder / "environment.json"),
            sweep=(folder / "sweep.yaml").read_text(encoding="utf-8") if (folder / "sweep.yaml").is_file() else "",
        )

    @property
    def imported(self) -> bool:
        """Whether the trials come from elsewhere."""
        return (self.folder / ORIGIN).is_file()

    @property
    def valid(self) -> pd.DataFrame:
        """The trials whose joules are believed; the index still tells each one's place in `trials`."""
        return self.trials[(self.trials["status"] == "done") & (self.trials["verdict"] == "valid")]

    @property
    def counted(self) -> pd.DataFrame:
        """The valid trials that a fit takes: what those on short texts did is not what the laws count."""
        return with_full_texts(self.valid)

    @property
    def forecast(self) -> pd.DataFrame:
        """The counted trials that the law has a forecast of."""
        rows = self.counted
        return rows[rows["predicted_duration_s"].notna()] if "predicted_duration_s" in rows else rows.iloc[:0]

    def can_forecast(self, target: str) -> bool:
        """Whether there is a forecast of a target; a law may lack a device's power limit, and so its energy."""
        name = f"predicted_{target}_{UNITS[target].lower()}"
        return name in self.valid and bool(self.valid[name].notna().any())

    @property
    def fitted_without_hold_out(self) -> bool:
        """Whether the law was fitted on exactly this dataset's counted trials that are not held out."""
        counted = self.counted
        fitted = counted[counted["split"] != "hold_out"]
        return self.law is not None and _hash(fitted) == self.law.provenance.data_hash

    @property
    def scores_are_of_these_trials(self) -> bool:
        """Whether the validation scored exactly this dataset's counted trials."""
        return self.validation is not None and _hash(self.counted) == self.validation["provenance"]["data_hash"]

    @property
    def interval(self) -> str:
        """What the law's forecast intervals are, in words: few cases support no more than a lower level."""
        widths = self.law.widths if self.law else None
        if widths is None or not widths.achieved < widths.aimed:
            return "95 % interval (bars)"
        return f"{percent(widths.achieved)} interval (bars; so few cases support no higher level)"

    @property
    def hold_out_rule(self) -> str:
        """How the hold-out was drawn, to follow the word 'held out'."""
        rule = self.plan.get("hold_out", {}).get("by", "")
        return f", drawn by {rule} before the first trial" if rule else ""

    @property
    def estimated(self) -> bool:
        """Whether any joule of the valid trials (of all, where none is valid) is an estimate."""
        rows = self.trials if self.valid.empty else self.valid
        return bool((rows["meter_kind"] == "estimated").any())

    @property
    def meter(self) -> str:
        """Which meter the joules come from, of which kind, and what they cover."""
        rows = self.trials if self.valid.empty else self.valid
        known = rows[["meter", "meter_kind", "boundary"]].dropna().drop_duplicates().sort_values("meter")
        words = [
            f"{row['meter']} ({row['meter_kind']}), boundary {row['boundary']}" for row in known.to_dict("records")
        ]
        return "; ".join(words) or "no meter"

    @property
    def targets(self) -> tuple[str, ...]:
        """What is forecast, in the order shown: where energy is an identity, the duration is the result."""
        return ("duration", "energy") if self.estimated else ("energy", "duration")


def _with_work(
    trials: pd.DataFrame, counted: pd.DataFrame, law: FittedLaw | None, catalogue: Catalogue
) -> pd.DataFrame:
    if counted.empty:
        return trials
    work = counts(counted.drop(columns=["duration_s", "energy_j"]), catalogue)
    parts = [work[[name for name in work.columns if name not in trials.columns]].set_axis(counted["trial_id"], axis=0)]
    if law is not None:
        forecast = law.predict(counted).drop(columns="boundary")  # the trials name it
        parts.append(forecast.set_axis(counted["trial_id"], axis=0))
    return trials.join(pd.concat(parts, axis=1), on="trial_id")


def _hash(rows: pd.DataFrame) -> str:
    return "" if rows.empty else content_hash(check_measurements(rows, allow_mixed_meters=True))


def _validation(path: Path) -> dict[str, Any]:
    values = _json(path)
    if missing := {"summaries", "hold_out", "provenance"} - values.keys():
        what = f"not a validation: {', '.join(sorted(missing))} missing"
        raise InputError(what, where=str(path), remedy=_REMEDY)
    if not _is_whole(values):
        raise InputError(
            "not a whole validation: edited, cut short or of another version", where=str(path), remedy=_REMEDY
        )
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


def _json(path: Place) -> dict[str, Any]:
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
