"""Everything one report is made from, read and joined once: trials, forecasts, counts, scores, plan, environment."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from joulelaw.bench.dataset.dataset import ORIGIN
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, with_full_texts
from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.report.quantity import percent
from joulelaw.bench.report.scores import fold_forecasts, read_json, read_validation
from joulelaw.model.coefficients import to_dict
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.laws.roofline_parts import shares
from joulelaw.model.parallelism import counts
from joulelaw.model.tables import check_measurements, content_hash

ESTIMATED = "estimated: watts × CPU time, an identity"
UNITS = {"duration": "s", "energy": "J"}


@dataclass(frozen=True)
class Study:
    """A dataset with the law and the scores that came of it, where there are any.

    `trials` has every committed trial, a row each (index 0, 1, ...): the columns of TRIALS; for those that a fit
    takes (`counted`) also the counted work (`flop_per_micro_step`, ...) and, given a law, its forecasts
    (`predicted_duration_s`, ...). `held_out` says whether a row's forecast is of a trial that it was not fitted on;
    where nothing was held out before the trials, the forecasts are those of a validation's folds (`by_folds`).
    """

    name: str
    folder: Place
    trials: pd.DataFrame
    law: FittedLaw | None
    validation: Mapping[str, Any] | None
    plan: Mapping[str, Any]
    environment: Mapping[str, Any]
    sweep: str
    shares: Mapping[str, pd.DataFrame]  # by target, of the counted trials: the law's parts of each forecast
    by_folds: bool = False
    law_checksum: str = ""  # as its file has it

    @classmethod
    def load(
        cls, folder: Place, law: FittedLaw | None, validation_path: Path | None, law_file: Path | None = None
    ) -> "Study":
        """Read the folder and the files. Raises InputError for what is missing, broken, or unknown to the law."""
        trials = read_measurements([folder], include_invalid=True)
        catalogue = Catalogue.load(devices_files([folder]))
        plan = read_json(folder / "plan.json")
        validation = read_validation(validation_path) if validation_path else None
        measured = with_full_texts(read_measurements([folder]))
        joined = _with_work(trials, measured, law, catalogue)
        joined, by_folds = _with_hold_out(joined, measured, law, validation)
        counted = joined[joined["trial_id"].isin(measured["trial_id"])]
        return cls(
            name=str(plan.get("name") or folder.resolve().name),
            folder=folder,
            trials=joined,
            law=law,
            validation=validation,
            plan=plan,
            environment=read_json(folder / "environment.json"),
            sweep=(folder / "sweep.yaml").read_text(encoding="utf-8") if (folder / "sweep.yaml").is_file() else "",
            shares={} if law is None or measured.empty else shares(law, measured.set_axis(counted.index)),
            by_folds=by_folds,
            law_checksum="" if law is None else (read_json(law_file) if law_file else to_dict(law))["checksum"],
        )

    @property
    def imported(self) -> list[Mapping[str, Any]]:
        """The tables that the trials come from, `file` and `sha256` of each; none of a study of our own."""
        path = self.folder / ORIGIN
        return list(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else []

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
        return self.validation is not None and _hash(self.counted) == _data_hash(self.validation)

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
        if self.by_folds and self.validation is not None:
            return f", by {str(self.validation['hold_out']).replace('_', ' ')}"
        rule = self.plan.get("hold_out", {}).get("by", "")
        return f", drawn by {rule} before the first trial" if rule else ""

    @property
    def estimated(self) -> bool:
        """Whether any joule of the valid trials (of all, where none is valid) is an estimate."""
        rows = self.trials if self.valid.empty else self.valid
        return bool((rows["meter_kind"] == "estimated").any())

    def word(self, target: str) -> str:
        """What the values of a target are: measured, or joules that are estimated, replayed or only stated."""
        rows = self.trials if self.valid.empty else self.valid
        kinds = set(rows["meter_kind"].dropna())
        if target != "energy" or "measured" in kinds or not kinds:
            return "measured"
        return "estimated" if self.estimated else min(kinds)

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


def _with_hold_out(
    trials: pd.DataFrame, measured: pd.DataFrame, law: FittedLaw | None, validation: Mapping[str, Any] | None
) -> tuple[pd.DataFrame, bool]:
    """With `held_out`: as drawn before the trials, else as a validation's folds left them out, with their forecasts."""
    drawn = trials.assign(held_out=trials["split"] == "hold_out")
    if law is None or validation is None or drawn["held_out"].any() or _hash(measured) != _data_hash(validation):
        return drawn, False
    folds = fold_forecasts(validation, law.law.name).reindex(trials["trial_id"]).set_axis(trials.index)
    if folds.empty or not folds.notna().any(axis=None):
        return drawn, False
    left_out = folds.notna().any(axis=1)
    return trials.assign(held_out=left_out, **{n: folds[n].fillna(trials[n]) for n in folds.columns}), True


def _data_hash(validation: Mapping[str, Any]) -> str:
    return str(validation["provenance"]["data_hash"])


def _hash(rows: pd.DataFrame) -> str:
    return "" if rows.empty else content_hash(check_measurements(rows, allow_mixed_meters=True))
