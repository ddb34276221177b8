"""predict from options: how much training there is, what is told of a run, what is refused, and what a table gets."""

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch.utils.data import BatchSampler, DistributedSampler

from joulelaw.bench.cli import main
from joulelaw.bench.commands.run_options import flag
from joulelaw.bench.forecast.boundaries import boundary_warnings
from joulelaw.bench.forecast.extrapolation import extrapolations
from joulelaw.bench.forecast.training import Training
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from tests.bench.imported_tables import refusal, run
from tests.model.synthetic import measured

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = Catalogue.load()
RUN = (
    "--model bert-base-uncased --gpu-model 'Tesla T4' --gpu-count 4 --strategy fsdp --micro-batch-size 16 "
    "--sequence-length 128 --precision fp16 --dataset-size 10000 --epochs 3"
)
PRICES = "--price-per-kwh 0.30 --price-per-gpu-hour 2.5 --currency EUR --grid-intensity 380"


def words(*lines: str) -> list[str]:
    return ["predict", "law.json", *(word for line in lines for word in shlex.split(line))]


@pytest.fixture(scope="module")
def laws(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """law.json of GPUs' joules, two.json of those and of whole nodes that draw 300 W more."""
    home = tmp_path_factory.mktemp("laws")
    gpu = measured(CATALOGUE, 0.02)
    node = gpu.assign(
        trial_id=gpu["trial_id"] + "n", boundary="node_ac", energy_j=gpu["energy_j"] + 300 * gpu["duration_s"]
    )
    save_law(fit_law("roofline", gpu, CATALOGUE, bootstrap=0), home / "law.json")
    both = pd.concat([gpu, node], ignore_index=True)
    save_law(fit_law("roofline", both, CATALOGUE, bootstrap=0, allow_mixed_meters=True), home / "two.json")
    return home


@pytest.fixture
def home(laws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for law in laws.glob("*.json"):
        (tmp_path / law.name).write_bytes(law.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def law(laws: Path) -> FittedLaw:
    return load_law(laws / "law.json")


def test_micro_steps_are_those_that_pytorchs_samplers_give() -> None:
    for size, ranks, batch in ((1000, 1, 16), (1000, 8, 16), (17, 4, 8), (3, 8, 2), (4096, 2, 64)):
        sampler = DistributedSampler(range(size), num_replicas=ranks, rank=0)  # type: ignore[arg-type,var-annotated]
        batches = len(BatchSampler(sampler, batch, drop_last=False))
        training = Training(dataset_size=size, epochs=3)
        assert training.micro_steps(batch, 1, ranks) == 3 * batches
        for k in (1, 4):
            steps = sum(1 for at in range(batches) if (at + 1) % k == 0 or at + 1 == batches)  # as the Trainer steps
            assert training.optimizer_steps(batch, k, ranks) == 3 * steps
    assert Training(dataset_size=1000, epochs=0.5).micro_steps(16, 1, 1) == 32  # of 63 a epoch
    assert Training(steps=100).micro_steps(16, 8, 2) == 800
    assert list(Training(dataset_size=100, epochs=0.1).micro_steps([1, 10], 1, [1, 2])) == [10, 1]


def test_one_run_from_options_is_the_tables_row(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, content, said = run(capsys, *words(RUN, PRICES, "--out one.parquet"))
    assert code == 0, said
    one = pd.read_parquet("one.parquet")
    asked = content["run"]
    assert asked["micro_steps"] == 3 * np.ceil(10000 / 4 / 16)
    assert content["optimizer_steps"] * content["sequences_per_step"] >= 30000
    pd.DataFrame([asked] * 3).assign(energy_j=-1.0).to_csv("runs.csv", index=False)
    run(capsys, *words(f"runs.csv --out many.parquet {PRICES}"))
    many = pd.read_parquet("many.parquet")
    pd.testing.assert_frame_equal(many.loc[[2], one.columns].reset_index(drop=True), one, check_dtype=False)
    assert content["forecast"] == {name: one[name].item() for name in content["forecast"]}
    assert set(content["forecast"]) | set(content["run"]) == set(one.columns)


def test_a_table_gets_the_amount_of_training_that_options_say(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, content, _ = run(capsys, *words(RUN))
    rows = [
        content["run"] | {"strategy": name, "gpu_count": count}
        for name, count in (("fsdp", 4), ("single", 1), ("tp", 4), ("fsdp_tp", 4), ("ddp", 2))
    ]
    pd.DataFrame(rows).drop(columns=["micro_steps", "tensor_parallel"]).to_csv("runs.csv", index=False)
    run(capsys, *words("runs.csv --out out.csv --dataset-size 10000 --epochs 3"))
    told = pd.read_csv("out.csv")
    assert list(told["micro_steps"]) == [471, 1875, 1875, 939, 939]
    assert list(told["average_power_w"]) == pytest.approx(
        list(told["predicted_energy_j"] / told["predicted_duration_s"])
    )
    assert "cost" not in told
    assert "say --dataset-size (and --epochs) or --steps" in refusal(capsys, *words("runs.csv --out out.csv"))
    assert "--gpu-count: an option of one run" in refusal(capsys, *words("runs.csv --out out.csv --gpu-count 2"))
    assert "--out: missing" in refusal(capsys, *words("runs.csv"))
    pd.DataFrame(rows).assign(strategy="fdsp").to_csv("wrong.csv", index=False)
    assert "did you mean 'fsdp'?" in refusal(capsys, *words("wrong.csv --out out.csv --steps 5"))


def test_a_table_may_name_models_and_leave_out_what_is_one(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same forecast as from the columns of the shape; shown to people, too."""
    _, content, _ = run(capsys, *words(RUN))
    one = pd.DataFrame([content["run"]]).drop(columns="micro_steps")
    one.to_csv("whole.csv", index=False)
    shape = ["model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size"]
    short = one.drop(columns=[*shape, "node_count", "grad_accumulation"]).assign(model="bert-base-uncased")
    short.to_csv("short.csv", index=False)
    run(capsys, *words("whole.csv --out whole.parquet --dataset-size 10000 --epochs 3"))
    main([*words("short.csv --out short.parquet --dataset-size 10000 --epochs 3")])
    told = capsys.readouterr()
    assert "has no column node_count, grad_accumulation: 1 in every row" in told.err
    assert "bert-base-uncased s128 B16" in told.out
    whole, named = pd.read_parquet("whole.parquet"), pd.read_parquet("short.parquet")
    pd.testing.assert_frame_equal(named[whole.columns], whole)
    short.assign(model="roberta-base").to_csv("other.csv", index=False)
    assert "other.csv row 1: roberta-base is by its name a roberta model" in refusal(
        capsys, *words("other.csv --out out.csv --steps 5")
    )


def test_figures_follow_from_energy_and_time_by_hand(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, content, said = run(capsys, *words(RUN, PRICES))
    found = content["forecast"]
    for end in ("", "_low", "_high"):
        joules = found[f"energy{end}_j" if end else "predicted_energy_j"]
        seconds = found[f"duration{end}_s" if end else "predicted_duration_s"]
        cost = joules / 3.6e6 * 0.30 + 4 * seconds / 3600 * 2.5
        assert found[f"cost{end}"] == pytest.approx(cost)
        assert found[f"co2e{end}_kg"] == pytest.approx(joules / 3.6e6 * 0.380)
        assert found["average_power_low_w"] < found["average_power_w"] < found["average_power_high_w"]
    assert found["average_power_w"] == pytest.approx(found["predicted_energy_j"] / found["predicted_duration_s"])
    # Errors that go together: narrower than the ends of both allow.
    assert found["average_power_high_w"] < 0.98 * found["energy_high_j"] / found["duration_low_s"]
    for told in ("EUR", "CO2e", "gross, of boundary gpu: the GPUs", "95 % interval", "fits in the"):
        assert told in said
    assert (content["energy_is"], content["interval_level"], found["extrapolates"]) == ("gross", 0.95, "")
    assert content["warnings"] == [
        "joules are of boundary gpu: the GPUs alone, without the host (CPUs, memory, fans, power supplies)"
    ]


def test_how_far_a_run_lies_outside_is_told_axis_by_axis(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = RUN.replace("fp16", "bf16").replace("Tesla T4", "NVIDIA A100-SXM4-80GB").replace("count 4", "count 8")
    _, content, said = run(capsys, *words(outside))
    found = {each["axis"]: each for each in content["extrapolations"]}
    assert found["gpu_model"]["fitted"] == ["NVIDIA A100-SXM4-40GB", "Tesla T4"]
    assert (found["gpu_count"]["value"], found["gpu_count"]["factor"]) == (8.0, 2.0)
    assert "Warning: extrapolates: gpu_count 8, fitted on 1 to 4: 2.00 x the largest" in said
    assert "precision bf16: fitted on fp16 alone" in said
    for axis in found:
        assert axis in content["forecast"]["extrapolates"]


def test_words_of_extrapolation_keep_what_only_a_law_knows() -> None:
    ranges = {"num_layers": [2, 24], "torch_compile": ["False"]}
    told = extrapolations("num_layers 1 < 2; torch_compile; curve of lstm beyond its timings", {}, ranges)
    assert [each.axis for each in told] == ["num_layers", "torch_compile", ""]
    assert told[0].factor == 0.5
    assert told[2].text == "curve of lstm beyond its timings"


def test_of_several_boundaries_one_is_chosen(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = [word if word != "law.json" else "two.json" for word in words(RUN)]
    told = refusal(capsys, *two)
    assert "--boundary: the law has joules of gpu and of node_ac; one of gpu, node_ac" in told
    joules, power = {}, {}
    for boundary in ("gpu", "node_ac"):
        _, content, said = run(capsys, *two, "--boundary", boundary)
        assert content["forecast"]["boundary"] == boundary
        assert ("without the host" in said) == (boundary == "gpu")
        joules[boundary], power[boundary] = (
            content["forecast"][name] for name in ("predicted_energy_j", "average_power_w")
        )
    assert power["node_ac"] - power["gpu"] == pytest.approx(300, rel=0.1)
    assert "not of node_dc" in refusal(capsys, *two, "--boundary", "node_dc")
    pd.DataFrame([content["run"]]).drop(columns="boundary", errors="ignore").to_csv("runs.csv", index=False)
    run(capsys, "predict", "two.json", "runs.csv", "--out", "out.csv", "--boundary", "gpu")
    assert pd.read_csv("out.csv")["predicted_energy_j"].item() == pytest.approx(joules["gpu"])


def test_joules_that_no_meter_measured_are_said_to_be_none(law: FittedLaw) -> None:
    def said(**origin: Any) -> str:
        return "; ".join(boundary_warnings("node_ac", replace(law.provenance, **origin)))

    assert said(meters=(("nvml", "measured"),)) == ""
    assert "joules are estimated" in said(meters=(("estimate", "estimated"),))
    mixed = said(meters=(("estimate", "estimated"), ("nvml", "measured")))
    assert "some of this law's trials are estimated (estimate)" in mixed
    assert "2 meters are taken together" in mixed
    assert "a table that names no meter (unstated)" in said(meters=(("unstated", "stated"),))
    assert "joules are assumed" in said(meters=(), n_trials=0)


def test_a_run_that_fits_no_device_is_forecast_with_a_warning(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    large = RUN.replace("bert-base-uncased", "gpt2-xl").replace("fsdp", "ddp")
    code, content, said = run(capsys, *words(large))
    assert (code, content["memory"]["fits"]) == (0, False)
    assert "Warning: does not fit: " in said
    assert content["memory"]["usable_bytes"] < CATALOGUE.get("Tesla T4").memory_bytes


def test_a_table_says_what_one_run_says(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the joules are of, that they are assumed, what does not fit, and watts that no device can draw."""
    _, content, _ = run(capsys, *words(RUN))
    usual = content["run"]
    large = usual | {"micro_batch_size": 512}
    weak = usual | {"power_limit_w": 1.0}
    pd.DataFrame([usual | {"power_limit_w": 70.0}, large | {"power_limit_w": 70.0}, weak]).to_csv(
        "runs.csv", index=False
    )
    _, content, said = run(capsys, *words("runs.csv --out out.csv"))
    assert content["warnings"] == [
        "1 of 3 runs do not fit in the memory of their devices (memory_share above 1)",
        "1 of 3 runs draw more on average than their devices may (power_limits_w): energy or time is off",
        "joules are of boundary gpu: the GPUs alone, without the host (CPUs, memory, fans, power supplies)",
    ]
    assert all(f"Warning: {each}" in said for each in content["warnings"])
    assert (content["energy_is_estimated"], content["boundaries"]) == (False, ["gpu"])
    out = pd.read_csv("out.csv")
    assert list(out["memory_share"] > 1) == [False, True, False]
    assert list(out["power_limits_w"]) == [280, 280, 4]
    _, content, said = run(capsys, "predict", "default", "runs.csv", "--out", "out.csv")
    assert "joules are assumed, from data sheets: no trial stands behind them" in said
    assert content["energy_is_estimated"] is True


def test_power_beyond_what_the_devices_may_draw_is_warned_of(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, content, said = run(capsys, *words(RUN, "--power-limit-w 1"))
    assert content["forecast"]["average_power_w"] > content["forecast"]["power_limits_w"] == 4
    assert "Warning: average power is above the 4.00 W that the devices may draw" in said
    _, content, said = run(capsys, "predict", "default", *words(RUN)[2:])
    found = content["forecast"]
    assert found["average_power_w"] < found["power_limits_w"] == 4 * 70 < found["average_power_high_w"]
    assert "Warning: the upper end of average power is above the 280 W that the devices may draw" in said
    assert "may draw" not in run(capsys, *words(RUN))[2]


def test_a_table_to_forecast_may_have_spaces_behind_its_commas(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs.csv").write_text(
        "model, gpu_model, gpu_count, strategy, micro_batch_size, sequence_length, precision\n"
        "bert-base-uncased, Tesla T4, 4, fsdp, 16, 128, fp16 \n"
    )
    _, one, _ = run(capsys, *words(RUN))
    run(capsys, *words("runs.csv --out out.csv --dataset-size 10000 --epochs 3"))
    joules = pd.read_csv("out.csv")["predicted_energy_j"].item()
    assert joules == pytest.approx(one["forecast"]["predicted_energy_j"])
    text = Path("runs.csv").read_text()
    Path("twice.csv").write_text(text.replace("precision", "strategy "))
    assert "columns there twice: 'strategy'" in refusal(capsys, *words("twice.csv --out out.csv --steps 5"))
    Path("long.csv").write_text(text.replace("128", "1024"))
    assert "long.csv row 1: 1024 tokens, and bert-base-uncased has 512 positions" in refusal(
        capsys, *words("long.csv --out out.csv --steps 5")
    )


def test_nodes_without_a_networks_speed_are_warned_of(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no network_bytes_per_s" in run(capsys, *words(RUN, "--node-count 2"))[2]
    assert "no network_bytes_per_s" not in run(capsys, *words(RUN, "--node-count 2 --network-bytes-per-s 12.5e9"))[2]


NONSENSE = {
    "--gpu-count 0": "--gpu-count: 0 is out of range",
    "--gpu-model A100": "--gpu-model: unknown device 'A100'; close ones are NVIDIA A100",
    "--strategy tp --gpu-count 5": "--gpu-count: a tensor-parallel degree of 5 does not divide 12 heads",
    "--strategy fsdp_tp --tensor-parallel 3": "--gpu-count: a gpu_count of 4 does not divide into groups of 3",
    "--strategy fdsp": "--strategy: unknown value 'fdsp'; did you mean 'fsdp'?",
    "--strategy single": "--gpu-count: 4, and single trains on one",
    "--tensor-parallel 2": "--tensor-parallel: a degree, but not strategy fsdp_tp",
    "--precision bf16": "--precision: Tesla T4 cannot train in bf16; one of fp32, fp16",
    "--precision fp8": "--precision: unknown value 'fp8'",
    "--sequence-length 1024": "--sequence-length: 1024 tokens, and bert-base-uncased has 512 positions",
    "--micro-batch-size -1": "--micro-batch-size: -1 is out of range",
    "--node-count 3": "--node-count: a gpu_count of 4 does not spread evenly over 3 nodes",
    "--model roberta-base": "--model: roberta-base is by its name a roberta model",
    "--steps 5": "--dataset-size: both sequences and steps",
    "--epochs -1": "--epochs: -1 is out of range",
    "--epochs nan": "--epochs: nan is out of range",
    "--dataset-size 1e3": "Invalid value for '--dataset-size'",
    "--dataset-size 999999999999 --epochs 1000": "--steps: 15625000000000 micro-steps a rank",
    "--dropout 1": "--dropout: 1 is out of range",
    "--power-limit-w 0": "--power-limit-w: 0 is out of range",
    "--price-per-kwh -0.3": "--price-per-kwh: -0.3 is out of range; 0 or more",
    "--grid-intensity nan": "--grid-intensity: nan is out of range",
    "--currency EUR": "--currency: a currency without a price",
    "--boundary node_ac": "--boundary: the law has joules of gpu, not of node_ac",
    "--out one.txt": "one.txt: unknown ending '.txt'",
    "--torch-compile --strategy zero3": "--torch-compile: DeepSpeed gathers parameters",
}


def test_nonsense_is_refused_under_the_options_own_name(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for changed, told in NONSENSE.items():
        assert told in refusal(capsys, *words(RUN, changed)), changed
    told = refusal(capsys, *words("--gpu-count 2"))
    for name in ("model", "gpu_model", "strategy", "micro_batch_size", "sequence_length", "precision", "dataset_size"):
        assert f"{flag(name)}: missing" in told


def test_a_forecast_by_model_name_loads_neither_torch_nor_ray(home: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from joulelaw.bench.cli import main;"
    script += f"print(main({words(RUN, PRICES)!r})); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=home)
    code, loaded = done.stdout.splitlines()[-2:]
    assert code == "0"
    assert "joulelaw.bench.forecast.told" in loaded.split()
    assert not set(loaded.split()) & {
        "torch",
        "ray",
        "deepspeed",
        "transformers",
        "huggingface_hub",
        "pynvml",
        "psutil",
    }
