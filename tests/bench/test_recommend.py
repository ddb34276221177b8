"""recommend: what it says is what looking at every candidate on its own gives; and what it refuses."""

import itertools
import json
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from joulelaw.bench.cli import main
from joulelaw.bench.recommend.tables import amount
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.intervals import Z
from joulelaw.model.laws import fit_law
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.parallelism import counts
from tests.model.synthetic import measured

pytestmark = pytest.mark.xdist_group("recommend")

USABLE = 0.92  # of a GPU's memory, as docs/recommend.md says
LENGTH, SEQUENCES = 128, 10_000
SMALL = ("--parameters", "4M..120M", "--family", "bert", "--layers", "2,6,12", "--width", "128,512,768")
TRAINING = ("--sequence-length", str(LENGTH), "--dataset-size", str(SEQUENCES))
AXES = (
    "--micro-batch-size",
    "8,32,512",
    "--grad-accumulation",
    "1,4",
    "--gpu-count",
    "1,2,4",
    "--strategy",
    "single,fsdp,tp",
)
# The shapes that SMALL asks for: heads of width 64, an FFN four times as wide; 4.4 to 110 million parameters.
SHAPES = [(layers, width) for layers in (2, 6, 12) for width in (128, 512, 768)]
HOURLY = {"NVIDIA A100-SXM4-40GB": 3.0, "Tesla T4": 0.5}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, catalogue = tmp_path_factory.mktemp("recommend"), Catalogue.load()
    save_law(fit_law("roofline", measured(catalogue, 0.03, most=60), catalogue, bootstrap=0), folder / "narrow.json")
    save_law(fit_law("roofline", measured(catalogue, 0.03), catalogue, bootstrap=0), folder / "law.json")
    return folder


@pytest.fixture(scope="module")
def law(home: Path) -> FittedLaw:
    return load_law(home / "law.json")


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def run(capsys: pytest.CaptureFixture[str], *arguments: str, law: str = "law.json") -> tuple[int, dict[str, Any], str]:
    """Exit code, the last line's JSON, and all that was said."""
    code = main(["recommend", law, *arguments])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, json.loads(said.out.splitlines()[-1]), said.out + said.err


@pytest.fixture(scope="module")
def everything(law: FittedLaw) -> pd.DataFrame:
    """What SMALL and AXES ask for, written out; with what each needs of its device, and its forecast."""
    rows = []
    groups = [("single", 1), ("fsdp", 2), ("fsdp", 4), ("tp", 2), ("tp", 4)]
    batches = itertools.product((8, 32, 512), (1, 4), (False, True))
    for (layers, width), model, (strategy, gpus), (batch, accumulation, again) in itertools.product(
        SHAPES, law.provenance.ranges["gpu_model"], groups, list(batches)
    ):
        heads = width // 64
        if strategy == "tp" and heads % gpus:
            continue
        ranks = gpus if strategy == "fsdp" else 1
        rows.append(
            {
                "gpu_model": model,
                "gpu_count": gpus,
                "node_count": 1,
                "strategy": strategy,
                "model_family": "bert",
                "num_layers": layers,
                "hidden_size": width,
                "num_heads": heads,
                "intermediate_size": 4 * width,
                "vocab_size": 30522,
                "sequence_length": LENGTH,
                "micro_batch_size": batch,
                "grad_accumulation": accumulation,
                "precision": "fp16",
                "activation_checkpointing": again,
                "micro_steps": math.ceil(math.ceil(SEQUENCES / ranks) / batch),
            }
        )
    table = pd.DataFrame(rows)
    needed = counts(table, law.catalogue)["memory_bytes_per_device"]
    usable = [USABLE * law.catalogue.get(model).memory_bytes for model in table["gpu_model"]]
    return table.assign(needed=needed, fits=needed <= usable).join(law.predict(table))


IDENTITY = ["gpu_model", "gpu_count", "strategy", "num_layers", "hidden_size", "micro_batch_size"]
IDENTITY += ["grad_accumulation", "activation_checkpointing"]


def sorted_rows(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values(IDENTITY).reset_index(drop=True)


def test_candidates_memory_and_forecasts_are_those_of_counts_and_predict(
    here: Path, everything: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    code, content, _ = run(capsys, *SMALL, *TRAINING, *AXES, "--out", "all.parquet")
    found, alone = sorted_rows(pd.read_parquet("all.parquet")), sorted_rows(everything[everything["fits"]])
    assert (code, len(found)) == (0, len(alone))
    assert content["left_out"]["memory"] == (~everything["fits"]).sum() > 0
    assert (found[IDENTITY] == alone[IDENTITY]).all().all()
    for name in ("micro_steps", "predicted_energy_j", "energy_high_j", "duration_low_s"):
        assert found[name].to_numpy(float) == pytest.approx(alone[name].to_numpy(float))
    assert found["memory_bytes_per_device"].to_numpy() == pytest.approx(alone["needed"].to_numpy())
    assert (found["extrapolates"] == alone["extrapolates"]).all()
    assert found["num_parameters"].between(4e6, 120e6).all()


def test_the_best_and_the_front_are_those_of_comparing_everything(
    here: Path, everything: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    _, content, _ = run(capsys, *SMALL, *TRAINING, *AXES, "--out", "all.csv")
    alone = everything[everything["fits"]]
    inside = alone[alone["extrapolates"] == ""]
    assert 0 < len(inside) < len(alone)
    order = inside.sort_values("predicted_energy_j")
    best, second = order.iloc[0], order.iloc[1]
    assert {name: content["best"][name] for name in IDENTITY} == {name: best[name] for name in IDENTITY}
    assert content["best"]["predicted_energy_j"] == pytest.approx(best["predicted_energy_j"])
    assert content["next"][0]["predicted_energy_j"] == pytest.approx(second["predicted_energy_j"])
    assert 0.5 <= content["p_first_beats_second"] <= 1
    assert content["p_first_beats_second"] == content["next"][0]["p_best_is_lower"]

    def beaten(row: Any, by: pd.DataFrame) -> bool:
        t, e = by["predicted_duration_s"], by["predicted_energy_j"]
        mine = row["predicted_duration_s"], row["predicted_energy_j"]
        return bool(((t <= mine[0]) & (e <= mine[1]) & ((t < mine[0]) | (e < mine[1]))).any())

    found = pd.read_csv("all.csv", keep_default_na=False)
    of_inside, of_all = found[found["inside"]], found
    for _, row in found.iterrows():
        assert row["on_front"] == (not beaten(row, of_inside if row["inside"] else of_all))
    assert content["front_size"] == found["on_front"].sum()
    assert [each["predicted_duration_s"] for each in content["front"]] == sorted(
        found.loc[found["on_front"], "predicted_duration_s"]
    )


def test_a_deadline_is_kept_with_the_probability_asked_for(
    here: Path, everything: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = everything[everything["fits"] & (everything["extrapolates"] == "")]
    deadline = float(inside["predicted_duration_s"].quantile(0.2))
    for confidence in (0.5, 0.975):
        asked = ("--deadline", f"{deadline}s", "--confidence", str(confidence))
        _, content, _ = run(capsys, *SMALL, *TRAINING, *AXES, *asked)
        # The upper end of a 95 % interval is kept with 97.5 %, the forecast with 50 %.
        end = {0.5: "predicted_duration_s", 0.975: "duration_high_s"}[confidence]
        within = inside[inside[end] <= deadline]
        assert content["best"]["predicted_energy_j"] == pytest.approx(within["predicted_energy_j"].min())
        assert content["best"]["p_within_limits"] >= confidence - 1e-6


def test_limits_that_nothing_keeps_name_the_nearest(
    here: Path, everything: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = everything[everything["fits"] & (everything["extrapolates"] == "")]
    code, content, said = run(capsys, *SMALL, *TRAINING, *AXES, "--deadline", "0.01s")
    assert (code, content["best"], content["within_limits"]) == (1, None, 0)
    spread = np.log(inside["duration_high_s"] / inside["predicted_duration_s"]) / Z
    at_90 = inside["predicted_duration_s"] * np.exp(1.2815515655 * spread)
    assert content["nearest"]["predicted_duration_s"] == pytest.approx(
        inside.loc[at_90.idxmin(), "predicted_duration_s"]
    )
    assert "no candidate keeps the limits" in said


def test_money_and_co2e_go_by_each_gpus_own_price(
    here: Path, everything: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--by", "cost", "--price-per-kwh", "0.3", "--currency", "EUR", "--grid-intensity", "400"]
    for model, price in HOURLY.items():
        asked += ["--price-per-gpu-hour", f"{model}={price}"]
    _, content, said = run(capsys, *SMALL, *TRAINING, *AXES, *asked)
    inside = everything[everything["fits"] & (everything["extrapolates"] == "")]
    hours = inside["predicted_duration_s"] / 3600 * inside["gpu_count"]
    cost = inside["predicted_energy_j"] / 3.6e6 * 0.3 + hours * inside["gpu_model"].map(HOURLY)
    assert content["best"]["cost"] == pytest.approx(cost.min())
    assert content["best"]["cost_low"] < content["best"]["cost"] < content["best"]["cost_high"]
    assert content["best"]["co2e_kg"] == pytest.approx(content["best"]["predicted_energy_j"] / 3.6e6 * 0.4)
    assert "cost, EUR" in said


def test_a_cheaper_candidate_outside_the_ranges_is_told_and_not_preferred(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A law fitted on up to four devices of shapes up to a width of 512: 1024 sequences at once were never seen."""
    wide = (
        "--micro-batch-size",
        "8,32,1024",
        "--gpu-count",
        "1,2",
        "--strategy",
        "single,fsdp",
        "--grad-accumulation",
        "1,2",
    )
    small = ("--parameters", "4M..5M", "--layers", "2", "--width", "128", "--family", "bert", *TRAINING)
    _, content, said = run(capsys, *small, *wide, law="narrow.json")
    assert content["best"]["extrapolates"] == ""
    cheaper = content["cheaper_outside"]
    assert cheaper["predicted_energy_j"] < content["best"]["predicted_energy_j"]
    assert "micro_batch_size 1024 > 32" in cheaper["extrapolates"]
    assert "outside the law's ranges" in said
    assert 0 < cheaper["p_best_is_lower"] < 0.5
    _, kept, _ = run(capsys, *small, *wide, "--inside", law="narrow.json")
    assert kept["best"] == content["best"]
    assert kept["cheaper_outside"] is None
    assert kept["candidates"] == kept["inside_ranges"] == content["inside_ranges"]
    assert kept["left_out"]["outside the law's ranges"] == content["candidates"] - content["inside_ranges"]


def test_with_a_global_batch_every_candidate_takes_as_many_sequences_a_step(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("--model", "bert-base-uncased", *TRAINING, "--gpu-model", "Tesla T4")
    _, _, said = run(capsys, *plain)
    assert "different trainings" in said
    _, content, said = run(
        capsys, *plain, "--global-batch", "48", "--micro-batch-size", "4,8,24", "--out", "equal.parquet"
    )
    assert "different trainings" not in said
    found = pd.read_parquet("equal.parquet")
    assert (found["micro_batch_size"] * found["grad_accumulation"] * found["data_parallel"] == 48).all()
    assert found["data_parallel"].nunique() > 1
    assert content["best"]["num_layers"] == 12
    _, stepped, _ = run(capsys, *plain[:2], "--sequence-length", "128", "--steps", "100", "--global-batch", "48")
    assert stepped["best"]["micro_steps"] == 100 * stepped["best"]["grad_accumulation"]


def test_flags_a_yaml_file_and_a_table_of_candidates_ask_for_the_same(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = ("--model", "bert-base-uncased", *TRAINING)
    flags = ("--gpu-model", "Tesla T4", "--gpu-count", "1,2", "--strategy", "single,fsdp", "--micro-batch-size", "8")
    _, by_flags, _ = run(capsys, *plain, *flags, "--grad-accumulation", "1", "--activation-checkpointing", "no")
    Path("axes.yaml").write_text(
        "gpu_model: Tesla T4\ngpu_count: [1, 2]\nstrategy: [single, fsdp]\nmicro_batch_size: 8\n"
        "grad_accumulation: 1\nactivation_checkpointing: false\n"
    )
    Path("rows.csv").write_text(
        "gpu_model,gpu_count,strategy,micro_batch_size,note\nTesla T4,1,single,8,a\nTesla T4,2,fsdp,8,b\n"
    )
    _, by_yaml, _ = run(capsys, *plain, "--candidates", "axes.yaml")
    _, by_rows, said = run(capsys, *plain, "--candidates", "rows.csv")
    assert by_flags["candidates"] == by_yaml["candidates"] == by_rows["candidates"] == 2
    assert by_flags == by_yaml
    assert by_rows["best"]["predicted_energy_j"] == pytest.approx(by_flags["best"]["predicted_energy_j"])
    assert "not looked at: note" in said


def test_the_example_of_its_page_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/recommend.md").read_text()
    example = page.split("```\n")[1].replace("\\\n", " ")
    code, content, said = run(capsys, *shlex.split(example)[3:])
    assert (code, content["by"], content["best"]["global_batch"]) == (0, "cost", 64), said
    assert {"cost", "cost_low", "cost_high", "average_power_low_w"} <= content["best"].keys()


WRONG = {
    "no model": (TRAINING, "--model: no model"),
    "both": (("--model", "gpt2", "--parameters", "1M..2M", *TRAINING), "both a model and a range"),
    "no data": (("--model", "gpt2", "--sequence-length", "128"), "--dataset-size: missing"),
    "too long": (("--model", "gpt2", "--sequence-length", "2048", "--dataset-size", "9"), "takes at most 1024"),
    "steps alone": (("--model", "gpt2", "--sequence-length", "128", "--steps", "9"), "without a global batch"),
    "by what": (("--model", "gpt2", *TRAINING, "--by", "money"), "one of energy, time, cost, co2e"),
    "no price": (("--model", "gpt2", *TRAINING, "--by", "cost"), "give --price-per-kwh"),
    "no grid": (("--model", "gpt2", *TRAINING, "--max-co2e", "1kg"), "give --grid-intensity"),
    "one price": (
        ("--model", "gpt2", *TRAINING, "--by", "cost", "--price-per-gpu-hour", "Tesla T4=1"),
        "no price for 'NVIDIA A100-SXM4-40GB'",
    ),
    "no price, a currency": (
        ("--model", "gpt2", *TRAINING, "--currency", "EUR"),
        "--currency: a currency without a price",
    ),
    "nothing to pay": (
        ("--model", "gpt2", *TRAINING, "--by", "cost", "--price-per-kwh", "0"),
        "the cost of every candidate is 0",
    ),
    "no unit": (("--model", "gpt2", *TRAINING, "--deadline", "7200"), "'7200' cannot be read"),
    "no GPU": (("--model", "gpt2", *TRAINING, "--gpu-model", "A100"), "unknown device 'A100'"),
    "no strategy": (("--model", "gpt2", *TRAINING, "--strategy", "dp"), "unknown value 'dp'"),
    "no group": (("--model", "gpt2", *TRAINING, "--strategy", "single", "--gpu-count", "2"), "can have 2 devices"),
    "no heads": (("--model", "gpt2", *TRAINING, "--strategy", "tp", "--gpu-count", "8"), "divides neither heads"),
    "no batch": (
        ("--model", "gpt2", *TRAINING, "--global-batch", "7", "--micro-batch-size", "2"),
        "make up 7 sequences",
    ),
    "no shape": (("--parameters", "1k..2k", *TRAINING), "the nearest is bert 2 x 128"),
    "no range": (("--parameters", "1M", *TRAINING), "is no range"),
    "all outside": (("--model", "gpt2", *TRAINING, "--inside"), "candidates lie outside the law's ranges"),
    "no bf16": (
        ("--model", "gpt2", *TRAINING, "--gpu-model", "Tesla T4", "--precision", "bf16"),
        "no device can train",
    ),
    "too large": (
        ("--model", "gpt2-xl", *TRAINING, "--gpu-model", "Tesla T4", "--gpu-count", "1"),
        "fits in memory: the nearest, gpt2-xl, single x1, 1 x 1 sequences, fp16, needs 23.5 GiB",
    ),
    "two places": (("--model", "gpt2", *TRAINING, "--candidates", "a.yaml", "--gpu-count", "1"), "--gpu-count beside"),
    "bad axis": (("--model", "gpt2", *TRAINING, "--candidates", "bad.yaml"), "bad.yaml:2 gpus: unknown key"),
    "bad row": (("--model", "gpt2", *TRAINING, "--candidates", "bad.csv"), "is no count that the strategy can have"),
    "a column": (("--model", "gpt2", *TRAINING, "--candidates", "few.csv"), "columns missing: micro_batch_size"),
    "no attention": (("--model", "gpt2", *TRAINING, "--attention", "flash"), "--attention: unknown value 'flash'"),
    "no power": (("--model", "gpt2", *TRAINING, "--power-limit-w", "-3"), "--power-limit-w: -3 is out of range"),
    "no dropout": (("--model", "gpt2", *TRAINING, "--dropout", "2"), "--dropout: 2 is out of range"),
    "no boundary": (("--model", "gpt2", *TRAINING, "--boundary", "node_ac"), "--boundary: the law has joules of gpu"),
    "out": (("--model", "gpt2", *TRAINING, "--out", "x.xls"), "unknown ending '.xls'"),
}


def test_what_cannot_be_is_one_message_and_exit_code_2(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.yaml").write_text("strategy: fsdp\ngpus: 2\n")
    Path("bad.csv").write_text("gpu_model,gpu_count,strategy,micro_batch_size\nTesla T4,1,fsdp,8\n")
    Path("few.csv").write_text("gpu_model,gpu_count,strategy\nTesla T4,1,single\n")
    for name, (arguments, expected) in WRONG.items():
        code, content, _ = run(capsys, *arguments)
        assert (name, code) == (name, 2)
        assert expected in content["error"]


def test_quantities_are_read_with_their_units() -> None:
    from joulelaw import InputError
    from joulelaw.bench.recommend.quantities import JOULES, KILOGRAMS, SECONDS, quantity, span, whole_numbers

    assert quantity("1h 30min", SECONDS, "x") == 5400
    assert quantity("2.5 kWh", JOULES, "x") == 9e6
    assert quantity("250g", KILOGRAMS, "x") == 0.25
    assert span("50M..1.5B", "x") == (5e7, 1.5e9)
    assert whole_numbers("1, 2,4", "x") == [1, 2, 4]
    for wrong in ("", "h", "2", "-1h", "1h,2", "2 hours", "0s", "1h x"):
        with pytest.raises(InputError):
            quantity(wrong, SECONDS, "x")


def test_energies_are_told_in_the_units_that_predict_tells_them_in() -> None:
    assert amount(2.4e5, "energy") == "66.7 Wh"
    assert amount(9e6, "energy") == "2.50 kWh"
    assert amount(900.0, "energy") == "900 J"
    assert amount(5.0, "cost", "EUR") == "5.00 EUR"
