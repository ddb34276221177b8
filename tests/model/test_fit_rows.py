"""What a fit says of itself: the level of its intervals, where the cases are too few for 95 %."""

import pytest

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
