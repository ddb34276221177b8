"""What users bring to fit, validate, predict, export and report: a mistake is one message, and nothing is written."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from joulelaw.bench.cli import main
from joulelaw.bench.dataset.measurements import read_measurements
from joulelaw.model.coefficients import load_law, save_law
from joulelaw.model.hardware import Catalogue
from joulelaw.model.laws import fit_law
from tests.bench.factories import DEVICES, GPU_MODEL, synthetic_dataset

RUN = {
    "gpu_model": GPU_MODEL,
    "model_family": "bert",
    "num_layers": 2,
    "hidden_size": 128,
    "num_heads": 2,
    "intermediate_size": 512,
    "vocab_size": 8192,
    "sequence_length": 64,
    "micro_batch_size": 8,
    "grad_accumulation": 1,
    "precision": "fp32",
    "strategy": "single",
    "gpu_count": 1,
    "node_count": 1,
    "micro_steps": 20,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set, one without a valid trial, and laws fitted on the first."""
    home = tmp_path_factory.mktemp("home")
    folder = synthetic_dataset(home / "study")
    (folder / "devices.toml").write_text(DEVICES)
    rows, catalogue = read_measurements([folder]), Catalogue.load([folder / "devices.toml"])
    for name in ("roofline", "reduced_form_post_run"):
        save_law(fit_law(name, rows, catalogue, bootstrap=0), home / f"{name}.json")
    (home / "empty" / "trials").mkdir(parents=True)
    return home


@pytest.fixture
def home(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one message of a command that must refuse its input, and must not write anything."""
    before = sorted(Path().rglob("*"))
    code = main(arguments)
    said = capsys.readouterr()
    content = json.loads(said.out.splitlines()[-1])
    assert (code, content["exit_code"]) == (2, 2), said.err
    assert said.err == content["error"] + "\n"
    assert sorted(Path().rglob("*")) == before
    return str(content["error"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_layers": float("inf")}, "runs.csv row 2: num_layers must be at most 1e+09 (it is inf); correct the"),
        ({"sequence_length": 1e300}, "runs.csv row 2: sequence_length must be at most 1e+09 (it is 1e+300); correct"),
        ({"num_layers": 0}, "runs.csv row 2: num_layers must be at least 1 (it is 0); correct the value"),
        ({"num_layers": float("nan")}, "runs.csv row 2: num_layers is not a number (it is nan); correct the value"),
        ({"num_heads": 7}, "runs.csv row 2: num_heads must divide hidden_size (it is 7); correct the value"),
        ({"node_count": 5}, "runs.csv row 2: node_count must be at most gpu_count (it is 5); correct the value"),
        ({"dropout": "10%"}, "runs.csv row 2: dropout is not a number (it is '10%'); correct the value"),
        ({"dropout": 1.5}, "runs.csv row 2: dropout must be at least 0 and below 1 (it is 1.5); correct the value"),
        ({"power_limit_w": "250 W"}, "runs.csv row 2: power_limit_w is not a number (it is '250 W'); correct"),
        ({"power_limit_w": 0}, "runs.csv row 2: power_limit_w must be a positive number (it is 0.0); correct"),
        ({"link_bytes_per_s": "16 GB/s"}, "runs.csv row 2: link_bytes_per_s is not a number (it is '16 GB/s'); "),
        ({"tensor_parallel": "four"}, "runs.csv row 2: tensor_parallel is not a number (it is 'four'); correct"),
        ({"tensor_parallel": -2}, "runs.csv row 2: tensor_parallel must be at least 1 (it is -2.0); correct the"),
        ({"num_labels": 2.5}, "runs.csv row 2: num_labels must be a whole number (it is 2.5); correct the value"),
        ({"attention": "Eager"}, "runs.csv row 2: attention must be one of sdpa, eager (it is 'Eager'); correct"),
        ({"head": "lm"}, "runs.csv row 2: head must be one of classification, language_model (it is 'lm'); correct"),
        ({"activation_checkpointing": "on"}, "runs.csv row 2: activation_checkpointing is neither true nor false (it"),
        ({"strategy": "fdsp"}, "runs.csv row 2: strategy is unknown, did you mean 'fsdp'? (it is 'fdsp'); correct the"),
        ({"gpu_model": "A100"}, "runs.csv row 2: gpu_model is in no catalogue; close ones are NVIDIA A100-PCIE-40GB"),
        ({"precision": "fp16"}, f"runs.csv row 2: precision is not supported by {GPU_MODEL} (it is 'fp16'); correct"),
    ],
)
def test_a_run_that_cannot_be_is_told_with_file_and_row(
    changed: dict[str, Any], message: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs.csv"
    pd.DataFrame([RUN, RUN | changed]).to_csv(runs, index=False)
    assert refusal(capsys, "predict", "roofline.json", str(runs), "--out", "x.csv").startswith(f"{tmp_path}/{message}")


def test_missing_columns_are_named_beside_all_that_are_needed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs.csv"
    pd.DataFrame([RUN]).drop(columns=["num_layers", "precision"]).to_csv(runs, index=False)
    told = refusal(capsys, "predict", "roofline.json", str(runs), "--out", "x.csv")
    assert told.startswith(f"{runs}: columns missing: num_layers, precision; ")
    assert all(name in told for name in RUN)


def test_the_ending_of_a_table_may_be_in_capitals(home: Path, tmp_path: Path) -> None:
    pd.DataFrame([RUN]).to_csv(tmp_path / "RUNS.CSV", index=False)
    assert main(["predict", "roofline.json", str(tmp_path / "RUNS.CSV"), "--out", str(tmp_path / "OUT.CSV")]) == 0
    assert len(pd.read_csv(tmp_path / "OUT.CSV")) == 1


def test_a_law_that_looks_at_measurements_does_not_forecast(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pd.DataFrame([RUN]).to_csv(tmp_path / "runs.csv", index=False)
    told = refusal(capsys, "predict", "reduced_form_post_run.json", str(tmp_path / "runs.csv"), "--out", "x.csv")
    assert "is a post-run law" in told


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_law_file_with_a_number_that_is_none_is_refused(
    value: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    law = json.loads(Path("roofline.json").read_text())
    law["parameters"]["duration.eta_flop"] = float(value.replace("Infinity", "inf"))
    (tmp_path / "law.json").write_text(json.dumps(law))
    told = refusal(capsys, "export", str(tmp_path / "law.json"), "--format", "csv", "--out", "x.csv")
    assert told.startswith(f"{tmp_path}/law.json: is not a law file: no JSON ({value} is not a number); make one")


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("absent/x.json", "absent/x.json: cannot write: No such file or directory; make the folder first"),
        ("study", "study: cannot write: Is a directory; name a file"),
        ("roofline.json/x.json", "roofline.json/x.json: cannot write: Not a directory; choose another folder"),
    ],
)
@pytest.mark.parametrize(
    "command", [["fit", "study"], ["validate", "study"], ["export", "roofline.json", "--format=json"]]
)
def test_where_the_result_cannot_go_is_told_before_the_work(
    command: list[str],
    out: str,
    message: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for work in ("laws.fit_law", "validation.validate"):
        monkeypatch.setattr(f"joulelaw.model.{work}", None)
    assert refusal(capsys, *command, "--out", out).startswith(message)


@pytest.mark.parametrize("command", [["fit", "empty", "--out", "x.json"], ["validate", "empty"]])
def test_a_data_set_without_a_valid_trial_is_named(
    command: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, *command).startswith("empty: no valid trials; ")


def test_trials_on_shorter_texts_than_the_laws_count_are_left_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    some = synthetic_dataset(tmp_path / "some", short_texts=3)
    assert main(["fit", str(some), "--out", str(tmp_path / "law.json")]) == 0
    said = capsys.readouterr()
    assert "3 of 22 trials left out: their texts were shorter than sequence_length" in said.err
    rows = read_measurements([some])
    full = rows["padded_tokens"] % 64 == 0
    assert json.loads(said.out.splitlines()[-1])["n_trials"] == (full & (rows["split"] == "fit")).sum()
    none = str(synthetic_dataset(tmp_path / "none", short_texts=24))
    assert "22 of 22 trials left out" in refusal(capsys, "validate", none)


def test_a_law_file_that_cannot_be_written_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = load_law(Path("roofline.json"))
    before = sorted(home.rglob("*"))

    def full(path: Path, text: str) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            save_law(fitted, Path("x.json"))
    assert sorted(home.rglob("*")) == before


def test_a_validation_that_is_none_comes_with_a_remedy(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = {"hold_out": "split", "provenance": {"data_hash": ""}, "summaries": [{"law": "roofline"}]}
    for text in ("", "[]", "{}", json.dumps(half), json.dumps(half | {"summaries": "x", "provenance": 1})):
        (tmp_path / "v.json").write_text(text)
        told = refusal(capsys, "report", "study", "--validation", str(tmp_path / "v.json"), "--out", "r.html")
        assert "joulelaw" in told.split("; ")[-1]


@pytest.mark.parametrize("command", [["validate", "unjudged"], ["fit", "unjudged", "--out", "unjudged.json"]])
def test_no_law_is_published_from_trials_without_a_verdict(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = min((synthetic_dataset(Path("unjudged")) / "trials").iterdir())
    table = pq.read_table(path)
    column = table.schema.get_field_index("verdict")
    pq.write_table(table.set_column(column, table.schema.field(column), pa.array([None], pa.string())), path)
    assert f"1 trials have no verdict, first {path.stem}" in refusal(capsys, *command)
