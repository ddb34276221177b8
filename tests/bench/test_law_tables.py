"""What `validate` shows people: every fold, scored or with the reason why not, and the rows' own noise."""

from io import StringIO

import pandas as pd
from rich.console import Console
from rich.table import Table

from joulelaw.bench.commands.law_tables import folds_table, folds_tell_more, noise_notes, scores_table
from joulelaw.model.hardware import Catalogue
from joulelaw.model.validation import validate
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()


def text_of(shown: Table) -> str:
    console = Console(file=StringIO(), width=300)
    console.print(shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_every_fold_of_every_contender_is_listed_with_its_scores() -> None:
    result = validate(measured(CATALOGUE, 0.05, most=60), CATALOGUE, ("reduced_form",), "case", draws=3)
    for target in ("energy", "duration"):
        lines = text_of(folds_table(result, target)).splitlines()
        for fold in (fold for fold in result.fold_scores if fold.target == target):
            (line,) = [line for line in lines if f" {fold.fold} " in line and line.split()[0] == fold.law]
            expected = "it has no forecast" if fold.score is None else f"{100 * fold.score.mape:.1f} %"
            assert expected in line


def test_a_fold_that_was_not_fitted_shows_why() -> None:
    few = measured(CATALOGUE, 0.05, most=8)
    result = validate(few, CATALOGUE, ("reduced_form",), "strategy", baselines=False)
    assert "cannot fix" in text_of(folds_table(result, "energy"))
    assert folds_tell_more(result)


def test_of_one_fold_nothing_is_told_twice() -> None:
    result = validate(measured(CATALOGUE, 0.05, most=60), CATALOGUE, ("reduced_form",), "split", baselines=False)
    assert not folds_tell_more(result)
    assert "median" not in text_of(scores_table(result, "energy"))


def test_medians_of_the_folds_stand_beside_the_scores_of_all_rows() -> None:
    result = validate(
        measured(CATALOGUE, 0.05, most=60), CATALOGUE, ("reduced_form",), "case", draws=3, baselines=False
    )
    shown = text_of(scores_table(result, "energy"))
    summary = result.of("reduced_form", "energy")
    assert f"{100 * summary.median.mape:.1f} %" in shown
    assert f"{100 * summary.pooled.mape:.1f} %" in shown


def test_noise_is_told_with_its_source_or_that_it_cannot_be() -> None:
    twice = pd.concat([measured(CATALOGUE, 0.05, seed=seed, most=60) for seed in range(2)], ignore_index=True)
    twice["trial_id"] = [f"t{k}" for k in range(len(twice))]
    result = validate(twice, CATALOGUE, ("reduced_form",), baselines=False)
    energy = next(note for note in noise_notes(result.noise) if "energy" in note)
    assert "from 60 degrees of freedom of repeats" in energy
    assert "cannot be told" in noise_notes(())[0]
