"""The command line: exit codes, one JSON object at the end, a light start, help with examples that work."""

import datetime
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from joulelaw import InputError
from joulelaw.bench import installed
from joulelaw.bench.cli import COMMANDS, main
from joulelaw.bench.commands.examples import EXAMPLES
from joulelaw.bench.console import duration, last_line, number
from joulelaw.bench.study import study as sweep
from joulelaw.cluster.failures import ClusterError
from joulelaw.model.hardware import DeviceSpec, to_toml
from tests.bench.calibrations import simulated
from tests.bench.factories import GPU_MODEL, synthetic_dataset
from tests.bench.imported_tables import MY_GPU, few_draws, plain_table
from tests.bench.metering import stub_meter

# One worker runs them all, as they share one study.
pytestmark = pytest.mark.xdist_group("cli")

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
schema: 1
name: my_sweep
grids:
  - {num_layers: [1, 2], hidden_size: 128, sequence_length: 64, micro_batch_size: 2, vocab_size: 1000}
"""
SPEC = DeviceSpec(
    name=GPU_MODEL,
    peak_flop_per_s={"fp32": 1e11, "bf16": 2e11},
    bandwidth_bytes_per_s=2e10,
    memory_bytes=2**33,
    link="made up",
    link_bytes_per_s=2e9,
    source="made up, for tests",
    date=datetime.date(2026, 1, 1),
    power_limit_w=10.0,
)


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user has it after a study: sweep, data set, a fitted law, and runs to forecast."""
    home = tmp_path_factory.mktemp("home")
    folder = synthetic_dataset(home / "results/lab/my_sweep", meter_kind="estimated")
    (folder / "devices.toml").write_text(to_toml(SPEC))
    (home / "my_sweep.yaml").write_text(SWEEP)
    rows = pd.concat([pd.read_parquet(path) for path in sorted((folder / "trials").glob("*.parquet"))])
    finished = rows[rows["status"] == "done"]
    plain = finished.drop(columns=["reasons", "nodes", "device_uuids", "shared_with", "energy_j", "duration_s"])
    plain.to_csv(home / "runs.csv", index=False)
    plain_table(9).to_csv(home / "measurements.csv", index=False)
    (home / "my_gpus.toml").write_text(MY_GPU)
    return home


@pytest.fixture
def home(results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inside that folder, with few bootstrap draws: intervals have their own tests."""
    monkeypatch.chdir(results)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    few_draws(monkeypatch, bootstrap=5)
    return results


@pytest.fixture
def law(home: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A fitted law there."""
    if not (home / "law.json").exists():
        main(["fit", "results/lab/my_sweep", "--out", "law.json"])
        capsys.readouterr()
    return home / "law.json"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, the JSON of the last line of standard output, and all that was said."""
    code = main(arguments)
    said = capsys.readouterr()
    content = json.loads(said.out.splitlines()[-1])
    assert content["exit_code"] == code
    return code, content, said.out + said.err


def test_every_command_has_examples_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert COMMANDS.keys() == EXAMPLES.keys()
    for command, examples in EXAMPLES.items():
        assert main([command, "--help"]) == 0
        text = capsys.readouterr().out
        for line in examples:
            assert line.startswith(f"joulelaw {command}")
            assert f"  {line}\n" in text, "the example stands on a line of its own"


def stub_studies(monkeypatch: pytest.MonkeyPatch, **outcome: Any) -> None:
    """Studies that are over at once; what they train has its own tests."""
    from joulelaw.bench.calibration import run as calibrations
    from joulelaw.bench.operations import operations
    from joulelaw.bench.study import single_trial

    values = {"done": 2, "failed": 0, "unfit": 0, "invalid": 0, "already_done": 0, "interrupted": False} | outcome
    result = SimpleNamespace(folder=Path("results/lab/my sweep"), **values)
    row = {"trial_id": "a-r0", "status": "done", "verdict": "valid", "failure": "", "energy_j": float("nan")}
    timed = operations.Outcome(Path("results/operations"), [], 0, {})
    monkeypatch.setattr(operations, "time_operations", lambda path, trial_id, into, tell: timed)
    monkeypatch.setattr(sweep, "run_study", lambda path, into, **_: result)
    monkeypatch.setattr(calibrations, "run_calibration", simulated)
    monkeypatch.setattr(single_trial, "run_trial", lambda path, trial_id, into: row)


@pytest.mark.parametrize("command", list(EXAMPLES))
def test_the_examples_of_the_help_run(
    command: str, home: Path, law: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_studies(monkeypatch)
    stub_meter(monkeypatch)
    before = [EXAMPLES["validate"][0]] if command == "report" else []
    for line in [*before, *EXAMPLES[command]]:
        code, content, said = run(capsys, *shlex.split(line)[1:])
        assert code == 0, said
        assert "Traceback" not in said
        for name in [content["out"]] if content.get("out") else []:
            assert (home / name).stat().st_size > 0


def test_where_torch_is_missing_a_study_says_so(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "has", lambda module: module != "torch")
    for command in (("run", "my_sweep.yaml", "--alone"), ("trial", "my_sweep.yaml")):
        code, content, _ = run(capsys, *command)
        assert (code, content["error"]) == (1, "torch is not installed; pip install 'joulelaw[bench]'")


def test_plan_tells_every_trial_and_writes_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(home.rglob("*"))
    code, content, said = run(capsys, "plan", "my_sweep.yaml")
    assert (code, content["planned"], sorted(home.rglob("*"))) == (0, 2, before)
    assert all(trial["trial_id"] in said for trial in content["trials"])
    assert all(trial["flop_per_step"] > 0 and trial["step_s"] > 0 for trial in content["trials"])
    assert content["expected_s"] > 0


def test_fit_tells_coefficients_with_intervals_and_that_joules_were_estimated(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, content, said = run(capsys, "fit", "results/lab/my_sweep", "--out", "fitted.json")
    assert content["energy_is_estimated"]
    assert "watts x time, an identity" in said
    rows = pd.concat([pd.read_parquet(path) for path in Path("results/lab/my_sweep/trials").glob("*.parquet")])
    fitted = rows[(rows["status"] == "done") & (rows["verdict"] == "valid") & (rows["split"] == "fit")]
    assert content["n_trials"] == len(fitted), "neither invalid nor held-out trials are fitted"
    bounds = [(each["low"], each["value"], each["high"]) for each in content["coefficients"]]
    known = [each for each in bounds if None not in each]
    assert known
    assert all(low <= high for low, _, high in known)


def test_validate_scores_on_the_drawn_hold_out_beside_baselines(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, content, said = run(capsys, "validate", "results/lab/my_sweep", "--out", "validation.json")
    assert code == 0
    assert content["hold_out"] == "split"
    laws = {each["law"] for each in content["summaries"]}
    assert {"roofline", "reduced_form"} < laws, "and at least one baseline"
    assert "energy, held out by split (estimated: watts x time, an identity)" in said
    written = json.loads((home / "validation.json").read_text())
    assert written["predictions"]


def test_predict_forecasts_every_row_and_ignores_what_was_measured(
    home: Path, law: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(capsys, "predict", "law.json", "runs.csv", "--out", "a.csv")
    runs = pd.read_csv("runs.csv")
    runs.assign(duration_s=1e6, energy_j=1e9).to_parquet("measured.parquet")
    run(capsys, "predict", "law.json", "measured.parquet", "--out", "b.parquet")
    a, b = pd.read_csv("a.csv"), pd.read_parquet("b.parquet")
    assert len(a) == len(b) == len(runs)
    assert (a["duration_low_s"] <= a["predicted_duration_s"]).all()
    assert a["predicted_duration_s"].to_numpy() == pytest.approx(b["predicted_duration_s"].to_numpy())


WRONG = {
    "no command": (["fot"], "Did you mean 'fit'?"),
    "no option": (["fit", "x"], "--out"),
    "no folder": (["fit", "absent", "--out", "law.json"], "absent"),
    "no law": (["export", "absent.json", "--format", "csv"], "absent.json"),
    "unknown law": (["fit", "results/lab/my_sweep", "--law", "rooflin", "--out", "x.json"], "unknown law 'rooflin'"),
    "unknown rule": (["validate", "results/lab/my_sweep", "--hold-out", "cases"], "unknown hold-out 'cases'"),
    "no sweep": (["plan", "quikstart"], "did you mean 'quickstart'?"),
    "too many ranks": (["run", "many.yaml"], "many.yaml:4 grids[0].gpu_count: 4096 ranks need 4096 devices"),
    "no folder to make": (
        ["run", "my_sweep.yaml", "--into", "runs.csv/x"],
        "runs.csv/x: cannot write: Not a directory",
    ),
    "no trial to make": (["trial", "my_sweep.yaml", "--into", "runs.csv"], "runs.csv: cannot write: Not a directory"),
    "too large": (["run", "large.yaml"], "large.yaml:4 grids[0].hidden_size: 2000 layers of width 65536"),
    "table's ending": (["predict", "law.json", "runs.xls", "--out", "x.csv"], "runs.xls: unknown ending '.xls'"),
    "no table": (["predict", "law.json", "absent.csv", "--out", "x.csv"], "absent.csv: no such file"),
    "a law replaced": (
        ["calibrate", "law.json", "new_hardware", "--out", "law.json"],
        "law.json: the law that is to be",
    ),
    "no tolerance": (["calibrate", "law.json", "new_hardware", "--tolerance", "1"], "--tolerance: 1 is no tolerance"),
    "few cases": (["calibrate", "law.json", "my_sweep.yaml"], "my_sweep.yaml: 2 cases for"),
    "no such device": (["calibrate", "law.json", "new_hardware", "--gpu-model", "TPU"], "no trial of the plan is for"),
    "unwritable": (["fit", "results/lab/my_sweep", "--out", "/proc/law.json"], "/proc/law.json"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_bad_input_is_one_message_exit_code_2_and_nothing_written(
    name: str, home: Path, law: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    many = SWEEP.replace("{num_layers", "{strategy: fsdp, gpu_count: 4096, num_layers")
    (home / "many.yaml").write_text(many)
    (home / "large.yaml").write_text(SWEEP.replace("[1, 2], hidden_size: 128", "2000, hidden_size: 65536"))
    before = sorted(home.rglob("*"))
    capsys.readouterr()
    arguments, expected = WRONG[name]
    code, content, said = run(capsys, *arguments)
    assert code == 2
    assert expected in content["error"]
    assert "Traceback" not in said
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("outcome", "code"),
    [({}, 0), ({"invalid": 1}, 3), ({"failed": 1, "invalid": 1}, 1), ({"interrupted": True, "failed": 1}, 130)],
)
def test_a_study_ends_with_the_exit_code_of_its_trials(
    outcome: dict[str, Any], code: int, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stub_studies(monkeypatch, **outcome)
    ended, content, said = run(capsys, "run", "my_sweep.yaml")
    assert ended == code
    assert content["folder"] == "results/lab/my sweep"
    assert ("to go on: joulelaw run my_sweep.yaml --into 'results/lab/my sweep'" in said) == (code == 130)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(path: Path, into: Path | None, **_: object) -> None:
        raise error

    monkeypatch.setattr(sweep, "run_study", fail)


def test_an_unexpected_error_is_short_and_its_traceback_is_kept(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failing(monkeypatch, ZeroDivisionError("a mistake of ours"))
    code, content, said = run(capsys, "run", "my_sweep.yaml")
    assert code == 1
    assert "Traceback" not in said
    kept = Path(content["error"].split(" is in ")[1].rstrip(")"))
    assert "ZeroDivisionError: a mistake of ours" in kept.read_text()
    assert "Traceback" in run(capsys, "--debug", "run", "my_sweep.yaml")[2]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ClusterError("cannot reach the Ray cluster"), 1, "cannot reach the Ray cluster"),
        (ModuleNotFoundError("No module named 'ray'", name="ray"), 1, "pip install 'joulelaw[bench]'"),
        (InputError("bad", where="x.yaml:3", remedy="mend it"), 2, "x.yaml:3: bad; mend it"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_other_ends_are_one_message_without_a_traceback(
    error: BaseException,
    code: int,
    told: str,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failing(monkeypatch, error)
    ended, content, said = run(capsys, "run", "my_sweep.yaml")
    assert (ended, told in content["error"]) == (code, True)
    assert "Traceback" not in said


def python(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def test_the_program_starts_from_the_root_and_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise SystemExit('a user's own model.py')\n")
    from_root = python("-m", "bench", "--version")
    from_file = python(str(ROOT / "bench" / "__main__.py"), "--version", cwd=tmp_path)
    assert (from_root.returncode, from_file.returncode) == (0, 0), from_root.stderr + from_file.stderr
    assert from_root.stdout == from_file.stdout


def test_modules_of_the_bench_do_not_hide_others_when_its_file_is_run() -> None:
    script = f"import runpy, sys; sys.argv = ['x', '--version']; sys.path[0] = {str(ROOT / 'bench')!r}\n"
    script += f"try: runpy.run_path({str(ROOT / 'bench' / '__main__.py')!r}, run_name='__main__')\n"
    script += f"except SystemExit: print({str(ROOT / 'bench')!r} in sys.path)"
    assert python("-c", script).stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["fit", "--help"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from joulelaw.bench.cli import main; main({arguments!r});"
    loaded = set(python("-c", script + "print(*sys.modules)").stdout.splitlines()[-1].split())
    assert "joulelaw.bench.cli" in loaded
    assert not loaded & {"torch", "ray", "pandas", "numpy", "deepspeed", "transformers"}


def test_what_follows_the_trials_loads_neither_torch_nor_ray(home: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from joulelaw.bench.cli import main;"
    script += "import joulelaw.model.laws as laws, joulelaw.model.validation as v, functools; v.SPREAD_DRAWS = 0;"
    script += "laws.fit_law = functools.partial(laws.fit_law, bootstrap=0);"
    script += "main(['fit', 'results/lab/my_sweep', '--out', 'other.json']);"
    script += "main(['validate', 'results/lab/my_sweep']); main(['plan', 'my_sweep.yaml']);"
    loaded = set(python("-c", script + "print(*sys.modules)", cwd=home).stdout.splitlines()[-1].split())
    assert "joulelaw.model.validation" in loaded
    assert not loaded & {"torch", "ray", "deepspeed", "transformers"}


def test_ctrl_c_before_the_first_trial_ends_with_130_and_json(home: Path) -> None:
    script = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from joulelaw.bench import cli;"
        "from joulelaw.bench.study import study;"
        "study.run_study = lambda path, into, **_: (print('started', flush=True), time.sleep(60));"
        "sys.exit(cli.main(['run', 'my_sweep.yaml']))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["error"] == "interrupted"
    assert "to go on: joulelaw run my_sweep.yaml\n" in err
    assert "Traceback" not in err


def test_the_last_line_is_json_whatever_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np

    last_line("x", 0, a=float("nan"), b=[np.float32(1.5), np.inf], c={"d": np.int64(3)}, e=Path("f"))
    values = json.loads(capsys.readouterr().out)
    assert values == {"command": "x", "exit_code": 0, "a": None, "b": [1.5, None], "c": {"d": 3}, "e": "f"}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1234.5, "1,234"), (0.123456, "0.123"), (1e-9, "1.00e-09"), (float("nan"), "-"), (None, "-")],
)
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(("seconds", "text"), [(4.21, "4.2 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "-")])
def test_durations_read_as_people_say_them(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
