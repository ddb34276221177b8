"""The page on calibration: its code runs as written."""

import re
from pathlib import Path

import pytest

from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from tests.model.synthetic import configurations, measured

PAGE = Path(__file__).resolve().parents[2] / "docs" / "calibration.md"
NEW = ("Tesla V100-SXM2-16GB",)


def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    catalogue = Catalogue.load()
    save_law(fit_law("roofline", measured(catalogue, noise=0.03), catalogue, bootstrap=0), tmp_path / "law.json")
    configurations(NEW).to_csv(tmp_path / "plan.csv", index=False)
    measured(catalogue, devices=NEW).head(4).to_csv(tmp_path / "trials.csv", index=False)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {})
    assert load_law(tmp_path / "calibrated.json").calibrated == NEW
    assert NEW[0] in capsys.readouterr().out
