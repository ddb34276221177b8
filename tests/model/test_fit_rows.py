"""What a fit says of itself: the level of its intervals where cases are few, and searches that were stopped."""

import pytest

from joulelaw.model import levenberg
from joulelaw.model.calibration import calibrate
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.tables import CASE_COLUMNS, key
from tests.model.synthetic import measured

CATALOGUE = Catalogue.load()


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        (5, ["5 cases support intervals of 83 %, not 95 %"]),
        (18, ["18 cases support intervals of 94 %, not 95 %"]),  # 18 / 19 is 94.7 %, and not rounded up
        (19, []),  # 19 / 20 is 95 %
    ],
)
def test_few_cases_are_said_to_support_a_lower_level(cases: int, told: list[str]) -> None:
    table = measured(CATALOGUE, noise=0.05)
    names = key(table, CASE_COLUMNS)
    chosen = table[names.isin(names.unique()[:cases])].reset_index(drop=True)
    law = fit_law("roofline", chosen, CATALOGUE, bootstrap=0)
    assert law.provenance.n_cases == cases
    assert [note for note in law.notes if "support intervals" in note] == told


def test_searches_that_were_stopped_are_said_and_those_that_came_to_rest_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table = measured(CATALOGUE, noise=0.05, most=60)
    one = table[table["gpu_model"] == table["gpu_model"].iloc[0]].assign(micro_steps=30)

    def said() -> tuple[list[str], str]:
        law = fit_law("roofline", table, CATALOGUE, bootstrap=3)
        stopped = [note.partition(":")[0] for note in calibrate(law, one).notes if "was stopped" in note]
        return stopped, law.widths.method

    stopped, method = said()
    assert stopped == []
    assert "came to rest" not in method
    monkeypatch.setattr(levenberg, "MOST_STEPS", 1)
    stopped, method = said()
    resamples = "intervals of coefficients, 3 of 3 resamples"
    assert stopped == ["duration", "energy", resamples, f"calibration for {one['gpu_model'].iloc[0]}"]
    assert "refits stopped before they came to rest: " in method
