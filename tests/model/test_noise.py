"""The noise floor is the noise that was put in, and knows when it cannot tell."""

import numpy as np
import pandas as pd
import pytest

from joulelaw.model.hardware import Catalogue
from joulelaw.model.noise import FEWEST, neighbour_differences, noise_floor, repeat_differences
from tests.model.synthetic import configurations, measured

CATALOGUE = Catalogue.load()


def series(points: int, noise: float, seed: int = 0) -> pd.DataFrame:
    """One shape at many sequence lengths close to each other; energy a power law of it."""
    base = configurations(most=1)
    table = pd.concat([base] * points, ignore_index=True)
    lengths = np.round(np.geomspace(64, 4096, points)).astype(int)
    rng = np.random.default_rng(seed)
    energy = 3.0 * lengths**0.8 * np.exp(noise * rng.standard_normal(points))
    return table.assign(sequence_length=lengths, energy_j=energy, duration_s=lengths**1.1, boundary="gpu")


def test_repeats_give_the_noise_back_and_their_degrees_of_freedom() -> None:
    tables = [measured(CATALOGUE, noise=0.05, seed=seed) for seed in range(3)]
    table = pd.concat(tables, ignore_index=True)
    floor = next(f for f in noise_floor(table) if f.target == "energy")
    assert (floor.method, floor.n) == ("repeats", 2 * len(tables[0]))
    assert floor.sigma == pytest.approx(0.05, rel=0.1)
    assert floor.sigma_robust == pytest.approx(0.05, rel=0.2)
    assert floor.mape == pytest.approx(
        np.mean(np.abs(np.random.default_rng(0).normal(0, floor.sigma, 10**6))), rel=0.01
    )


def test_the_pooled_spread_of_repeats_is_that_of_the_textbook() -> None:
    table = pd.concat([configurations(most=2)] * 3, ignore_index=True)
    values = np.array([1.0, 5.0, 1.3, 5.2, 1.1, 5.9])
    differences, n = repeat_differences(table, values)
    within = [np.var(values[k::2], ddof=1) for k in range(2)]
    assert n == 4
    assert np.mean(differences**2) == pytest.approx(np.mean(within))


def test_neighbours_give_the_noise_back_without_a_single_repeat() -> None:
    found = {f.target: f for f in noise_floor(series(300, 0.03))}
    assert found["energy"].method == "neighbours"
    assert found["energy"].sigma == pytest.approx(0.03, rel=0.1)


def test_a_power_law_without_noise_has_no_noise() -> None:
    differences, n = neighbour_differences(series(40, 0.0), np.log(series(40, 0.0)["energy_j"].to_numpy()))
    assert n > FEWEST
    np.testing.assert_allclose(differences, 0.0, atol=1e-9)


def test_neighbours_that_differ_in_anything_else_or_lie_far_apart_are_not_compared() -> None:
    table = series(40, 0.0)
    values = np.log(table["energy_j"].to_numpy())
    assert neighbour_differences(table.assign(gpu_count=np.arange(40) + 1), values)[1] == 0
    assert neighbour_differences(table[::8].reset_index(drop=True), values[::8])[1] == 0
    assert neighbour_differences(table.assign(dropout=np.arange(40) / 100), values)[1] == 0


@pytest.mark.parametrize(
    ("column", "of_one", "of_other"),
    [
        ("power_limit_w", 250.0, 400.0),
        ("tensor_parallel", 1, 2),
        ("link", "pcie", "nvlink"),
        ("link_bytes_per_s", 16e9, 300e9),
        ("network_bytes_per_s", 1.25e9, 25e9),
    ],
)
def test_rows_under_another_setting_of_the_machine_are_neither_repeats_nor_neighbours(
    column: str, of_one: object, of_other: object
) -> None:
    twice = pd.concat([configurations(most=20)] * 2, ignore_index=True)
    assert repeat_differences(twice, np.zeros(40))[1] == 20
    assert repeat_differences(twice.assign(**{column: [of_one] * 20 + [of_other] * 20}), np.zeros(40))[1] == 0
    three = pd.concat([configurations(most=1)] * 3, ignore_index=True).assign(sequence_length=[64, 96, 128])
    assert neighbour_differences(three, np.zeros(3))[1] == 1
    assert neighbour_differences(three.assign(**{column: [of_one, of_other, of_one]}), np.zeros(3))[1] == 0


def test_a_wider_model_with_as_many_more_heads_is_a_neighbour_and_one_with_other_heads_is_none() -> None:
    base = pd.concat([configurations(most=1)] * 3, ignore_index=True)
    wide = base.assign(hidden_size=[512, 640, 768], num_heads=[8, 10, 12], intermediate_size=[2048, 2560, 3072])
    assert neighbour_differences(wide, np.zeros(3))[1] == 1
    assert neighbour_differences(wide.assign(num_heads=[8, 20, 12]), np.zeros(3))[1] == 0


def test_a_table_that_says_nothing_of_its_noise_gives_no_number() -> None:
    assert noise_floor(measured(CATALOGUE, most=3)) == ()


def test_the_noise_of_a_table_is_the_same_for_runs_of_any_length() -> None:
    table = series(60, 0.03)
    factor = np.random.default_rng(1).integers(1, 9, 60)
    longer = table.assign(micro_steps=table["micro_steps"] * factor, energy_j=table["energy_j"] * factor)
    short, long = (next(f for f in noise_floor(t) if f.target == "energy") for t in (table, longer))
    assert long.sigma == pytest.approx(short.sigma)
