"""joulelaw import: a table from elsewhere becomes a dataset like our own, and says what was checked of it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.bench.dataset.measurements import data_hash, read_measurements, read_trials
from joulelaw.bench.imported.checks import HOST_W
from joulelaw.bench.imported.table import NEEDED, OPTIONAL
from joulelaw.bench.trial.checks import Reason
from joulelaw.model import laws
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts
from tests.bench.factories import new_dataset, synthetic_dataset
from tests.bench.imported_tables import MY_GPU, few_draws, plain_table, refusal, run, written

ROOT = Path(__file__).resolve().parents[2]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few_draws(monkeypatch)


@pytest.mark.parametrize("name", ["theirs.csv", "theirs.parquet"])
def test_what_is_read_back_is_what_the_table_says(name: str, tmp_path: Path, capsys: Capture) -> None:
    table = plain_table()
    code, told, _ = run(capsys, "import", written(tmp_path, table, name), "--into", "d", "--boundary", "node_ac")
    assert (code, told["rows"], told["added"], told["valid"]) == (0, 60, 60, 60)
    back = read_measurements([Path("d")]).set_index("trial_id")
    for column in table.columns.drop("trial_id"):
        assert back.loc[list(table["trial_id"]), column].tolist() == table[column].tolist(), column
    assert set(back["boundary"]) == {"node_ac"}
    assert set(zip(back["meter"], back["meter_kind"], strict=True)) == {("unstated", "stated")}, "nobody measured here"
    assert all(list(reasons) == ["imported"] for reasons in back["reasons"]), "what was checked is said"
    assert back["split"].isna().all()


def test_a_model_may_be_named_in_place_of_its_shape(tmp_path: Path, capsys: Capture) -> None:
    shape = ["model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size"]
    named = plain_table(3).drop(columns=shape).assign(model=["bert-base-uncased", "gpt2", "bert-large-uncased"])
    _, told, _ = run(capsys, "import", written(tmp_path, named), "--into", "d", "--boundary", "gpu")
    assert (told["valid"] + told["invalid"], told["ignored_columns"]) == (3, [])
    back = read_measurements([Path("d")])
    assert back[shape[:4]].to_numpy().tolist() == [["bert", 12, 768, 12], ["gpt2", 12, 768, 12], ["bert", 24, 1024, 16]]
    both = plain_table(1).assign(model="bert-base-uncased")
    _, told, _ = run(capsys, "import", written(tmp_path, both), "--into", "e", "--boundary", "gpu")
    assert told["ignored_columns"] == ["model"], "a shape that is there is not looked up"


def test_a_fit_on_the_import_is_the_fit_on_the_table(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table()
    direct = laws.fit_law("roofline", table.assign(boundary="gpu"), Catalogue.load())
    run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    _, told, _ = run(capsys, "fit", "d", "--out", "law.json")
    assert told["n_trials"] == len(table), "without a split every row is fitted"
    assert told["data_hash"] == direct.provenance.data_hash
    values = {(each["target"], each["name"]): each["value"] for each in told["coefficients"]}
    assert values == {(each.target, each.name): each.value for each in direct.coefficients}


def test_validate_leaves_cases_out_where_no_hold_out_was_drawn_and_says_so(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(36)
    run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    _, told, said = run(capsys, "validate", "d", "--law", "reduced_form")
    assert told["hold_out"] == "case"
    assert "Note: no hold-out was drawn before these trials: cases are left out" in said
    half = table.assign(split=["hold_out" if row % 6 < 3 else "fit" for row in range(len(table))])
    run(capsys, "import", written(tmp_path, half), "--into", "split", "--boundary", "gpu")
    assert run(capsys, "validate", "split", "--law", "reduced_form")[1]["hold_out"] == "split"
    assert "no drawn split" in refusal(capsys, "validate", "d", "--hold-out", "split")


def test_what_follows_an_import_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    table = written(tmp_path, plain_table(36))
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from joulelaw.bench.cli import main;"
    script += "import joulelaw.model.laws as laws, joulelaw.model.validation as v, functools; v.SPREAD_DRAWS = 0;"
    script += "laws.fit_law = functools.partial(laws.fit_law, bootstrap=0); codes = [main(line.split()) for line in ("
    script += f"'import {table} --into d --boundary gpu', 'fit d --out law.json', 'validate d --law reduced_form',"
    script += f"'predict law.json {table} --out forecast.csv', 'export law.json --format csv', 'report d')];"
    script += "print(codes, *sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    codes, _, loaded = ended.stdout.splitlines()[-1].partition("]")
    assert codes == "[0, 0, 0, 0, 0, 0", ended.stderr
    assert not set(loaded.split()) & {"torch", "ray", "deepspeed", "transformers"}


def test_the_same_table_again_adds_nothing_and_another_adds_its_own(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(30)
    first = ("import", written(tmp_path, table[:20]), "--into", "d", "--boundary", "gpu")
    run(capsys, *first)
    before = data_hash(read_measurements([Path("d")]))
    assert run(capsys, *first)[1]["added"] == 0
    assert data_hash(read_measurements([Path("d")])) == before
    _, told, said = run(capsys, "import", written(tmp_path, table, "more.csv"), "--into", "d", "--boundary", "gpu")
    assert (told["added"], len(read_trials(Path("d")))) == (10, 30)
    assert "10 trials added to d, 20 were there already" in said
    origins = json.loads(Path("d/imported.json").read_text())
    assert [(each["file"], each["rows"]) for each in origins] == [("theirs.csv", 20), ("more.csv", 30)]
    assert all(len(each["sha256"]) == 64 for each in origins)


def test_an_id_that_stands_for_another_trial_is_refused_with_both(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(9)
    run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    before = data_hash(read_trials(Path("d")))
    other = table.assign(energy_j=table["energy_j"].where(table.index != 4, 77.0))
    told = refusal(capsys, "import", written(tmp_path, other, "o.csv"), "--into", "d", "--boundary", "gpu")
    assert f"row 5, trial t004: energy_j is 77.0, and there {float(table['energy_j'][4])!r}" in told
    assert "boundary is 'node_ac', and there 'gpu'" in refusal(
        capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "node_ac"
    )
    assert data_hash(read_trials(Path("d"))) == before


def test_a_study_of_our_own_is_not_imported_into(tmp_path: Path, capsys: Capture) -> None:
    synthetic_dataset(tmp_path / "study")
    told = refusal(capsys, "import", written(tmp_path, plain_table(9)), "--into", "study", "--boundary", "gpu")
    assert told.startswith("study: a study of `joulelaw run` is in it; ")


def test_a_study_is_not_begun_among_imported_trials(tmp_path: Path, capsys: Capture) -> None:
    run(capsys, "import", written(tmp_path, plain_table(9)), "--into", "d", "--boundary", "gpu")
    with pytest.raises(InputError, match="d: imported trials are in it; choose another folder with --into"):
        new_dataset(Path("d"))


def test_ambiguous_and_refused_rows_are_kept_and_not_fitted(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(12).assign(ambiguous_steps=[True, *[False] * 11], verdict=["valid", "invalid", *["valid"] * 10])
    code, told, said = run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    assert (code, told["reasons"]) == (0, {"ambiguous_steps": 1, "invalid_at_source": 1}), "the table's own words"
    assert "not certain of the row's number of steps (t000)" in said
    assert len(read_trials(Path("d"))) == 12
    assert set(read_measurements([Path("d")])["trial_id"]) == set(table["trial_id"][2:])


@pytest.mark.parametrize(
    ("boundary", "duration_s", "energy_j", "work", "reason"),
    [
        ("gpu", 1.0, 50.0, 1, ""),
        ("gpu", 1.0, 1000.0, 1, "power_above_limit"),
        ("node_ac", 1.0, 1000.0, 1, ""),  # the host draws as well
        ("node_ac", 1.0, 10000.0, 1, "power_above_limit"),
        ("gpu", 1.0, 50 / 3.6e6, 1, "power_below_idle"),  # kWh in a column of joules
        ("gpu", 1000.0, 50.0, 1, "power_below_idle"),  # ms in a column of seconds
        ("gpu", 1.0, 50.0, 20, "flop_above_peak"),
    ],
)
def test_a_row_that_cannot_be_true_is_kept_as_invalid(
    boundary: str, duration_s: float, energy_j: float, work: float, reason: str, tmp_path: Path, capsys: Capture
) -> None:
    """One T4 (limit 70 W, 65 TFLOP/s in fp16), at a tenth of its peak for a second, and `work` times as much."""
    table = plain_table(6).assign(gpu_model="Tesla T4", strategy="single", gpu_count=1, energy_j=50.0, duration_s=1.0)
    steps = 0.1 * 65e12 / counts(table, Catalogue.load())["flop_per_micro_step"]
    table["micro_steps"] = (steps * np.where(table.index == 2, work, 1)).astype(int)
    table.loc[2, ["duration_s", "energy_j"]] = duration_s, energy_j
    code, told, said = run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", boundary)
    assert told["reasons"] == ({reason: 1} if reason else {}), said
    assert code == (3 if reason else 0)
    assert len(read_trials(Path("d"))) == 6
    assert len(read_measurements([Path("d")])) == (5 if reason else 6)


def test_known_optional_columns_are_kept_and_others_named(tmp_path: Path, capsys: Capture) -> None:
    optional = {"repeats": 3, "parallel_efficiency": 0.9, "energy_net_j": 5.0, "energy_stderr_j": 0.5}
    optional |= {"meter": "wattmeter", "meter_kind": "measured", "link": "PCIe 4 x16", "link_bytes_per_s": 3e10}
    optional |= {"power_limit_w": 60.0, "tensor_parallel": 2, "activation_checkpointing": True, "dropout": 0.0}
    table = plain_table(9).assign(**optional, operator="Ada", notes=None)
    _, told, said = run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    assert told["ignored_columns"] == ["operator", "notes"]
    assert "Columns ignored, as they mean nothing here: 'operator', 'notes'" in said
    back = read_trials(Path("d"))
    for name, value in optional.items():
        assert set(back[name]) == {value}, name


def test_whole_numbers_may_be_written_as_floats(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(9).astype({"gpu_count": float, "micro_steps": float})
    assert run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")[0] == 0
    assert read_trials(Path("d"))["gpu_count"].dtype == "int32"


def test_the_boundary_is_the_tables_or_the_options_and_never_two(tmp_path: Path, capsys: Capture) -> None:
    plain = written(tmp_path, plain_table(9))
    assert "column boundary is missing: say what energy_j covers with --boundary gpu|" in refusal(
        capsys, "import", plain, "--into", "d"
    )
    assert refusal(capsys, "import", plain, "--into", "d", "--boundary", "wall").startswith("--boundary: unknown bound")
    stated = written(tmp_path, plain_table(9).assign(boundary="node_dc"), "stated.csv")
    assert "9 problems" in refusal(capsys, "import", stated, "--into", "d", "--boundary", "gpu")
    assert run(capsys, "import", stated, "--into", "d")[1]["boundaries"] == ["node_dc"]
    assert run(capsys, "import", stated, "--into", "e", "--boundary", "node_dc")[0] == 0
    other = written(tmp_path, plain_table(9).assign(boundary="wall"), "other.csv")
    assert "row 1, trial t000: boundary must be one of gpu, gpu_host_modelled" in refusal(
        capsys, "import", other, "--into", "f"
    )
    assert not Path("f").exists()


def test_a_users_own_devices_travel_with_the_rows_and_the_law(tmp_path: Path, capsys: Capture) -> None:
    table = plain_table(36).assign(gpu_model="My Card 9000")
    (tmp_path / "mine.toml").write_text(MY_GPU)
    mine = written(tmp_path, table)
    assert "gpu_model is in no catalogue" in refusal(capsys, "import", mine, "--into", "d", "--boundary", "gpu")
    run(capsys, "import", mine, "--into", "d", "--boundary", "gpu", "--devices", "mine.toml")
    run(capsys, "import", mine, "--into", "d", "--boundary", "gpu")  # the folder knows it now
    run(capsys, "fit", "d", "--out", "law.json")
    assert run(capsys, "predict", "law.json", mine, "--out", "f.csv")[0] == 0
    (tmp_path / "mine.toml").write_text(MY_GPU.replace("350", "300"))
    told = refusal(capsys, "import", mine, "--into", "d", "--boundary", "gpu", "--devices", "mine.toml")
    assert told.startswith("mine.toml: 'My Card 9000' has other figures than in d/devices.toml; ")


def test_predict_takes_a_device_that_the_law_was_not_fitted_on(tmp_path: Path, capsys: Capture) -> None:
    run(capsys, "import", written(tmp_path, plain_table(36)), "--into", "d", "--boundary", "gpu")
    run(capsys, "fit", "d", "--out", "law.json")
    (tmp_path / "mine.toml").write_text(MY_GPU)
    runs = written(tmp_path, plain_table(9).assign(gpu_model="My Card 9000"), "runs.csv")
    assert "--devices" in refusal(capsys, "predict", "law.json", runs, "--out", "f.csv")
    assert run(capsys, "predict", "law.json", runs, "--out", "f.csv", "--devices", "mine.toml")[0] == 0
    assert pd.read_csv("f.csv")["extrapolates"].str.contains("gpu_model").all()


def test_a_devices_other_names_are_one_device(tmp_path: Path, capsys: Capture) -> None:
    """Two names of one card would count as two in hold-outs."""
    table = plain_table(9)
    table["gpu_model"] = ["A100-SXM4-40GB", *["NVIDIA A100-SXM4-40GB"] * 8]
    _, told, said = run(capsys, "import", written(tmp_path, table), "--into", "d", "--boundary", "gpu")
    assert set(read_trials(Path("d"))["gpu_model"]) == {"NVIDIA A100-SXM4-40GB"}
    assert told["renamed_devices"] == {"A100-SXM4-40GB": "NVIDIA A100-SXM4-40GB"}
    assert "gpu_model 'A100-SXM4-40GB' is kept as 'NVIDIA A100-SXM4-40GB'" in said


TIMING = {
    "gpu_model": "Tesla T4",
    "model_family": "lstm",
    "operation": "input_gating",
    "precision": "fp32",
    "flop": 1e9,
    "duration_s": 1e-3,
    "micro_batch_size": 64,
    "sequence_length": None,
    "hidden_size": 64,
    "input_size": 64,
}


def test_operation_timings_are_kept_beside_the_trials(tmp_path: Path, capsys: Capture) -> None:
    timings = written(tmp_path, pd.DataFrame([TIMING, TIMING | {"flop": 2e9}]), "timings.csv")
    _, told, _ = run(capsys, "import", "--operations", timings, "--into", "d")
    assert told["operations"] == 2
    run(capsys, "import", "--operations", timings, "--into", "d")
    back = pd.concat([pd.read_parquet(path) for path in Path("d/operations").glob("*.parquet")])
    assert back["flop"].tolist() == [1e9, 2e9], "the same file twice is there once"
    assert back["sequence_length"].isna().all()


def test_every_bad_timing_is_named(tmp_path: Path, capsys: Capture) -> None:
    bad = pd.DataFrame(
        [TIMING, TIMING | {"flop": 0}, TIMING | {"gpu_model": "T5"}, TIMING | {"model_family": "rnn"}]
    ).rename(columns={"duration_s": "duration_ms"})
    told = refusal(capsys, "import", "--operations", written(tmp_path, bad, "t.csv"), "--into", "d")
    assert "column duration_s is missing (there is 'duration_ms': give it times 1e-3 as duration_s)" in told
    assert "row 2: flop must be a positive number (it is 0.0)" in told
    assert "row 3: gpu_model is in no catalogue" in told
    assert "row 4: model_family must be one of transformer, lstm, gru (it is 'rnn')" in told
    assert not Path("d").exists()


def test_the_docs_name_every_column_and_every_reason() -> None:
    text = (ROOT / "docs" / "import.md").read_text()
    assert [name for name in (*NEEDED, *OPTIONAL) if f"`{name}`" not in text] == []
    reasons = list(Reason)[list(Reason).index(Reason.INVALID_AT_SOURCE) :]
    assert [reason.value for reason in reasons if f"`{reason.value}`" not in text] == []
    assert f"{HOST_W / 1000:g} kW a node" in text
