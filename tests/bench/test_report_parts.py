"""What the report is made of: numbers, ticks, colours, and the points of two figures against their definitions."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from joulelaw.bench.cli import main
from joulelaw.bench.dataset.measurements import devices_files, read_measurements
from joulelaw.bench.report import write_report
from joulelaw.bench.report.charts import log_ticks
from joulelaw.bench.report.palette import ROLES
from joulelaw.bench.report.quantity import interval, number, percent, quantity, tick
from joulelaw.bench.report.roofline_charts import roofline_points
from joulelaw.bench.report.study import Study
from joulelaw.bench.report.tables import trial_table, validity
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.validation import validate
from tests.bench.factories import synthetic_dataset


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_dataset(tmp_path_factory.mktemp("parts") / "sweep")


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_are_readable_in_light_and_dark(scheme: int) -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(ROLES[one][scheme]), luminance(ROLES[other][scheme])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "muted", "accent", "warn"):
        assert contrast(text, "surface") >= 4.5
        assert contrast(text, "panel") >= 4.5
    for shade in [role for role in ROLES if role.startswith(("series-", "part-"))] + ["estimate"]:
        assert contrast(shade, "surface") >= 3


# What of linear red, green and blue is seen without the cones of one kind (Machado, Oliveira and Fernandes 2009).
COLOUR_BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Linear red, green and blue to Oklab (Ottosson 2020): a cube root between two matrices.
CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
         [0.0883024619, 0.2817188376, 0.6299787005]]  # fmt: skip
LAB = [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
       [0.0259040371, 0.7827717662, -0.8086757660]]  # fmt: skip


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_keep_apart_for_the_colour_blind(scheme: int) -> None:
    """A step in Oklab of 0.02 is just seen; light-dark differences count."""
    for kind in ("series-", "part-"):
        colours = [ROLES[role][scheme] for role in ROLES if role.startswith(kind)]
        parts = np.array([[int(each[at : at + 2], 16) / 255 for at in (1, 3, 5)] for each in colours])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        for seen in COLOUR_BLIND.values():
            lab = np.cbrt(np.clip(linear @ np.transpose(seen), 0, None) @ np.transpose(CONES)) @ np.transpose(LAB)
            apart = [np.linalg.norm(one - other) for one, other in itertools.combinations(lab, 2)]
            assert min(apart) >= 0.08


def test_roofline_points_follow_from_the_counts(folder: Path) -> None:
    study = Study.load(folder, None, None)
    points = roofline_points(study)
    rows = study.valid
    for place in points.index[:3]:
        row = rows.loc[place]
        micro_step_s = row["duration_s"] / row["micro_steps"]
        assert points.loc[place, "flop_per_s"] == pytest.approx(row["flop_per_micro_step"] / micro_step_s)
        under_roof = min(60e9, 10e9 * points.loc[place, "intensity"])
        assert points.loc[place, "ceiling"] == pytest.approx(under_roof)


def test_trials_on_short_texts_are_shown_and_compared_with_nothing(tmp_path: Path) -> None:
    """As fit and validate leave them out: a report of their results agrees with them on which trials there are."""
    folder = synthetic_dataset(tmp_path / "sweep", short_texts=3)
    rows, catalogue = read_measurements([folder]), Catalogue.load(devices_files([folder]))
    rows = rows[rows["padded_tokens"] % 64 == 0]
    law, scores = law_file(rows, catalogue, tmp_path), tmp_path / "validation.json"
    scores.write_text(json.dumps(validate(rows, catalogue, laws=("reduced_form",)).to_dict()))
    study = Study.load(folder, load_law(law, catalogue), scores)
    assert study.fitted_without_hold_out
    assert study.scores_are_of_these_trials
    assert set(study.forecast["trial_id"]) == set(rows["trial_id"])
    assert (len(study.valid), len(roofline_points(study)), len(rows)) == (22, 19, 19)
    assert len(trial_table(study).rows) == 24
    (row,) = [row for row in validity(study).rows if row[0] == "short texts"]
    assert row[2] == "3"


def test_a_study_on_short_texts_only_has_a_report_without_a_roofline(tmp_path: Path, folder: Path) -> None:
    law = law_file(read_measurements([folder]), Catalogue.load(devices_files([folder])), tmp_path)
    short = synthetic_dataset(tmp_path / "short", short_texts=24)
    fitted = load_law(law, Catalogue.load(devices_files([folder])))
    html = write_report(short, fitted, None, tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No forecasts: no trial&#39;s texts reach sequence_length" in html
    assert (tmp_path / "figures" / "one-trial.svg").is_file()
    assert 'id="roofline"' not in html


def law_file(rows: pd.DataFrame, catalogue: Catalogue, home: Path) -> Path:
    """A law of the rows that are not held out."""
    save_law(fit_law("reduced_form", rows[rows["split"] == "fit"], catalogue, bootstrap=0), home / "law.json")
    return home / "law.json"


def test_files_that_are_not_the_datasets_are_named_before_anything_is_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = synthetic_dataset(tmp_path / "sweep")
    for path in [*(folder / "steps").iterdir(), *(folder / "power").iterdir()]:
        shutil.copy(path, path.with_name(f"{path.stem}-copy.parquet"))
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().err.count("-copy.parquet: not the name of a trial's file; move it out") == 48
    for path in (folder / "power").glob("*.0.parquet"):
        path.write_bytes(b"PAR1 cut short")
    assert main(["report", str(folder)]) == 2
    told = capsys.readouterr().err.splitlines()
    assert sum("not a Parquet file, or cut short" in line for line in told[:-1]) == 24, "each, and then the one met"
    assert "not a Parquet file, or cut short" in told[-1]


def test_numbers_read_as_people_write_them() -> None:
    assert [number(x) for x in (0.98765, 12345.6, 1.5e-7, -0.04, 999.6, 0, None, float("nan"))] == [
        "0.988", "12,300", "1.50 × 10⁻⁷", "−0.0400", "1,000", "0", "–", "–",
    ]  # fmt: skip
    assert quantity(0.0009996, "s") == "1.00 ms"
    assert quantity(999.96, "J") == "1.00 kJ"
    assert quantity(4321.0, "s") == "4,320 s"
    assert quantity(2.5e12, "FLOP/s") == "2.50 TFLOP/s"
    assert quantity(0.5, "1") == "0.500"
    assert percent(-0.0512, signed=True) == "−5.1 %"
    assert percent(0.0999) == "10 %"
    assert percent(-0.0001, signed=True) == "0.0 %"
    assert interval(0.001, float("nan"), "s") == "–"
    assert [tick(0.02, "s"), tick(5000, "J"), tick(0.2, "s"), tick(100, "s")] == ["20 ms", "5 kJ", "0.2 s", "100 s"]


@pytest.mark.parametrize(("low", "high"), [(0.8, 30), (1e-3, 5e4), (2.1, 2.4), (1e-9, 1e9)])
def test_log_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = log_ticks(low, high, 6)
    assert len(ticks) <= 6
    assert all(low <= value <= high for value in ticks)
