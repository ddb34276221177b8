"""What is said while a law is fitted: nothing where that is soon over, how far and how long still where it is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.commands import law_told
from joulelaw.bench.commands.law_told import resamples_told
from tests.bench.imported_tables import few_draws, plain_table, run, written

Capture = pytest.CaptureFixture[str]


def said_of(seconds_each: float, resamples: int, capsys: Capture) -> list[str]:
    """The lines on standard error while so many resamples take so long each, by a clock of our own."""
    now = [100.0]
    watch = resamples_told(lambda: now[0])
    now[0] += 60  # the fit itself, which tells nothing of its resamples
    for fitted in range(1, resamples + 1):
        now[0] += seconds_each
        watch(fitted, resamples)
    said = capsys.readouterr()
    assert said.out == "", "standard output is for programs"
    return said.err.splitlines()


def test_a_long_fit_says_every_few_seconds_how_far_it_is_and_how_long_still(capsys: Capture) -> None:
    lines = said_of(0.25, 200, capsys)
    told = "of 200 resamples fitted, for the intervals of coefficients; about"
    assert lines[0] == f"21 {told} 45 s to go"
    assert lines[-1] == f"181 {told} 4.8 s to go"
    assert len(lines) == 9


def test_a_short_fit_says_nothing(capsys: Capture) -> None:
    assert said_of(0.02, 200, capsys) == []


def test_the_command_tells_its_resamples_and_fits_the_same_law(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few_draws(monkeypatch)
    run(capsys, "import", written(tmp_path, plain_table()), "--into", "d", "--boundary", "gpu")
    monkeypatch.setattr(law_told, "TELL_EVERY_S", float("inf"))
    _, _, silent = run(capsys, "fit", "d", "--out", "silent.json")
    assert "resamples" not in silent
    monkeypatch.setattr(law_told, "TELL_EVERY_S", 0.0)
    _, _, told = run(capsys, "fit", "d", "--out", "told.json")
    assert [line[:6] for line in told.splitlines() if "resamples fitted" in line] == ["2 of 3"]
    assert timeless(Path("silent.json")) == timeless(Path("told.json"))


def timeless(law: Path) -> dict[str, Any]:
    """A law file's content but for when it was made."""
    content: dict[str, Any] = json.loads(law.read_text())
    del content["checksum"], content["history"][0]["at"]
    return content
