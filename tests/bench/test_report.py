"""The report is one whole page that needs nothing else, names its meter, and repeats the data's numbers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, read_trials
from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.bench.report import write_report
from joulelaw.bench.report.palette import ROLES
from joulelaw.bench.report.quantity import percent, quantity
from joulelaw.bench.report.study import Study
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.validation import validate
from tests.bench.factories import configurations, new_dataset, synthetic_dataset, trial_row

ESTIMATED = "estimated: watts × CPU time, an identity"


class Page(HTMLParser):
    """What a test needs of a page: its text, tags with attributes, table rows by section."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: dict[str, list[list[str]]] = {}
        self._section = ""
        self._cell = False
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
        if tag == "tr":
            self.rows.setdefault(self._section, []).append([])
        if tag in ("td", "th"):
            self.rows[self._section][-1].append("")
            self._cell = True
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes what it did not open"
        if tag in ("td", "th"):
            self._cell = False

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[self._section][-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        return [str(attrs[name]) for _, attrs in self.tags if name in attrs]


def fit(folder: Path, *, held_out_too: bool = False, into: Path | None = None) -> Path:
    """A law of a dataset, as `joulelaw fit` would write it."""
    table, catalogue = read_measurements([folder]), Catalogue.load(devices_files([folder]))
    rows = table if held_out_too else table[table["split"] != "hold_out"]
    path = (into or folder) / "law.json"
    save_law(fit_law("roofline", rows, catalogue, bootstrap=2), path)
    return path


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic_dataset(tmp_path_factory.mktemp("metered") / "sweep")
    scores = validate(read_measurements([folder]), Catalogue.load(devices_files([folder])), laws=("roofline",))
    (folder / "validation.json").write_text(json.dumps(scores.to_dict()))
    write_report(folder, fit(folder), folder / "validation.json", folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory, metered: Path) -> Path:
    folder = synthetic_dataset(tmp_path_factory.mktemp("estimated") / "sweep", meter_kind="estimated")
    write_report(folder, fit(folder), metered / "validation.json", folder / "report.html")
    return folder


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_one_small_file_that_asks_for_nothing_else(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 1_000_000
    assert "http" not in html.replace("http-equiv", "")
    seen = page(metered)
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in seen.tags}
    assert not seen.attributes("src")
    assert all(reference.startswith("#") for reference in seen.attributes("href"))
    assert not re.search(r"@import|url\((?!#)", html)
    assert not seen.open, "every element is closed"


def test_ids_are_unique_and_every_reference_is_met(metered: Path) -> None:
    seen = page(metered)
    ids = seen.attributes("id")
    assert len(ids) == len(set(ids))
    html = (metered / "report.html").read_text(encoding="utf-8")
    wanted = {reference[1:] for reference in seen.attributes("href")} | set(re.findall(r"url\(#([^)]+)\)", html))
    assert wanted
    assert wanted <= set(ids)


def test_every_figure_is_in_the_page_and_beside_it(metered: Path) -> None:
    figures = {
        "predicted-energy",
        "predicted-duration",
        "residuals-energy",
        "residuals-duration",
        "roofline",
        "one-trial",
    }
    seen = page(metered)
    assert {attrs["id"] for tag, attrs in seen.tags if tag == "figure"} == figures
    assert sum(tag == "svg" for tag, _ in seen.tags) == len(figures)
    written = {path.name for path in (metered / "figures").iterdir()}
    assert written == {f"{name}.{ending}" for name in figures for ending in ("png", "svg")}


def test_figures_take_their_colours_from_the_page(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    drawings = "".join(re.findall(r"<svg.*?</svg>", html, re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawings)) <= {"#000000"}, "no colour that dark mode could not change"
    assert len({light for light, _ in ROLES.values()}) == len(ROLES), "a colour stands for one role"
    for role in set(re.findall(r"var\(--([a-z0-9-]+)\)", html)) - {"own"}:
        assert role in ROLES
    assert "prefers-color-scheme: dark" in html


def test_the_table_of_trials_repeats_the_data(metered: Path) -> None:
    rows = {row[0]: row for row in page(metered).rows["trials"][1:]}
    trials = read_trials(metered).set_index("trial_id")
    assert set(rows) == set(trials.index)
    for trial_id, trial in trials.iterrows():
        shown = rows[str(trial_id)]
        assert shown[1] == trial["strategy"]
        if pd.isna(trial["duration_s"]):
            assert shown[3] == "–"
            continue
        value, unit = shown[3].split(" ")
        seconds = float(value.replace(",", "")) * {"s": 1, "ms": 1e-3}[unit]
        assert seconds == pytest.approx(trial["duration_s"], rel=5e-3)
    invalid = trials[trials["verdict"] == "invalid"].index
    assert all(rows[trial][5] == "–" for trial in invalid), "no joules are shown where none were read, and never 0"


def test_each_point_is_its_trial(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    tips = json.loads(re.findall(r'id="tips">(.*?)</script>', html, re.DOTALL)[0])
    everything = read_trials(metered)
    assert [tip[0].split(",")[0] for tip in tips] == list(everything["trial_id"])
    valid = everything[everything["verdict"] == "valid"]
    figure = re.findall(r'<figure id="predicted-energy">.*?</figure>', html, re.DOTALL)[0]
    points = re.findall(r'<use [^>]*?x="([\d.]+)"[^>]*?data-trial="(\d+)"', figure)
    assert sorted(int(trial) for _, trial in points) == sorted(valid.index)
    by_place = [int(trial) for _, trial in sorted(points, key=lambda point: float(point[0]))]
    a_step = valid["energy_j"] / valid["micro_steps"] * valid["grad_accumulation"]
    assert by_place == list(a_step.sort_values().index), "further right means more joules a step"


def test_scores_are_those_of_the_validation(metered: Path) -> None:
    validation = json.loads((metered / "validation.json").read_text())
    for target in ("energy", "duration"):
        rows = page(metered).rows[target][1:]
        scores = [each["pooled"] for each in validation["summaries"] if each["target"] == target]
        assert [row[1] for row in rows] == [str(score["n"]) for score in scores]
        assert [row[4] for row in rows] == [percent(score["mape"]) for score in scores]
        assert "roofline law" in rows[0][0]
        assert any("baseline: boosted trees" in row[0] for row in rows)


def test_coefficients_come_with_interval_unit_and_meaning(metered: Path) -> None:
    law = load_law(metered / "law.json", Catalogue.load(devices_files([metered])))
    shown = [row for row in page(metered).rows["law"] if row[0] != "coefficient"]
    assert len(shown) == len(law.coefficients)
    for coefficient in law.coefficients:
        (row,) = [row for row in shown if row[0] == coefficient.name + coefficient.meaning]
        assert row[1] == quantity(coefficient.value, coefficient.unit)
        assert row[3] == coefficient.unit


def test_validity_counts_every_trial_that_is_not_believed(metered: Path) -> None:
    rows = {row[0]: row for row in page(metered).rows["validity"]}
    assert rows["valid"][2] == "22"
    assert rows["too_few_readings"][2] == "1"
    assert "fewer than" in rows["too_few_readings"][1], "the code is explained"
    assert rows["failed"][1] == "rank 1 killed by signal 9"


def test_every_energy_names_its_meter(metered: Path) -> None:
    seen = page(metered)
    assert seen.text.count("rapl (measured), boundary cpu_package") >= 6
    for name in ("predicted-energy", "residuals-energy", "one-trial"):
        assert "rapl (measured), boundary cpu_package" in (metered / "figures" / f"{name}.svg").read_text()
    assert ESTIMATED not in seen.text


def test_metered_energy_comes_first_and_estimated_energy_last_and_grey(metered: Path, estimated: Path) -> None:
    order = [attrs["id"] for tag, attrs in page(metered).tags if tag == "section" and "id" in attrs]
    assert order[:2] == ["energy", "duration"]
    seen = page(estimated)
    sections = {attrs["id"]: attrs for tag, attrs in seen.tags if tag == "section" and "id" in attrs}
    assert list(sections)[:2] == ["duration", "energy"]
    assert sections["energy"]["class"] == "estimated"
    assert "class" not in sections["duration"]
    assert "No joule here was metered." in seen.text
    headline = re.search(r"On \d+ held-out trials[^.]*", seen.text)
    assert headline is not None
    assert "energy" not in headline[0], "an identity is no result"


def test_estimated_figures_have_no_colour_and_say_what_they_are(estimated: Path) -> None:
    html = (estimated / "report.html").read_text(encoding="utf-8")
    for name in ("predicted-energy", "residuals-energy"):
        figure = re.findall(rf'<figure id="{name}" class="estimated">.*?</figure>', html, re.DOTALL)[0]
        assert "var(--estimate)" in figure
        assert "var(--series" not in figure
        assert ESTIMATED in figure
        assert ESTIMATED in (estimated / "figures" / f"{name}.svg").read_text()


def test_a_report_without_law_and_scores_shows_what_there_is(tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "sweep")
    out = write_report(folder, None, None, tmp_path / "elsewhere" / "page.html")
    assert out == tmp_path / "elsewhere" / "page.html"
    seen = Page(out.read_text(encoding="utf-8"))
    assert "No forecasts: no law was given." in seen.text
    assert {attrs["id"] for tag, attrs in seen.tags if tag == "figure"} == {"roofline", "one-trial"}
    assert (tmp_path / "elsewhere" / "figures" / "roofline.png").exists()


def test_a_study_without_one_valid_trial_says_so(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path, invalid=20, failed=4)
    seen = Page(write_report(tmp_path, None, None, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0 valid trials" in seen.text
    assert not [tag for tag, _ in seen.tags if tag == "figure"]
    new_dataset(tmp_path / "empty").close()
    empty = Page(write_report(tmp_path / "empty", None, None, tmp_path / "empty.html").read_text(encoding="utf-8"))
    assert "24" in [row[2] for row in empty.rows["validity"] if row[0] == "not run yet"]


def test_a_law_that_saw_the_hold_out_is_not_passed_off_as_one_that_did_not(metered: Path, tmp_path: Path) -> None:
    honest = Study.load(metered, metered / "law.json", metered / "validation.json")
    assert honest.fitted_without_hold_out
    assert honest.scores_are_of_these_trials
    law = fit(metered, held_out_too=True, into=tmp_path)
    out = write_report(metered, law, None, tmp_path / "report.html")
    assert "fitted on other trials than those marked as fitted" in out.read_text(encoding="utf-8")


def test_data_cannot_break_out_of_the_page(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script>"
    with new_dataset(tmp_path) as dataset:
        for number_of, configuration in enumerate(configurations()):
            row = trial_row(configuration, number=number_of)
            row |= {"meter": evil, "status": "failed", "failure": f"<b>{evil}", "verdict": "invalid"}
            dataset.start_trial(f"{configuration.configuration_id}-r0").finish(row)
    html = write_report(tmp_path, None, None, tmp_path / "report.html").read_text(encoding="utf-8")
    assert evil not in html
    assert "<b>" not in html
    assert not Page(html).open


def test_what_is_no_validation_is_refused(metered: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    for content, message in (
        (None, "no such file"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "not a val"),
    ):
        path = tmp_path / "validation.json"
        if content is not None:
            path.write_text(content)
        with pytest.raises(InputError, match=f"validation.json: {message}"):
            write_report(metered, None, path, out)
    assert not out.exists()


def test_the_same_study_gives_the_same_page_and_figures(metered: Path, tmp_path: Path) -> None:
    write_report(metered, metered / "law.json", metered / "validation.json", tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == (metered / "report.html").read_bytes()
    for path in (metered / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_no_path_of_this_machine_is_told(metered: Path) -> None:
    for path in (metered / "report.html", *(metered / "figures").glob("*.svg")):
        assert str(metered.parent) not in path.read_text(encoding="utf-8")


def test_a_thousand_trials_stay_under_three_megabytes(metered: Path, tmp_path: Path) -> None:
    new_dataset(tmp_path).close()
    every = list(configurations())
    rows = [
        {"trial_id": f"{configuration.configuration_id}-r{k}", "attempt": 0, **trial_row(configuration, number=k)}
        for k, configuration in ((k, every[k % len(every)]) for k in range(1000))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=TRIALS), tmp_path / "trials" / "all.parquet")
    out = write_report(tmp_path, metered / "law.json", None, tmp_path / "report.html")
    assert out.stat().st_size < 3_000_000
