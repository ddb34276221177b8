"""Whether a law holds: the stated rule, against trials whose truth is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from joulelaw.model import calibration
from joulelaw.model.calibration import belief_of, calibrate
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.design import choose
from joulelaw.model.hardware import Catalogue
from joulelaw.model.holds import judge, judged
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw, Rows
from joulelaw.model.laws.roofline_terms import UNMEASURED
from joulelaw.model.tables import check_configurations
from tests.model.synthetic import configurations, measured, truth

CATALOGUE = Catalogue.load()
NEW = "Tesla V100-SXM2-16GB"
TOLERANCE = 1.5
# Off from its data sheet by factors that the law has corrections for.
OFF = {"duration.host[*]": 1.8, "duration.compute[*]": 0.7, "energy.static[*]": 1.9, "energy.dynamic[*]": 1.3}


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """No interval of a coefficient is looked at here."""
    monkeypatch.setattr(calibration, "DRAWS", 10)


@pytest.fixture(scope="module")
def law() -> FittedLaw:
    return fit_law("roofline", measured(CATALOGUE, noise=0.03, seed=1), CATALOGUE, bootstrap=0)


def trials_of(law: FittedLaw, seed: int = 3) -> pd.DataFrame:
    """All configurations as they run on the new machine, with 3 % noise."""
    table = configurations(devices=(NEW,)).assign(boundary="gpu")
    rows = Rows.of(check_configurations(table), CATALOGUE)
    others = {name: 1.0 for name in belief_of(law, NEW).names if name.endswith(f"[{UNMEASURED}]")}
    forecast = truth(CATALOGUE).law.forecast({**truth(CATALOGUE).parameters, **others, **OFF}, rows)
    noise = np.exp(0.03 * np.random.default_rng(seed).standard_normal((2, len(table))))
    told = {"meter": "replay", "meter_kind": "replayed", "verdict": "valid"}
    return table.assign(duration_s=forecast.duration_s * noise[0], energy_j=forecast.energy_j * noise[1], **told)


def without_form(trials: pd.DataFrame) -> pd.DataFrame:
    """A device whose seconds and joules grow with sequence length as no term of the law does: it throttles."""
    worse = (trials["sequence_length"] / 128.0) ** 1.2
    return trials.assign(duration_s=trials["duration_s"] * worse, energy_j=trials["energy_j"] * worse)


def validation_of(trials: pd.DataFrame, seed: int) -> tuple[list[int], pd.DataFrame]:
    """Where four trials drawn at random stand, and the others."""
    drawn = sorted(np.random.default_rng(seed).choice(len(trials), 4, replace=False))
    return drawn, trials.drop(index=drawn).reset_index(drop=True)


def test_a_device_off_from_its_data_sheet_is_brought_in_and_holds(law: FittedLaw) -> None:
    trials = trials_of(law)
    drawn, others = validation_of(trials, 0)
    chosen = choose(law, others, most=4, tolerance=1.0).positions
    after = calibrate(law, others.iloc[list(chosen)])
    found = judge(law, after, trials.iloc[drawn], TOLERANCE)
    assert found.holds
    for target in ("duration", "energy"):
        before, now = found.before[target], found.after[target]
        assert now.n == 4
        assert before.mape > 0.15
        assert now.mape < before.mape / 3
        assert now.coverage == 1.0
        assert now.half_width_factor < before.half_width_factor / 1.5
    rest = after.predict(trials)
    assert trials["energy_j"].between(rest["energy_low_j"], rest["energy_high_j"]).mean() >= 0.95


def test_a_device_that_breaks_the_form_is_told_whatever_was_drawn(law: FittedLaw) -> None:
    """Nine in ten of the draws at least: what four trials cannot show nobody can tell."""
    broken = without_form(trials_of(law))
    told = []
    for seed in range(10):
        drawn, others = validation_of(broken, seed)
        chosen = choose(law, others, most=8, tolerance=1.0).positions
        found = judge(law, calibrate(law, others.iloc[list(chosen)]), broken.iloc[drawn], TOLERANCE)
        assert ("does not hold" in found.verdict) == (found.holds is False)
        told.append(found.holds)
    assert told.count(False) >= 9


def test_a_law_that_holds_is_seldom_called_wrong(law: FittedLaw) -> None:
    """At most a tenth by the rule's own count; of a law that is true, and its intervals wider than its noise, none."""
    verdicts = []
    for seed in range(20):
        trials = trials_of(law, seed)
        drawn, others = validation_of(trials, seed)
        verdicts.append(judge(law, calibrate(law, others.iloc[::14]), trials.iloc[drawn], TOLERANCE).holds)
    assert verdicts.count(True) >= 18


def off(law: FittedLaw, factors: list[float]) -> pd.DataFrame:
    """Trials whose measured energies are these factors of what the law forecasts; seconds as forecast."""
    table = configurations(devices=("Tesla T4",)).head(len(factors))
    forecast = law.predict(table)
    joules, seconds = forecast["predicted_energy_j"] * factors, forecast["predicted_duration_s"]
    return table.assign(energy_j=joules, duration_s=seconds, boundary="gpu")


def test_the_rule_on_its_edges(law: FittedLaw) -> None:
    interval = law.predict(off(law, [1.0]))
    wide = float(np.sqrt(interval["energy_high_j"] / interval["energy_low_j"]).iloc[0])
    assert wide < 1.4
    just_out, within = wide * 1.05, 1 + (wide - 1) / 2
    cases = {
        (within,) * 4: "holds on 4",
        (just_out, 1.0, 1.0, 1.0): "holds on 4",  # one of four: chance has it in 19 %
        (just_out, just_out, 1.0, 1.0): "2 of 4 validation trials lie outside their 95 % interval of energy",
        (3.0, 1.0, 1.0, 1.0): "energy is missed by up to a factor 3.00",  # one alone, but by far
        (1.0,): "cannot be told",
    }
    for factors, told in cases.items():
        verdict = judge(law, law, off(law, list(factors)), TOLERANCE).verdict
        assert told in verdict
        assert ("does not hold" in verdict) == (told not in ("holds on 4", "cannot be told"))
    # What lies within the tolerance is no large miss, however narrow the intervals are.
    narrow = replace(
        law, widths=replace(law.widths, half={**law.widths.half, "case": {"duration": 0.01, "energy": 0.01}})
    )
    assert "missed by" not in judge(narrow, narrow, off(law, [1.2, 0.9, 1.1, 1.0]), TOLERANCE).verdict


def test_what_does_not_hold_stays_outside_in_the_file_too(law: FittedLaw, tmp_path) -> None:
    broken = without_form(trials_of(law))
    after = calibrate(law, broken.iloc[::9])
    found = judge(law, after, broken.iloc[[1, 20, 38, 56]], TOLERANCE)
    save_law(judged(after, found, NEW), tmp_path / "law.json")
    read = load_law(tmp_path / "law.json")
    assert (read.history[-1].holds, read.history[-1].verdict) == (False, found.verdict)
    assert read.history[-1].after == found.after
    assert f"{NEW}: {found.verdict}" in read.notes
    forecast, blind = read.predict(broken), law.predict(broken)
    assert (forecast["extrapolates"] == "gpu_model").all()
    widths = [np.log(each["energy_high_j"] / each["energy_low_j"]).median() for each in (forecast, blind)]
    assert widths[0] > 2 * law.widths.half["gpu_model"]["energy"] * 0.99
    assert (calibrate(law, broken.iloc[::9]).predict(broken)["extrapolates"] == "").all()


def test_a_target_that_was_not_forecast_before_has_no_errors_before(law: FittedLaw) -> None:
    spec = replace(CATALOGUE.get(NEW), name="no limit", aliases=(), power_limit_w=None)
    unlimited = replace(law, catalogue=Catalogue({**law.catalogue.devices, spec.name: spec}))
    trials = trials_of(law).assign(gpu_model="no limit")
    found = judge(unlimited, calibrate(unlimited, trials.iloc[::9]), trials.iloc[[1, 20, 38, 56]], TOLERANCE)
    assert np.isnan(found.before["energy"].mape)
    assert np.isnan(found.before["energy"].coverage)
    assert found.after["energy"].mape < 0.1
    assert found.holds
