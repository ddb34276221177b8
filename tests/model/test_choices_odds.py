"""How sure one candidate is to cost less: against draws of the parameters, and of what the law misses beside."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from joulelaw.model.choices_odds import OWN_SHARE, Doubts
from joulelaw.model.costs import J_PER_KWH
from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import DISCREPANCY, TARGETS, UNSEEN_HALF_WIDTH, Widths, Z
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.laws.roofline_terms import CORRECTIONS
from tests.model.synthetic import configurations, measured

pytestmark = pytest.mark.xdist_group("choices_odds")

Array = npt.NDArray[np.float64]
DRAWS = 500
# Of a share among so many draws, four standard deviations; and what slopes, which are straight, leave out.
TOLERANCE = 4 * 0.5 / DRAWS**0.5 + 0.02
# Parameters that the rows leave open are in doubt by factors, where no straight line holds.
LARGE = 4.0
NEW = ("NVIDIA L4", "NVIDIA A30")


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    catalogue = Catalogue.load()
    return fit_law("roofline", measured(catalogue, 0.05), catalogue, bootstrap=0)


@pytest.fixture(scope="module")
def sharp(law: FittedLaw) -> FittedLaw:
    """The law with a fourth of its parameters' doubt: slopes hold so far."""
    return replace(law, covariance=law.covariance / LARGE**2)


@pytest.fixture(scope="module")
def inside(law: FittedLaw) -> pd.DataFrame:
    """Candidates within the fitted ranges, on two devices and three groups, for the same 10,000 sequences."""
    table = configurations().drop(columns="trial_id").iloc[::9].reset_index(drop=True)
    sequences = table["micro_batch_size"] * table["gpu_count"]
    table = table.assign(micro_steps=-(-10_000 // sequences))
    assert (law.predict(table)["extrapolates"] == "").all()
    return table


@pytest.fixture(scope="module")
def outcomes(sharp: FittedLaw, inside: pd.DataFrame) -> dict[str, Array]:
    return drawn(sharp, inside)


def drawn(law: FittedLaw, inside: pd.DataFrame) -> dict[str, Array]:
    """Logarithms by target (draws x rows): forecasts of laws drawn from the fitted one's doubt, and on top of them each
    row's own miss, of what its interval leaves beside that doubt; the same in joules and seconds."""
    rng = np.random.default_rng(0)
    names = list(law.parameters)[: len(law.covariance)]
    centre = np.log([law.parameters[name] for name in names])
    rows = Rows.of(law.at_boundary(inside), law.catalogue)
    each = [
        law.law.forecast({**law.parameters, **dict(zip(names, np.exp(logs), strict=True))}, rows)
        for logs in rng.multivariate_normal(centre, law.covariance, DRAWS, method="eigh")
    ]
    logs = {target: np.array([one.log(target) for one in each]) for target in TARGETS}
    own = rng.standard_normal(logs["energy"].shape)
    for target, half in law.widths.of_cases(inside).items():
        whole = (half / Z) ** 2
        logs[target] = logs[target] + own * np.sqrt(np.maximum(whole - logs[target].var(axis=0), OWN_SHARE * whole))
    return logs


def shares(rows: int, target: str) -> dict[str, Array]:
    return {each: np.full(rows, float(each == target)) for each in TARGETS}


def near(logs: Array, seed: int = 0) -> tuple[Array, Array]:
    """Amounts of each, in logarithms, that bring all costs to within some 15 % of each other; and the costs then."""
    wanted = np.random.default_rng(seed).uniform(-0.08, 0.08, len(logs))
    return wanted - logs, wanted


def said_and_was(law: FittedLaw, inside: pd.DataFrame, outcomes: dict[str, Array]) -> tuple[Array, Array]:
    """Of all pairs, both targets: the probability, and the share of the draws."""
    forecast, doubts = law.predict(inside), Doubts.of(law, inside)
    first, second = np.triu_indices(len(inside), 1)
    said, was = [], []
    for target, name in (("energy", "predicted_energy_j"), ("duration", "predicted_duration_s")):
        amounts, logs = near(np.log(forecast[name].to_numpy()))
        said.append(doubts.better(first, second, logs, shares(len(inside), target)))
        costs = outcomes[target] + amounts
        was.append((costs[:, first] < costs[:, second]).mean(axis=0))
    return np.concatenate(said), np.concatenate(was)


def test_the_probability_is_the_share_of_draws_in_which_it_costs_less(
    sharp: FittedLaw, inside: pd.DataFrame, outcomes: dict[str, Array]
) -> None:
    said, was = said_and_was(sharp, inside, outcomes)
    assert ((said > 0.1) & (said < 0.9)).sum() > 60
    assert np.abs(said - was).max() < TOLERANCE


def test_of_doubts_by_factors_slopes_tell_it_roughly(law: FittedLaw, inside: pd.DataFrame) -> None:
    said, was = said_and_was(law, inside, drawn(law, inside))
    assert np.abs(said - was).mean() < 0.05
    assert np.abs(said - was).max() < 0.2


def test_of_money_too(sharp: FittedLaw, inside: pd.DataFrame, outcomes: dict[str, Array]) -> None:
    """0.30 a kWh and 0.05 a GPU-hour: about as much for the one as for the other."""
    per_j, per_s = 0.3 / J_PER_KWH, 0.05 / 3600 * inside["gpu_count"].to_numpy()
    forecast = sharp.predict(inside)
    paid = per_j * forecast["predicted_energy_j"].to_numpy()
    cost = paid + per_s * forecast["predicted_duration_s"].to_numpy()
    amounts, logs = near(np.log(cost))
    costs = np.log(per_j * np.exp(outcomes["energy"]) + per_s * np.exp(outcomes["duration"])) + amounts
    first, second = np.triu_indices(len(inside), 1)
    share = paid / cost
    assert ((share > 0.2) & (share < 0.8)).any()
    said = Doubts.of(sharp, inside).better(first, second, logs, {"energy": share, "duration": 1 - share})
    assert np.abs(said - (costs[:, first] < costs[:, second]).mean(axis=0)).max() < TOLERANCE


def test_either_way_the_two_probabilities_make_one_and_none_is_said_of_itself(
    law: FittedLaw, inside: pd.DataFrame
) -> None:
    doubts, rng = Doubts.of(law, inside), np.random.default_rng(0)
    logs, first, second = rng.normal(size=len(inside)), np.array([0, 1, 2, 3]), np.array([1, 2, 0, 3])
    one = doubts.better(first, second, logs, shares(len(inside), "energy"))
    other = doubts.better(second, first, logs, shares(len(inside), "energy"))
    assert (one + other)[:3] == pytest.approx(1)
    assert np.isnan(one[3])


def test_what_is_not_known_of_a_device_cancels_between_two_runs_on_it(law: FittedLaw) -> None:
    """And does not between runs on two devices, neither of which was measured."""
    table = configurations(NEW).drop(columns="trial_id")
    alike = table[(table["num_layers"] == 12) & (table["strategy"] == "single") & (table["sequence_length"] == 128)]
    rows = alike.sort_values(["gpu_model", "micro_batch_size"]).reset_index(drop=True)
    forecast = law.predict(rows)
    assert (forecast["energy_high_j"] / forecast["predicted_energy_j"] > 1.9).all(), "known to a factor 2 at best"
    logs = np.log([1.0, 1.2, 1.2, 1.2])  # of costs that are 20 % apart, whatever the forecasts are
    doubts = Doubts.of(law, rows)
    of_one, of_two = doubts.better(np.array([0, 0]), np.array([1, 2]), logs, shares(4, "energy"))
    assert of_one > 0.85
    assert 0.5 < of_two < 0.7


def test_two_unmeasured_devices_are_off_each_in_its_own_way(law: FittedLaw) -> None:
    """Against draws in which each has corrections of its own, about what all devices have in common."""
    table = configurations(NEW).drop(columns="trial_id")
    rows = table[(table["num_layers"] == 24) & (table["strategy"] == "single")].reset_index(drop=True)
    names = list(law.parameters)[: len(law.covariance)]
    own = {f"{target}.{c.name}[*]": np.log(c.factor) for target, used in CORRECTIONS.items() for c in used}
    at = [(names.index(name), doubt) for name, doubt in own.items() if name in names]
    assert len(at) == 6, "the boundary gpu has no host's power"
    common = law.covariance.copy()
    for k, doubt in at:
        common[k, k] -= doubt**2
    rng, count = np.random.default_rng(0), 20_000
    drawn = rng.multivariate_normal(np.zeros(len(names)), common, count, method="eigh")
    logs = {target: np.empty((count, len(rows))) for target in TARGETS}
    for model in NEW:
        mine, which = drawn.copy(), (rows["gpu_model"] == model).to_numpy()
        for k, doubt in at:
            mine[:, k] += doubt * rng.standard_normal(count)
        of_model = Rows.of(law.at_boundary(rows[which].reset_index(drop=True)), law.catalogue)
        columns, slopes = law.law.slopes(law.parameters, of_model)
        for target in TARGETS:
            logs[target][:, which] = mine[:, [names.index(name) for name in columns]] @ slopes[target].T
    doubts = Doubts.of(law, rows)
    first, second = (np.flatnonzero(rows["gpu_model"] == model) for model in NEW)
    for target in TARGETS:
        apart = doubts.slopes[target][first] - doubts.slopes[target][second]
        said = np.sqrt(np.einsum("ij,jk,ik->i", apart, doubts.covariance, apart))
        assert said == pytest.approx((logs[target][:, first] - logs[target][:, second]).std(axis=0), rel=0.03)


def test_a_calibrated_device_is_in_doubt_by_strategy_as_a_whole(law: FittedLaw, inside: pd.DataFrame) -> None:
    rows = inside[inside["gpu_model"] == "Tesla T4"].reset_index(drop=True)
    kind = Doubts.of(replace(law, calibrated=("Tesla T4",)), rows).kinds[1]
    assert (kind.size["energy"] == DISCREPANCY).all()
    pairs = set(zip(kind.code, rows["strategy"], strict=True))
    assert len(pairs) == len(set(kind.code)) == rows["strategy"].nunique()
    assert (Doubts.of(law, rows).kinds[1].size["energy"] == 0).all()


def test_a_law_of_no_trial_is_in_doubt_of_every_device(inside: pd.DataFrame) -> None:
    law = a_priori()
    doubts = Doubts.of(law, inside)
    assert (doubts.own["energy"] > 0).all()
    kind = doubts.kinds[2]
    assert kind.size["duration"] == pytest.approx(UNSEEN_HALF_WIDTH / Z)
    assert len(set(kind.code)) == inside["gpu_model"].nunique()


def test_a_law_without_any_doubt_says_nothing(law: FittedLaw, inside: pd.DataFrame) -> None:
    bare = replace(law, covariance=np.zeros((0, 0)), widths=Widths())
    logs, count = np.zeros(len(inside)), len(inside)
    assert np.isnan(Doubts.of(bare, inside).better(np.array([0]), np.array([1]), logs, shares(count, "energy"))).all()
