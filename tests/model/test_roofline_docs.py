"""docs/roofline.md lists every coefficient and correction as the code has it."""

from pathlib import Path

import pytest

from joulelaw.model.fitting import Positive
from joulelaw.model.laws.roofline_terms import CORRECTIONS, DURATION, ENERGY, HOST, Correction

TEXT = (Path(__file__).parents[2] / "docs" / "roofline.md").read_text()


@pytest.mark.parametrize("c", [*DURATION, *ENERGY, *HOST.values()], ids=lambda c: str(c.name))
def test_a_coefficient_is_documented_with_its_unit_prior_and_meaning(c: Positive) -> None:
    bounds = f"{c.lower:g} to {c.upper:g}" if c.lower else ""
    assert f"| `{c.name}` | {c.unit} | {c.prior:g} | {c.factor:g} | {bounds} | {c.meaning} |" in TEXT


@pytest.mark.parametrize("c", [c for used in CORRECTIONS.values() for c in used], ids=lambda c: str(c.name))
def test_a_correction_is_documented_with_what_it_moves_and_by_how_much(c: Correction) -> None:
    assert f"| `{c.name}[GPU]` | {c.factor:g} | {', '.join(c.moves)} |" in TEXT
