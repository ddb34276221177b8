"""The figures in docs/review.md are those of docs/law_scores.md: of the fold, law and rows that each line names."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"
SCORES = (DOCS / "law_scores.md").read_text()
REVIEW = (DOCS / "review.md").read_text()

LAWS = {"roofline": "roofline", "trees": "trees", "P1's form, pre-run": "reduced_form"}
POST_RUN = {"P1's form, post-run": "reduced_form_post_run (post-run)"}
FOLDS = {
    "the largest quarter": "small to large",
    "the smallest quarter": "large to small",
    "GPT-2 (fitted on BERT)": "model_family=gpt2",
    "groups of 6": "gpu_count=6",
    "single devices": "strategy=single",
    "tensor parallelism": "strategy=tp",
    "RTX 2080 Ti (fitted on A100)": "gpu_model=NVIDIA GeForce RTX 2080 Ti",
    "A100 (fitted on RTX 2080 Ti)": "gpu_model=NVIDIA A100-SXM4-40GB",
}


def table_rows(text: str) -> list[dict[str, str]]:
    """The rows of the first Markdown table in a text, by column."""
    lines = text[text.index("|") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def section(title: str) -> list[dict[str, str]]:
    return table_rows(REVIEW[REVIEW.index(title) :])


def energy_scores() -> list[dict[str, str]]:
    """The energy rows of all data together, of every section that leaves a value out."""
    parts = SCORES.split("all, energy\n\n")[1:]
    return [row for part in parts for row in table_rows(part)]


def splits() -> list[dict[str, str]]:
    return table_rows(SCORES[SCORES.index("energy, medians over the splits") :])


def pair(row: dict[str, str]) -> str:
    return f"{row['R2 log']}, {row['MAPE']}"


@pytest.mark.parametrize("line", section("## 5."), ids=lambda line: line["left out"])
def test_what_is_left_out(line: dict[str, str]) -> None:
    found = {row["law"]: row for row in energy_scores() if row["fold"] == FOLDS[line["left out"]]}
    assert {name: line[name] for name in LAWS} == {name: pair(found[law]) for name, law in LAWS.items()}
    assert line["in the 95 % interval"] == found["roofline"]["in 95 %"]


@pytest.mark.parametrize("line", section("## 4."), ids=lambda line: line["rows"])
def test_unseen_cases(line: dict[str, str]) -> None:
    of = line["rows"].lower().replace("-", "")
    found = {row["law"]: row for row in splits() if row["of"] == of}
    laws = LAWS | POST_RUN
    assert {name: line[name] for name in laws} == {name: pair(found[law]) for name, law in laws.items()}
    published = found["reduced_form"]["published"]
    assert line["P1 reports, pre-run"] == published.split(" ")[0]


def test_what_circularity_is_worth() -> None:
    told = {(line["R²"], line["error"]) for line in section("## 3.")}
    assert told == {(row["R2 log"], row["MAPE"]) for row in splits() if row["of"] == "all" and row["law"] != "constant"}


def test_figures_in_sentences() -> None:
    few = table_rows(SCORES[SCORES.index("## Few-shot calibration") :])
    of_energy = [row for row in few if row["target"] == "energy" and row["chosen"] == "by the tool"]
    chosen = {row["device left out"]: pair(row) for row in of_energy if row["trials"] == "4"}
    text = " ".join(REVIEW.split())
    assert f"A100 to {chosen['NVIDIA A100-SXM4-40GB']}" in text
    assert f"2080 Ti to {chosen['NVIDIA GeForce RTX 2080 Ti']}" in text
    roofline = next(row for row in splits() if row["of"] == "all" and row["law"] == "roofline")
    assert f"{roofline['in 95 %']} of unseen cases, with a median half-width of a factor {roofline['x /']}" in text
    floor = re.search(r"all: noise of the rows' energy: .* MAPE ([\d.]+ %)", SCORES)
    assert floor is not None
    assert f"an error of {floor[1]}" in text
