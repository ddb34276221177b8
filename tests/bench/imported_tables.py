"""Measurement tables as users bring them, made from the law of tests.model.synthetic, and the command line on them."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from joulelaw.bench.cli import main
from joulelaw.model import laws, validation
from joulelaw.model.hardware import Catalogue
from tests.model.synthetic import measured

SAID_ELSEWHERE = ["boundary", "meter", "meter_kind", "verdict", "split"]
MY_GPU = """\
[[device]]
name = "My Card 9000"
peak_flop_per_s = { fp32 = 20e12, fp16 = 160e12 }
bandwidth_bytes_per_s = 1000e9
memory_bytes = 40000000000
power_limit_w = 350.0
link = "PCIe 4 x16"
link_bytes_per_s = 32e9
source = "made up"
date = 2026-01-01
"""


def few_draws(monkeypatch: pytest.MonkeyPatch, bootstrap: int = 3) -> None:
    """Few resamples in the commands: intervals have their own tests."""
    monkeypatch.setattr(laws, "fit_law", partial(laws.fit_law, bootstrap=bootstrap))
    monkeypatch.setattr(validation, "SPREAD_DRAWS", 2)


def plain_table(most: int = 60) -> pd.DataFrame:
    """What the measurement table needs and nothing more: no boundary, meter or split."""
    return measured(Catalogue.load(), noise=0.03, most=most).drop(columns=SAID_ELSEWHERE)


def written(folder: Path, table: pd.DataFrame, name: str = "theirs.csv") -> str:
    path = folder / name
    table.to_parquet(path, index=False) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return str(path)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON of the last line, and all that was said."""
    capsys.readouterr()
    code = main([str(each) for each in arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return code, json.loads(said.out.splitlines()[-1]), said.out + said.err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that must refuse its input."""
    code, content, said = run(capsys, *arguments)
    assert (code, content["exit_code"]) == (2, 2), said
    return str(content["error"])
