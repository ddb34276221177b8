"""The report is one whole page that needs nothing else, names its meter, and repeats the data's numbers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw import InputError, __version__
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, read_trials
from joulelaw.bench.dataset.tables import TRIALS
from joulelaw.bench.report import charts, write_report
from joulelaw.bench.report.palette import ROLES
from joulelaw.bench.report.quantity import percent, quantity
from joulelaw.bench.report.study import Study
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.validation import validate
from tests.bench.factories import configurations, new_dataset, synthetic_dataset, trial_row

ESTIMATED = "estimated: watts × CPU time, an identity"
SCATTERS = {
    *(f"{kind}-{target}" for kind in ("predicted", "residuals", "scaling") for target in ("energy", "duration")),
    "roofline",
    "energy-roofline",
}
BARS = {"parts-energy", "parts-duration"}


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


def law_of(path: Path, folder: Path) -> FittedLaw:
    return load_law(path, Catalogue.load(devices_files([folder])))


def written(folder: Path, validation: Path | None = None, law: Path | None = None, out: Path | None = None) -> Path:
    """The report, as the command writes it."""
    path = law or folder / "law.json"
    return write_report(folder, law_of(path, folder), validation, out or folder / "report.html", law_file=path)


def data_of(html: str) -> dict[str, Any]:
    """What the page's script draws."""
    found: dict[str, Any] = json.loads(re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)[0])
    return found


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = synthetic_dataset(tmp_path_factory.mktemp("metered") / "sweep")
    scores = validate(read_measurements([folder]), Catalogue.load(devices_files([folder])), laws=("roofline",))
    (folder / "validation.json").write_text(json.dumps(scores.to_dict()))
    fit(folder)
    written(folder, folder / "validation.json")
    return folder


@pytest.fixture(scope="module")
def estimated(tmp_path_factory: pytest.TempPathFactory, metered: Path) -> Path:
    folder = synthetic_dataset(tmp_path_factory.mktemp("estimated") / "sweep", meter_kind="estimated")
    fit(folder)
    written(folder, metered / "validation.json")
    return folder


def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_one_small_file_that_asks_for_nothing_else(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 1_000_000
    assert "http" not in html.replace("http://www.w3.org/2000/svg", ""), "but for the name of SVG"
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
    wanted = {reference[1:] for reference in seen.attributes("href")}
    assert wanted
    assert wanted <= set(ids)


def test_every_figure_is_in_the_page_and_beside_it(metered: Path) -> None:
    seen = page(metered)
    assert {attrs["id"] for tag, attrs in seen.tags if tag == "figure"} == SCATTERS | BARS | {"power", "steps"}
    data = data_of((metered / "report.html").read_text(encoding="utf-8"))
    assert {chart["name"] for chart in data["charts"]} == SCATTERS
    assert {bars["name"] for bars in data["bars"]} == BARS
    names = SCATTERS | BARS | {"one-trial"}
    assert {path.name for path in (metered / "figures").iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("png", "svg")
    }


def test_every_colour_is_one_that_dark_mode_changes(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    beside_roles = re.sub(
        r":root[^{]*\{[^}]*\}", "", html.replace(html[html.index('id="data">') :].split("</script>")[0], "")
    )
    assert not re.findall(r"[^&]#[0-9a-f]{6}\b", beside_roles)
    for role in set(re.findall(r"var\(--([a-z0-9-]+)\)", html)):
        assert role in ROLES
    assert "prefers-color-scheme: dark" in html


def test_paper_and_page_draw_the_same_points(metered: Path) -> None:
    html = (metered / "report.html").read_text(encoding="utf-8")
    for chart in data_of(html)["charts"]:
        svg = (metered / "figures" / f"{chart['name']}.svg").read_text()
        shapes = re.findall(r'<use xlink:href="#[^"]+" x="[\d.]+" y="[\d.]+" style="[^"]*stroke', svg)
        assert len(shapes) >= len(chart["points"]["trial"]) == len(chart["points"]["x"]) > 0
        for label in (chart["x"]["label"], chart["y"]["label"], chart["title"]):
            assert label in svg


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
    everything = read_trials(metered)
    (chart,) = [each for each in data_of(html)["charts"] if each["name"] == "predicted-energy"]
    valid = everything[everything["verdict"] == "valid"]
    a_step = valid["energy_j"] / valid["micro_steps"] * valid["grad_accumulation"]
    assert sorted(chart["points"]["trial"]) == sorted(valid.index)
    for trial, x in zip(chart["points"]["trial"], chart["points"]["x"], strict=True):
        assert x == pytest.approx(a_step[trial], rel=1e-4)
    held = {trial for trial, held in zip(chart["points"]["trial"], chart["points"]["held"], strict=True) if held}
    assert held == set(valid.index[valid["split"] == "hold_out"])


def test_power_of_each_trial_keeps_its_joules(metered: Path) -> None:
    """Thinned, the mean over the window is still the trial's energy over its duration."""
    everything = read_trials(metered)
    traces = data_of((metered / "report.html").read_text(encoding="utf-8"))["traces"]
    valid = everything[everything["verdict"] == "valid"]
    assert set(map(int, traces)) == set(valid.index)
    for place, trace in traces.items():
        row = valid.loc[int(place)]
        assert len(trace["devices"]) == row["gpu_count"]
        joules = sum(sum(device["dw"]) / 10 * device["every_s"] for device in trace["devices"])
        assert joules == pytest.approx(row["energy_j"], rel=0.02)
        assert len(trace["steps"]["s"]) == row["measured_steps"] + row["warmup_steps"]
        assert trace["steps"]["s"] == pytest.approx([row["step_s_median"]] * len(trace["steps"]["s"]), rel=0.01)


def test_scores_are_those_of_the_validation(metered: Path) -> None:
    validation = json.loads((metered / "validation.json").read_text())
    for target in ("energy", "duration"):
        rows = page(metered).rows[target]
        rows = rows[[row[0] for row in rows].index("forecast by") + 1 :]
        scores = [each["pooled"] for each in validation["summaries"] if each["target"] == target]
        assert [row[1] for row in rows] == [str(score["n"]) for score in scores]
        assert [row[4] for row in rows] == [percent(score["mape"]) for score in scores]
        assert "roofline law" in rows[0][0]
        assert any("baseline: boosted trees" in row[0] for row in rows)


def test_coefficients_come_with_interval_unit_and_meaning(metered: Path) -> None:
    law = load_law(metered / "law.json", Catalogue.load(devices_files([metered])))
    shown = [row for row in page(metered).rows["law"] if len(row) == 5 and row[0] != "coefficient"]
    assert len(shown) == len(law.coefficients)
    for coefficient in law.coefficients:
        (row,) = [row for row in shown if row[0].split(" ", 1)[-1] == coefficient.name + coefficient.meaning
                  or row[0] == coefficient.name + coefficient.meaning]  # fmt: skip
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
    names = ("predicted-energy", "residuals-energy", "scaling-energy", "energy-roofline", "parts-energy")
    drawn = {each["name"]: each for each in (*data_of(html)["charts"], *data_of(html)["bars"])}
    for name in names:
        figure = re.findall(rf'<figure id="{name}"[^>]*class="estimated">.*?</figure>', html, re.DOTALL)[0]
        assert ESTIMATED in figure
        assert drawn[name]["estimated"] is True
        svg = (estimated / "figures" / f"{name}.svg").read_text()
        assert ESTIMATED in svg
        assert not [role for role in ROLES if role.startswith(("series", "part-")) and ROLES[role][0] in svg]
    assert not any(each["estimated"] for name, each in drawn.items() if name not in names)


def test_a_report_without_law_and_scores_shows_what_there_is(tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "sweep")
    out = write_report(folder, None, None, tmp_path / "elsewhere" / "page.html")
    assert out == tmp_path / "elsewhere" / "page.html"
    seen = Page(out.read_text(encoding="utf-8"))
    assert "No forecasts: no law was given." in seen.text
    figures = {attrs["id"] for tag, attrs in seen.tags if tag == "figure"}
    assert figures == {"scaling-energy", "scaling-duration", "roofline", "energy-roofline", "power", "steps"}
    assert (tmp_path / "elsewhere" / "figures" / "roofline.png").exists()


def test_a_study_without_one_valid_trial_says_so(tmp_path: Path) -> None:
    synthetic_dataset(tmp_path, invalid=20, failed=4)
    seen = Page(write_report(tmp_path, None, None, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "0 valid trials" in seen.text
    assert {attrs["id"] for tag, attrs in seen.tags if tag == "figure"} == {"power", "steps"}, "hidden"
    new_dataset(tmp_path / "empty").close()
    empty = Page(write_report(tmp_path / "empty", None, None, tmp_path / "empty.html").read_text(encoding="utf-8"))
    assert "24" in [row[2] for row in empty.rows["validity"] if row[0] == "not run yet"]


def test_a_law_that_saw_the_hold_out_is_not_passed_off_as_one_that_did_not(metered: Path, tmp_path: Path) -> None:
    honest = Study.load(metered, law_of(metered / "law.json", metered), metered / "validation.json")
    assert honest.fitted_without_hold_out
    assert honest.scores_are_of_these_trials
    law = fit(metered, held_out_too=True, into=tmp_path)
    out = written(metered, None, law, tmp_path / "report.html")
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
    written(metered, metered / "validation.json", out=tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == (metered / "report.html").read_bytes()
    for path in (metered / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


def test_no_path_of_this_machine_is_told(metered: Path) -> None:
    for path in (metered / "report.html", *(metered / "figures").glob("*.svg")):
        assert str(metered.parent) not in path.read_text(encoding="utf-8")


def test_what_is_cited_is_what_the_files_have(metered: Path) -> None:
    text = page(metered).text
    law = json.loads((metered / "law.json").read_text())
    assert text.count(law["checksum"]) >= 2
    assert law["provenance"]["data_hash"] in text
    for command in ("joulelaw run sweep.yaml --into sweep", "joulelaw fit sweep --law roofline --out law.json",
                    "joulelaw report sweep --law law.json --validation validation.json"):  # fmt: skip
        assert command in text
    assert f"version = {{{__version__}}}" in text


def test_without_a_split_the_folds_of_the_validation_are_what_was_held_out(metered: Path, tmp_path: Path) -> None:
    folder = synthetic_dataset(tmp_path / "sweep")
    for path in (folder / "trials").iterdir():
        table = pq.read_table(path)
        at = table.schema.get_field_index("split")
        pq.write_table(table.set_column(at, TRIALS.field("split"), pa.array([None], pa.string())), path)
    everything = read_trials(folder)
    left_out = everything[everything["verdict"] == "valid"].iloc[::2]
    predictions = [
        {"trial_id": row["trial_id"], "law": "roofline", "target": target, "fold": str(fold),
         "predicted": value * factor, "low": value / 2, "high": value * 2}
        for fold, factor in enumerate((1.1, 1.7))  # the second time a trial is left out changes nothing
        for _, row in left_out.iterrows()
        for target, value in (("duration", row["duration_s"]), ("energy", row["energy_j"]))
    ]  # fmt: skip
    told = json.loads((metered / "validation.json").read_text()) | {"hold_out": "case", "predictions": predictions}
    (folder / "validation.json").write_text(json.dumps(told))
    html = written(folder, folder / "validation.json", metered / "law.json").read_text(encoding="utf-8")
    (chart,) = [each for each in data_of(html)["charts"] if each["name"] == "predicted-duration"]
    held = {trial for trial, held in zip(chart["points"]["trial"], chart["points"]["held"], strict=True) if held}
    assert held == set(left_out.index)
    for trial, x, y in zip(*(chart["points"][name] for name in ("trial", "x", "y")), strict=True):
        assert trial not in held or y == pytest.approx(1.1 * x, rel=1e-3)
    assert "median over" in html
    assert "the law below was fitted" in html


def test_rounding_keeps_what_is_seen() -> None:
    assert charts.rounded([0.123456789, 12345.678, 3.0]) == [0.12346, 12346, 3]
