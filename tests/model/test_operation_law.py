"""The law operation: exact on what it describes, silent on groups, and a refusal where there are no timings."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.model.coefficients import export_law, load_law, save_law
from joulelaw.model.efficiency_curves import Curve
from joulelaw.model.laws import FittedLaw, Rows, fit_law
from joulelaw.model.operations import FLOP
from joulelaw.model.tables import check_measurements
from joulelaw.model.validation import validate
from tests.model.rows import CATALOGUE, CPU, ROW

PEAK = CPU.peak("fp32")
TRUTH = {
    "qkv_projections": Curve(70, 60, 0.8),
    "attention_scores": Curve(50, 40, 0.7),
    "attention_output": Curve(55, 80, 0.9),
    "final_projection": Curve(65, 90, 0.75),
}
WATTS = {"qkv_projections": 10.0, "attention_scores": 20.0, "attention_output": 30.0, "final_projection": 15.0}
STEPS = 20


def timings(gpu_model: str = CPU.name, precision: str = "fp32") -> pd.DataFrame:
    """Exact timings of each operation over six decades of size."""
    flop = np.geomspace(1e5, 1e11, 15)
    parts = [
        pd.DataFrame({"operation": name, "flop": flop, "duration_s": curve.seconds(flop, PEAK)})
        for name, curve in TRUTH.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(
        gpu_model=gpu_model, precision=precision, model_family="transformer"
    )


def seconds(row: pd.Series, name: str) -> float:
    """An operation in a run, written down from the paper: layers x three passes x micro-steps x c / (v_max h)."""
    B, s, h, L = (float(row[n]) for n in ("micro_batch_size", "sequence_length", "hidden_size", "num_layers"))
    c = {"qkv_projections": 6 * B * s * h**2, "final_projection": 2 * B * s * h**2}.get(name, 2 * B * s**2 * h)
    curve = TRUTH[name]
    percent = curve.h_max * (1 - np.exp(-curve.k * (c / 1e12) ** curve.a))
    return float(L * 3 * STEPS * c / (PEAK * percent / 100))


def trials(noise: float = 0.0) -> pd.DataFrame:
    """Trials whose joules are 5 plus watts x seconds, and whose duration is 0.1 s plus twice the operations'."""
    shapes = [
        {"num_layers": L, "hidden_size": h, "sequence_length": s, "micro_batch_size": B}
        for L in (1, 2, 4)
        for h in (64, 128, 256)
        for s in (32, 64, 128)
        for B in (1, 4)
    ]
    table = pd.DataFrame([ROW | shape | {"micro_steps": STEPS, "boundary": "gpu"} for shape in shapes])
    of_each = pd.DataFrame({name: table.apply(seconds, axis=1, name=name) for name in TRUTH})
    rng = np.random.default_rng(3)
    return table.assign(
        trial_id=[f"t{k}" for k in range(len(table))],
        energy_j=(5 + of_each @ pd.Series(WATTS)) * rng.lognormal(0, noise, len(table)),
        duration_s=(0.1 + 2 * of_each.sum(axis=1)) * rng.lognormal(0, noise, len(table)),
    )


@pytest.fixture(scope="module")
def fitted() -> FittedLaw:
    return fit_law("operation", trials(), CATALOGUE, bootstrap=10, operations=timings())


def test_watts_and_seconds_are_recovered_from_trials_that_the_law_describes(fitted: FittedLaw) -> None:
    for name in FLOP["transformer"]:
        assert fitted.parameters[f"energy.operation[transformer.{name}]"] == pytest.approx(WATTS[name], rel=0.02)
        assert fitted.parameters[f"duration.operation[transformer.{name}]"] == pytest.approx(2.0, rel=0.02)
    assert fitted.parameters["energy.constant[transformer]"] == pytest.approx(5.0, rel=0.02)
    assert fitted.parameters["duration.constant[transformer]"] == pytest.approx(0.1, rel=0.02)


def test_forecasts_equal_the_measured_and_see_nothing_of_them(fitted: FittedLaw) -> None:
    table = trials()
    forecast = fitted.predict(table)
    np.testing.assert_allclose(forecast["predicted_energy_j"], table["energy_j"], rtol=1e-3)
    np.testing.assert_allclose(forecast["predicted_duration_s"], table["duration_s"], rtol=1e-3)
    shuffled = table.assign(energy_j=1.0, duration_s=np.nan)
    pd.testing.assert_frame_equal(fitted.predict(shuffled), forecast)


def test_recomputed_layers_take_a_fourth_pass(fitted: FittedLaw) -> None:
    plain = fitted.predict(trials())["predicted_energy_j"] - 5
    again = fitted.predict(trials().assign(activation_checkpointing=True))["predicted_energy_j"] - 5
    np.testing.assert_allclose(again / plain, 4 / 3, rtol=5e-3)


def test_a_law_file_needs_no_timings(fitted: FittedLaw, tmp_path: Path) -> None:
    save_law(fitted, tmp_path / "law.json")
    loaded = load_law(tmp_path / "law.json", CATALOGUE)
    pd.testing.assert_frame_equal(loaded.predict(trials()), fitted.predict(trials()))
    export_law(loaded, tmp_path / "law.csv", "csv")
    names = pd.read_csv(tmp_path / "law.csv")["name"]
    assert names.str.endswith((".h_max", ".k", ".a")).sum() == 3 * len(TRUTH)


def test_coefficients_are_non_negative_and_identified_where_the_trials_tell(fitted: FittedLaw) -> None:
    linear = [each for each in fitted.coefficients if each.target != "curve"]
    assert len(linear) == 2 * (1 + len(TRUTH))
    assert all(each.value >= 0 and each.identified for each in linear)
    noisy = fit_law("operation", trials(0.05), CATALOGUE, bootstrap=40, operations=timings())
    assert any(not each.identified for each in noisy.coefficients if each.target == "energy")


def test_without_timings_the_law_says_what_it_needs() -> None:
    with pytest.raises(InputError, match="no timings of operations"):
        fit_law("operation", trials(), CATALOGUE)


def test_a_gpu_without_timings_is_refused_by_name() -> None:
    elsewhere = timings("NVIDIA GeForce RTX 2080 Ti")
    with pytest.raises(InputError, match=r"no timings of transformer qkv_projections on 'CPU \(1 core\)' in fp32"):
        fit_law("operation", trials(), CATALOGUE, bootstrap=0, operations=elsewhere)


def test_a_precision_without_timings_is_refused_in_a_forecast(fitted: FittedLaw) -> None:
    with pytest.raises(InputError, match="in bf16"):
        fitted.predict(trials().assign(precision="bf16"))


def test_too_few_sizes_of_an_operation_are_named() -> None:
    few = timings().groupby("operation").head(3)
    with pytest.raises(InputError, match="transformer attention_output on CPU"):
        fit_law("operation", trials(), CATALOGUE, operations=few)


@pytest.mark.parametrize(("column", "value"), [("flop", 0.0), ("duration_s", np.nan), ("duration_s", -1.0)])
def test_a_timing_that_cannot_be_is_refused_with_its_row(column: str, value: float) -> None:
    wrong = timings()
    wrong.loc[2, column] = value
    with pytest.raises(InputError, match=f"row 3.*{column}"):
        fit_law("operation", trials(), CATALOGUE, operations=wrong)


def test_groups_are_left_out_of_the_fit_and_have_no_forecast(fitted: FittedLaw) -> None:
    groups = trials().head(6).assign(gpu_count=2, strategy="ddp", trial_id=[f"g{k}" for k in range(6)])
    both = pd.concat([trials(), groups], ignore_index=True)
    law = fit_law("operation", both, CATALOGUE, bootstrap=0, operations=timings())
    assert any("6 trials on several devices left out" in note for note in law.notes)
    assert law.parameters == fitted.parameters
    forecast = law.predict(both)
    on_groups = (both["gpu_count"] == 2).to_numpy()
    assert forecast["predicted_energy_j"].isna().to_numpy().tolist() == on_groups.tolist()
    assert forecast["extrapolates"][on_groups].str.contains("no forecast").all()
    assert forecast["energy_low_j"][~on_groups].notna().all()


def test_slopes_are_those_of_the_forecast(fitted: FittedLaw) -> None:
    rows = Rows.of(check_measurements(trials()), CATALOGUE)
    names, slopes = fitted.law.slopes(fitted.parameters, rows)
    for name in names:
        target = name.partition(".")[0]
        step = 1e-6 * fitted.parameters[name]
        up, down = (
            fitted.law.forecast({**fitted.parameters, name: fitted.parameters[name] + way}, rows).log(target)
            for way in (step, -step)
        )
        np.testing.assert_allclose(slopes[target][:, list(names).index(name)], (up - down) / (2 * step), rtol=1e-4)


def test_sizes_that_were_not_timed_are_marked(fitted: FittedLaw) -> None:
    small = timings().query("flop < 3e7")
    law = fit_law("operation", trials(), CATALOGUE, bootstrap=0, operations=small)
    marked = law.predict(trials())["extrapolates"] == "operations of sizes not timed"
    largest = 6 * trials()["micro_batch_size"] * trials()["sequence_length"] * trials()["hidden_size"] ** 2
    assert marked.tolist() == (largest > small["flop"].max()).tolist()
    assert marked.any()
    assert not fitted.predict(trials())["extrapolates"].any()
    assert any("outside those timed" in note for note in law.notes)


def test_operations_without_a_term_are_left_out_and_told() -> None:
    more = pd.concat([timings(), timings().head(3).assign(operation="feed_forward")], ignore_index=True)
    law = fit_law("operation", trials(), CATALOGUE, bootstrap=0, operations=more)
    assert any("transformer.feed_forward" in note for note in law.notes)


def test_it_is_validated_like_any_law() -> None:
    result = validate(trials(0.02), CATALOGUE, ["operation"], "case", draws=3, operations=timings(), baselines=False)
    assert result.of("operation", "energy").pooled.r2_log > 0.99
    assert result.of("operation", "duration").pooled.mape < 0.04
