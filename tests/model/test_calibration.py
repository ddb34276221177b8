"""Few-shot calibration: trials of a new device correct the law for it, and leave what was known of the others."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.calibration import belief_of, calibrate
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.design import choose
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline import a_priori, with_corrections
from joulelaw.model.laws.roofline_terms import UNMEASURED
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import DEVICES, configurations, measured, truth

CATALOGUE = Catalogue.load()
NEW = "Tesla V100-SXM2-16GB"
# A new machine with a slow host and a device that draws much at rest, as no data sheet tells.
OWN = {"duration.host[*]": 1.8, "duration.compute[*]": 0.85, "energy.static[*]": 1.9, "energy.dynamic[*]": 1.2}


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE, noise=0.03, seed=1), CATALOGUE, bootstrap=0)


@pytest.fixture(scope="module")
def new_device() -> pd.DataFrame:
    """All configurations as they run on the new machine, with 3 % noise."""
    table = configurations(devices=(NEW,)).assign(boundary="gpu")
    rows = Rows.of(check_configurations(table), CATALOGUE)
    others = {name: 1.0 for name in belief_of(fitted_on_nothing(), NEW).names if name.endswith(f"[{UNMEASURED}]")}
    forecast = truth(CATALOGUE).law.forecast({**truth(CATALOGUE).parameters, **others, **OWN}, rows)
    rng = np.random.default_rng(3)
    noise = np.exp(0.03 * rng.standard_normal((2, len(table))))
    return table.assign(
        duration_s=forecast.duration_s * noise[0],
        energy_j=forecast.energy_j * noise[1],
        meter="replay",
        meter_kind="replayed",
        verdict="valid",
    )


def fitted_on_nothing() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE), CATALOGUE, bootstrap=0)


def errors(law: FittedLaw, table: pd.DataFrame) -> dict[str, float]:
    forecast = law.predict(table)
    return {
        target: float(np.abs(forecast[f"predicted_{target}_{unit}"] / table[f"{target}_{unit}"] - 1).mean())
        for target, unit in (("duration", "s"), ("energy", "j"))
    }


def test_four_chosen_trials_bring_the_law_to_the_new_device(law: FittedLaw, new_device: pd.DataFrame) -> None:
    before = errors(law, new_device)
    assert min(before.values()) > 0.15
    chosen = list(choose(law, new_device, most=4, tolerance=1.0).positions)
    rest = new_device.drop(index=new_device.index[chosen])
    after = errors(calibrate(law, new_device.iloc[chosen]), rest)
    assert max(after.values()) < 0.08


def test_forecasts_for_known_devices_stay_what_they_were(law: FittedLaw, new_device: pd.DataFrame) -> None:
    calibrated = calibrate(law, new_device.iloc[::9])
    known = configurations(devices=DEVICES)
    for column in ("predicted_duration_s", "predicted_energy_j"):
        ratio = calibrated.predict(known)[column] / law.predict(known)[column]
        assert np.abs(np.log(ratio)).max() < 0.03


def test_its_intervals_are_narrower_than_for_an_unmeasured_device_and_hold(
    law: FittedLaw, new_device: pd.DataFrame
) -> None:
    calibrated = calibrate(law, new_device.iloc[[0, 17, 35, 58]])
    blind, after = law.predict(new_device), calibrated.predict(new_device)
    assert (blind["extrapolates"] == "gpu_model").all()
    assert (after["extrapolates"] == "").all()
    width = after["energy_high_j"] / after["energy_low_j"]
    assert width.median() < (blind["energy_high_j"] / blind["energy_low_j"]).median() / 2
    for target, unit in (("duration", "s"), ("energy", "j")):
        measured_values = new_device[f"{target}_{unit}"]
        inside = measured_values.between(after[f"{target}_low_{unit}"], after[f"{target}_high_{unit}"])
        assert inside.mean() >= 0.95


def test_more_trials_correct_further_in_one_go_or_in_two(law: FittedLaw, new_device: pd.DataFrame) -> None:
    first, second = new_device.iloc[[0, 20]], new_device.iloc[[40, 55]]
    at_once = calibrate(law, pd.concat([first, second])).predict(new_device)
    in_turn = calibrate(calibrate(law, first), second).predict(new_device)
    # Linearised in between: equal but for the curvature.
    ratio = in_turn["predicted_duration_s"] / at_once["predicted_duration_s"]
    assert np.abs(np.log(ratio)).max() < 0.05


def test_it_needs_no_other_rows_a_law_file_is_enough(law: FittedLaw, new_device: pd.DataFrame, tmp_path) -> None:
    save_law(law, tmp_path / "law.json")
    some = new_device.iloc[::15]
    again = calibrate(load_law(tmp_path / "law.json"), some)
    save_law(again, tmp_path / "calibrated.json")
    read = load_law(tmp_path / "calibrated.json")
    pd.testing.assert_frame_equal(read.predict(new_device), calibrate(law, some).predict(new_device), rtol=1e-9)
    assert read.calibrated == (NEW,)
    assert f"static_w[{NEW}]" in {c.name for c in read.coefficients}


def test_a_law_of_no_trial_says_nothing_untrue_once_it_is_calibrated(new_device: pd.DataFrame) -> None:
    assumed = with_corrections(a_priori(CATALOGUE))
    assert "nothing was fitted" in "; ".join(assumed.notes)
    law = calibrate(assumed, new_device.iloc[:: len(new_device) // 4][:4])
    assert not [note for note in law.notes if "nothing was fitted" in note]
    assert "what its own trials leave open is assumed" in law.notes[0]
    assert law.notes[1].startswith(f"calibrated for {NEW} on 4 trials")
    assert not law.provenance.energy_is_estimated


def test_what_cannot_be_calibrated_is_refused(law: FittedLaw, new_device: pd.DataFrame) -> None:
    two = pd.concat([new_device.head(2), measured(CATALOGUE).tail(1)])
    with pytest.raises(InputError, match="2 device models"):
        calibrate(law, two)
    with pytest.raises(InputError, match="node_ac"):
        calibrate(law, new_device.head(3).assign(boundary="node_ac"))
    other = fit_law("reduced_form", measured(CATALOGUE), CATALOGUE, bootstrap=0)
    for attempt in (lambda: calibrate(other, new_device.head(3)), lambda: choose(other, new_device)):
        with pytest.raises(InputError, match="reduced_form"):
            attempt()


def test_the_choice_is_blind_to_every_outcome_on_the_new_device(law: FittedLaw, new_device: pd.DataFrame) -> None:
    plain = choose(law, new_device.drop(columns=["duration_s", "energy_j", "meter", "verdict"]))
    assert choose(law, new_device.assign(duration_s=1.0, energy_j=np.arange(1.0, 61.0), verdict="invalid")) == plain


def test_expected_widths_fall_with_every_trial_and_the_choice_stops_at_the_tolerance(
    law: FittedLaw, new_device: pd.DataFrame
) -> None:
    wide = choose(law, new_device, most=6, tolerance=1.0)
    assert len(wide.positions) == len(set(wide.positions)) == 6
    assert not wide.done
    assert (np.diff(wide.energy_factors) < 0).all()
    widest = np.maximum(wide.energy_factors, wide.duration_factors)
    reached = widest[3] * 1.0001
    short = choose(law, new_device, most=6, tolerance=reached)
    assert short.done
    assert short.positions == wide.positions[:3]
    assert choose(law, new_device, tolerance=widest[0] * 1.01).positions == ()


def test_the_choice_goes_on_from_trials_that_have_run(law: FittedLaw, new_device: pd.DataFrame) -> None:
    whole = choose(law, new_device, most=6, tolerance=1.0)
    rest = choose(law, new_device, most=3, tolerance=1.0, run=whole.positions[:3])
    assert rest.positions == whole.positions[3:]
    np.testing.assert_allclose(rest.energy_factors, whole.energy_factors[3:])
    without = choose(law, new_device, most=6, tolerance=1.0, barred=whole.positions[:1])
    assert whole.positions[0] not in without.positions
    assert len(without.positions) == 6
    known = calibrate(law, new_device.iloc[list(whole.positions[:3])])
    moved = choose(law, new_device, most=60, tolerance=1.0, run=whole.positions[:3], known=known)
    assert sorted([*whole.positions[:3], *moved.positions]) == list(range(60))


def test_a_device_without_a_power_limit_is_chosen_for_all_the_same(law: FittedLaw, new_device: pd.DataFrame) -> None:
    spec = replace(CATALOGUE.get(NEW), name="no limit", aliases=(), power_limit_w=None)
    unlimited = replace(law, catalogue=Catalogue({**law.catalogue.devices, spec.name: spec}))
    as_limited = choose(law, new_device, most=4, tolerance=1.0)
    design = choose(unlimited, new_device.assign(gpu_model="no limit"), most=4, tolerance=1.0)
    assert design.positions == as_limited.positions
    np.testing.assert_allclose(design.energy_factors, as_limited.energy_factors)


def test_the_choice_beats_random_ones_by_the_width_it_leaves(law: FittedLaw, new_device: pd.DataFrame) -> None:
    """By the width of calibrated intervals, which the choice forecast without an outcome."""

    def width(at: list[int]) -> float:
        half = calibrate(law, new_device.iloc[at]).predict(new_device)
        return float(np.log(half["energy_high_j"] / half["energy_low_j"]).mean())

    chosen = width(list(choose(law, new_device, most=4, tolerance=1.0).positions))
    rng = np.random.default_rng(0)
    drawn = [width(list(rng.choice(len(new_device), 4, replace=False))) for _ in range(10)]
    assert np.mean([chosen < each for each in drawn]) >= 0.5


def test_a_correction_of_a_new_device_shares_with_others_only_the_mean_of_those_measured(law: FittedLaw) -> None:
    belief = belief_of(law, NEW)
    general, own = (belief.names.index(f"duration.host[{each}]") for each in (UNMEASURED, NEW))
    assert belief.covariance[own, own] == belief.covariance[general, general]
    common = belief.covariance[own, general]
    assert common == pytest.approx(belief.covariance[own, own] - np.log(2.0) ** 2)
    assert np.linalg.eigvalsh(belief.covariance).min() > -1e-9
    with_both = belief_of(replace(law, parameters=law.parameters), DEVICES[0])
    assert len(with_both.names) == len(law.covariance)


def test_trials_that_are_what_the_law_forecasts_move_nothing(law: FittedLaw) -> None:
    table = configurations(devices=(NEW,))
    forecast = law.predict(table)
    as_forecast = table.assign(
        duration_s=forecast["predicted_duration_s"], energy_j=forecast["predicted_energy_j"], boundary="gpu"
    )
    after = calibrate(law, as_forecast.iloc[::11])
    for name, value in law.parameters.items():
        assert after.parameters[name] == pytest.approx(value, rel=1e-6)


def test_the_same_trials_do_not_count_twice(law: FittedLaw, new_device: pd.DataFrame) -> None:
    once = calibrate(law, new_device.head(3))
    with pytest.raises(InputError, match="twice"):
        calibrate(once, new_device.head(3))


def test_what_was_calibrated_is_no_longer_outside(law: FittedLaw, new_device: pd.DataFrame) -> None:
    wide = new_device.head(6).assign(vocab_size=60000)
    assert law.predict(wide)["extrapolates"].str.contains("vocab_size").all()
    assert (calibrate(law, wide).predict(wide)["extrapolates"] == "").all()
