"""The shares of a forecast add up to it, and are what the formula's own terms say."""

import numpy as np
import pandas as pd
import pytest

from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import law_named
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import a_priori
from joulelaw.model.laws.roofline_parts import MEANINGS, PARTS, shares
from tests.model.rows import ROW

SMALL = {"num_layers": 2, "hidden_size": 128, "num_heads": 2, "intermediate_size": 512, "sequence_length": 64}
GPU = "NVIDIA A100-SXM4-40GB"
LARGE = {"num_layers": 24, "hidden_size": 1024, "num_heads": 16, "intermediate_size": 4096, "sequence_length": 512}


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return pd.DataFrame(
        [
            ROW | {"gpu_model": GPU, "strategy": strategy, "gpu_count": count, "micro_steps": 10} | size
            for strategy, count in (("single", 1), ("ddp", 4), ("fsdp", 2), ("tp", 2), ("zero2", 4))
            for size in (SMALL, LARGE)
        ]
    ).assign(boundary="gpu", trial_id=[str(k) for k in range(10)])


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return a_priori(Catalogue.load())


def changed(law: FittedLaw, runs: pd.DataFrame, target: str, **factors: float) -> "pd.Series[float]":
    """The forecast with some coefficients multiplied."""
    parameters = law.parameters | {f"{target}.{n}": law.parameters[f"{target}.{n}"] * f for n, f in factors.items()}
    known = Rows.of(law.at_boundary(runs), law.catalogue).pre_run()
    forecast = law.law.forecast(parameters, known)
    return pd.Series(forecast.duration_s if target == "duration" else forecast.energy_j)


def test_shares_add_up(law: FittedLaw, runs: pd.DataFrame) -> None:
    for target, parts in shares(law, runs).items():
        assert parts.sum(axis=1).to_numpy() == pytest.approx(np.ones(len(runs)), abs=1e-12)
        assert (parts >= 0).all(axis=None)
        assert set(parts) <= set(PARTS[target]) == set(MEANINGS[target])
    assert "host" not in shares(law, runs)["energy"], "the boundary is the devices alone"


def test_a_part_of_the_energy_is_what_goes_without_its_coefficient(law: FittedLaw, runs: pd.DataFrame) -> None:
    whole = changed(law, runs, "energy")
    for part, (name, *_) in PARTS["energy"].items():
        if part != "host":
            without = changed(law, runs, "energy", **{name: 1e-12})
            assert shares(law, runs)["energy"][part].to_numpy() == pytest.approx(
                (1 - without / whole).to_numpy(), abs=1e-9
            )


def test_the_link_hides_behind_nothing_so_its_share_is_what_goes_without_it(law: FittedLaw, runs: pd.DataFrame) -> None:
    whole = changed(law, runs, "duration")
    without = changed(law, runs, "duration", eta_link=1e12, collective_s=1e-12)
    shown = shares(law, runs)["duration"]["communication"].to_numpy()
    assert shown == pytest.approx((1 - without / whole).to_numpy(), abs=1e-9)
    assert shown[0] == 0
    assert shown.max() > 0.05


def test_what_is_hidden_counts_as_little_as_it_matters(law: FittedLaw, runs: pd.DataFrame) -> None:
    """Of a large model on one device, launches run ahead of the device: their share is far below their seconds."""
    duration = shares(law, runs)["duration"]
    small, large = duration.iloc[0], duration.iloc[1]
    assert small["host"] > 0.8
    assert large["arithmetic"] > 0.6
    assert large["host"] < 0.1


def test_other_laws_have_no_such_parts(law: FittedLaw, runs: pd.DataFrame) -> None:
    other = FittedLaw(law_named("reduced_form"), {}, (), law.provenance, law.catalogue)
    assert shares(other, runs) == {}
