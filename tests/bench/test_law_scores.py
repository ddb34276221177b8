"""benchmarks/law_scores.py: a table goes through import and validate, and published scores stand beside ours."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from joulelaw.model.baselines import BASELINES
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import LAWS, POST_RUN
from joulelaw.model.validation import validate
from tests.model.synthetic import measured

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "law_scores.py"
CATALOGUE = Catalogue.load()


def test_it_gives_the_scores_of_validate_on_the_imported_table(tmp_path: Path) -> None:
    table = measured(CATALOGUE, noise=0.05, most=60).drop(columns=["verdict", "split", "meter", "meter_kind"])
    table.to_csv(tmp_path / "measured.csv", index=False)
    asked = ["--only", "cases,gpu_count,strategy,gpu_model,noise", "--law", "reduced_form", "--draws", "2"]
    command = [sys.executable, str(SCRIPT), str(tmp_path / "measured.csv"), *asked, "--json", str(tmp_path / "s.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    content = json.loads((tmp_path / "s.json").read_text())
    ours = validate(table, CATALOGUE, ("reduced_form",), "gpu_count").to_dict()
    assert len(content["gpu_count"]["all"]["folds"]) == len(ours["folds"])
    for one, other in zip(content["gpu_count"]["all"]["folds"], ours["folds"], strict=True):
        assert (one["law"], one["fold"], one["target"]) == (other["law"], other["fold"], other["target"])
        assert one["score"] == other["score"] or one["score"]["mape"] == pytest.approx(other["score"]["mape"])
    said = done.stdout
    assert "gpu_count=2" in said
    assert "0.833 (P1)" in said, "published scores stand beside ours"
    assert "only one gpu_model in the table" in said, "a rule that the trials cannot follow is said to be so"
    assert not any(trial_id in said + json.dumps(content) for trial_id in table["trial_id"]), "aggregates only"


def test_published_scores_are_of_laws_and_sections_that_there_are() -> None:
    with (ROOT / "benchmarks" / "published_scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows
    for row in rows:
        assert row["law"] in {*LAWS, *POST_RUN, *BASELINES}
        assert row["section"] in {"cases", "size", "gpu_model"}
        assert float(row["r2_log"]) <= 1
        assert row["source"] in {"P1", "first try"}
