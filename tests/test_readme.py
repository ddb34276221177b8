"""The README is true: its figures are those of the committed study, its commands exist, its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from joulelaw.bench.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
STUDY = ROOT / "results" / "2x-amd-epyc-1-core" / "quickstart"
LAWS = {
    "roofline law, pre-run": "roofline",
    "reduced form (the published law), pre-run": "reduced_form",
    "reduced form with measured efficiency, post-run": "reduced_form_post_run",
    "geometric mean of the fitted trials": "constant",
    "gradient-boosted trees, pre-run": "trees",
}


def percent(text: str) -> float:
    return float(text.replace("−", "-").removesuffix(" %")) / 100


@pytest.mark.parametrize("name", LAWS)
def test_the_table_of_scores_is_that_of_the_committed_study(name: str) -> None:
    summaries = json.loads((STUDY / "validation.json").read_text())["summaries"]
    (score,) = [s["pooled"] for s in summaries if (s["law"], s["target"]) == (LAWS[name], "duration")]
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| {name} |"))
    r2, error, bias = [cell.strip() for cell in row.split("|")[2:5]]
    assert float(r2.replace("−", "-")) == pytest.approx(score["r2_log_per_token"], abs=5e-4)
    assert percent(error) == pytest.approx(score["mape"], abs=5e-3)
    assert percent(bias) == pytest.approx(score["bias"], abs=5e-3)


def test_the_committed_joules_say_that_they_are_estimates() -> None:
    environment = json.loads((STUDY / "environment.json").read_text())
    assert environment["git"]["changed"] is False
    law = json.loads((STUDY / "law.json").read_text())
    assert law["energy_is_estimated"] is True
    assert "its joules\nare estimates" in TEXT


def test_every_command_is_named_and_exists() -> None:
    named = set(re.findall(r"^joulelaw (\w+)", TEXT, flags=re.MULTILINE))
    assert named == set(COMMANDS)


def test_links_lead_to_files_of_the_repository() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_it_is_short_and_leads_to_what_a_new_user_needs() -> None:
    assert TEXT.count("\n") < 200
    first_screen = TEXT[: TEXT.index("**No GPU")]
    assert first_screen.count("\nmake ") == 2
    for page in ("tutorial", "method", "review", "adding", "commands/README"):
        assert f"](docs/{page}.md)" in TEXT, page
