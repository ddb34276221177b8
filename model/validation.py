"""How well laws and baselines forecast trials they were not fitted on: every fold, every score, every forecast."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model.baselines import BASELINES, Baseline, PowerLimitTimesTime
from joulelaw.model.efficiency import measured_efficiency
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holdout import Fold, folds, hold_out_hash
from joulelaw.model.intervals import TARGETS
from joulelaw.model.laws import POST_RUN, fit_rows, law_named, provenance_of
from joulelaw.model.laws.base import Law, Provenance, Rows
from joulelaw.model.metrics import Score, score
from joulelaw.model.noise import NoiseFloor, noise_floor
from joulelaw.model.tables import check_measurements

Array = npt.NDArray[np.float64]

UNITS = {"duration": "s", "energy": "j"}
GROUP_COLUMNS = ["gpu_model", "strategy", "gpu_count", "model_family", "precision"]
DEFAULT_LAWS = ("roofline", "reduced_form")
# Resamples for the parameters' covariance in each fold: it widens the intervals of rows outside the fitted ranges.
SPREAD_DRAWS = 30
NUMBERS = ["measured", "predicted", "low", "high"]
PREDICTION_COLUMNS = ["trial_id", "law", "post_run", "target", "fold", *NUMBERS, "extrapolates"]


@dataclass(frozen=True)
class FoldScore:
    """One law's score on one target and fold. `failure` says why there is none."""

    law: str
    target: str
    fold: str
    post_run: bool
    n_fit: int  # rows that it was fitted on; those it was tested on are the score's
    score: Score | None
    failure: str = ""


@dataclass(frozen=True)
class Summary:
    """One law's scores on one target: the medians over the folds, and those of all held-out rows together."""

    law: str
    target: str
    post_run: bool
    folds: int
    median: Score
    pooled: Score


@dataclass(frozen=True)
class Validation:
    """The scores of every law and baseline under one hold-out rule."""

    hold_out: str
    energy_is_estimated: bool  # True: energy scores are those of watts times time and prove nothing
    provenance: Provenance
    hold_out_sha256: str  # of the drawn split; empty where the folds are made here
    summaries: tuple[Summary, ...]
    fold_scores: tuple[FoldScore, ...]
    predictions: pd.DataFrame = field(repr=False)
    noise: tuple[NoiseFloor, ...] = ()  # of the rows themselves: what no forecast of them can beat
    notes: tuple[str, ...] = ()

    def of(self, law: str, target: str) -> Summary:
        """The summary of a law and target; KeyError where there is none."""
        found = {(summary.law, summary.target): summary for summary in self.summaries}
        return found[law, target]

    def to_dict(self) -> dict[str, Any]:
        """All but the predictions, as JSON takes it (nan becomes null)."""
        values = {name: getattr(self, name) for name in ("hold_out", "energy_is_estimated", "hold_out_sha256", "notes")}
        values["provenance"] = asdict(self.provenance)
        values["summaries"] = [asdict(summary) for summary in self.summaries]
        values["folds"] = [asdict(fold) for fold in self.fold_scores]
        values["noise"] = [asdict(floor) for floor in self.noise]
        plain: dict[str, Any] = _plain(values)
        return plain


def validate(
    table: pd.DataFrame,
    catalogue: Catalogue,
    laws: Sequence[str] = DEFAULT_LAWS,
    hold_out: str = "split",
    *,
    baselines: bool = True,
    draws: int = 20,
    seed: int = 0,
    operations: pd.DataFrame | None = None,
    allow_mixed_meters: bool = False,
) -> Validation:
    """Fit on each fold's rows and forecast the others: each law and, beside it, the post-run form and the baselines.

    `hold_out` is 'split' (drawn before the trials), 'case', 'workload' or 'configuration' (drawn `draws` times, 30 %
    held out), 'gpu_model', 'strategy', 'gpu_count', 'model_family' (each value left out) or 'size'. Invalid trials
    are left out; a fold that a law cannot be fitted on is listed with the reason. Raises InputError for trials without
    a verdict, mixed meters, or a rule that leaves nothing to fit.
    """
    checked = check_measurements(table, allow_mixed_meters=allow_mixed_meters)
    rows = Rows.of(checked, catalogue, operations)
    divided = folds(checked, hold_out, rows.counts["flop_per_micro_step"], draws=draws, seed=seed)
    contenders: list[Law | Baseline] = [law_named(name) for name in laws]
    if baselines:
        contenders += [*POST_RUN.values(), *BASELINES.values()]
    outcomes = [_outcome(one, rows, fold, catalogue, seed) for one in contenders for fold in divided]
    provenance = provenance_of(rows)
    scores, summaries = _scores(outcomes, rows)
    return Validation(
        hold_out=hold_out,
        energy_is_estimated=provenance.energy_is_estimated,
        provenance=provenance,
        hold_out_sha256=hold_out_hash(checked.set_index("trial_id")["split"]) if hold_out == "split" else "",
        summaries=summaries,
        fold_scores=scores,
        predictions=pd.concat([outcome.predictions for outcome in outcomes], ignore_index=True),
        noise=noise_floor(checked),
        notes=(*_counted(outcomes), *_left_out(outcomes)),
    )


@dataclass(frozen=True)
class _Outcome:
    """What one contender forecast on one fold."""

    law: str
    post_run: bool
    fold: str
    n_fit: int
    n_test: int
    predictions: pd.DataFrame
    failure: str = ""
    notes: tuple[str, ...] = ()


def _outcome(one: Law | Baseline, rows: Rows, fold: Fold, catalogue: Catalogue, seed: int) -> _Outcome:
    """Fit on the fold's rows, forecast its others. A pre-run contender is handed no post-run column at all."""
    fitted_rows, test = rows.take(fold.fit), rows.take(fold.test)
    if one.post_run:
        # The reference run of a held-out case may lie outside the test rows; post-run, it is known all the same.
        h = measured_efficiency(rows.table, rows.counts)[fold.test]
        test = replace(test, table=test.table.assign(parallel_efficiency=h))
    seen = test if one.post_run else test.pre_run()
    about = (one.name, one.post_run, fold.name, len(fitted_rows), len(test))
    notes: tuple[str, ...] = ()
    try:
        if one.name in BASELINES:
            values = BASELINES[one.name].fit(fitted_rows).forecast(seen)
            forecast = pd.DataFrame({"predicted_duration_s": values.duration_s, "predicted_energy_j": values.energy_j})
        else:
            fitted = fit_rows(
                law_named(one.name), fitted_rows, catalogue, bootstrap=SPREAD_DRAWS, seed=seed, forecasts_only=True
            )
            forecast, notes = fitted.predict_rows(seen), fitted.notes
    except InputError as error:
        nothing = pd.DataFrame(columns=PREDICTION_COLUMNS)
        return _Outcome(*about, nothing, str(error))
    frames = [_predictions(one, fold.name, test, forecast, target) for target in TARGETS]
    return _Outcome(*about, pd.concat(frames, ignore_index=True), "", notes)


def _predictions(one: Law | Baseline, fold: str, test: Rows, forecast: pd.DataFrame, target: str) -> pd.DataFrame:
    """The rows that were forecast (not those a contender cannot tell), in the columns of a validation."""
    unit = UNITS[target]
    frame = pd.DataFrame({"trial_id": test.table["trial_id"], "law": one.name, "post_run": one.post_run})
    frame["target"], frame["fold"] = target, fold
    frame["measured"] = test.column(f"{target}_{unit}")
    frame["predicted"] = forecast[f"predicted_{target}_{unit}"].to_numpy()
    for bound in ("low", "high"):
        name = f"{target}_{bound}_{unit}"
        frame[bound] = forecast[name].to_numpy() if name in forecast else np.nan
    frame["extrapolates"] = forecast["extrapolates"].to_numpy() if "extrapolates" in forecast else ""
    known: pd.DataFrame = frame.loc[np.isfinite(frame["predicted"]), PREDICTION_COLUMNS]
    return known


def _scores(outcomes: Sequence[_Outcome], rows: Rows) -> tuple[tuple[FoldScore, ...], tuple[Summary, ...]]:
    about = rows.table.set_index("trial_id")[GROUP_COLUMNS].assign(tokens=rows.tokens)
    scores: list[FoldScore] = []
    summaries: list[Summary] = []
    for law in dict.fromkeys(outcome.law for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.law == law]
        for target in TARGETS:
            parts = [o.predictions[o.predictions["target"] == target] for o in mine]
            each = [
                FoldScore(law, target, o.fold, o.post_run, o.n_fit, _score(part, about), o.failure)
                for o, part in zip(mine, parts, strict=True)
            ]
            scores += each
            done = [fold.score for fold in each if fold.score is not None]
            pooled = _score(pd.concat(parts, ignore_index=True), about)
            if pooled is not None:
                summaries.append(Summary(law, target, mine[0].post_run, len(done), _median(done, pooled), pooled))
    return tuple(scores), tuple(summaries)


def _score(predictions: pd.DataFrame, about: pd.DataFrame) -> Score | None:
    if predictions.empty:
        return None
    known = about.loc[list(predictions["trial_id"])]
    measured, predicted, low, high = (predictions[name].to_numpy(dtype=float) for name in NUMBERS)
    return score(measured, predicted, known["tokens"].to_numpy(dtype=float), known[GROUP_COLUMNS], low, high)


def _median(scores: Sequence[Score], pooled: Score) -> Score:
    """Each number's median over the folds; the worst group is that of all rows together."""
    values: dict[str, Any] = {}
    for name, value in asdict(pooled).items():
        if isinstance(value, str):
            values[name] = value
            continue
        known = [number for number in (getattr(one, name) for one in scores) if not math.isnan(number)]
        values[name] = float(np.median(known)) if known else math.nan
    values["worst_group_mape"] = pooled.worst_group_mape
    values["n"] = int(np.median([one.n for one in scores]))
    return Score(**values)


def _counted(outcomes: Sequence[_Outcome]) -> tuple[str, ...]:
    """The laws' remarks, each once, with the number of folds it was made on where that is not all of them."""
    folds = len({outcome.fold for outcome in outcomes})
    said = Counter(f"{outcome.law}: {note}" for outcome in outcomes for note in outcome.notes)
    return tuple(note if count == folds else f"{note} ({count} of {folds} folds)" for note, count in said.items())


def _left_out(outcomes: Sequence[_Outcome]) -> tuple[str, ...]:
    """The rows that a contender could not forecast: others' scores are of more rows, which may be harder."""
    said = []
    fitted = [outcome for outcome in outcomes if not outcome.failure]
    for law in dict.fromkeys(outcome.law for outcome in fitted):
        mine = [outcome for outcome in fitted if outcome.law == law]
        for target in TARGETS:
            without = {o.fold: o.n_test - int((o.predictions["target"] == target).sum()) for o in mine}
            folds = ", ".join(f"{o.fold}: {without[o.fold]} of {o.n_test}" for o in mine if without[o.fold])
            if not folds or (law, target) == (PowerLimitTimesTime.name, "duration"):  # which takes seconds as given
                continue
            rows = f"{sum(without.values())} of {sum(o.n_test for o in mine)} held-out rows"
            said.append(f"{law}: {rows} have no {target} forecast and are left out of its scores ({folds})")
    return tuple(said)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
