"""Real trainings under the callback and the block: what they show, what they leave, and that `fit` can use it."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from joulelaw import InputError
from joulelaw.bench.commands.law_files import open_law
from joulelaw.bench.dataset.measurements import read_measurements, read_power, read_steps, with_full_texts
from joulelaw.bench.energy.stored_power import energy_of
from joulelaw.bench.live import keep
from joulelaw.bench.live.loop import metered_training
from joulelaw.bench.live.trainer import EnergyCallback
from joulelaw.bench.study.folder import Dataset
from joulelaw.model.coefficients import save_law
from joulelaw.model.hardware import Catalogue, to_toml
from joulelaw.model.laws import fit_law
from tests.bench.factories import synthetic_dataset
from tests.bench.live_trainings import BATCH, CORE_W, LENGTH, METER, Texts, batch, one_thread, rows_of, tiny_bert, train

# They share a folder of rows, and a law that was fitted on it.
pytestmark = pytest.mark.xdist_group("live")

ROOT = Path(__file__).resolve().parents[2]
SECOND = 1_000_000_000


@pytest.fixture(scope="session")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset folder with the row of a plain loop's training."""
    folder = tmp_path_factory.mktemp("live") / "mine"
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    with one_thread(), metered_training(model, optimizer, into=folder, warmup_steps=4, **METER) as run:
        train(model, optimizer, run)
    assert run.summary is not None
    assert run.summary.trial_id, run.summary.no_row
    return folder


@pytest.fixture(scope="session")
def law(mine: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fitted on a study's rows and the training's together."""
    home = tmp_path_factory.mktemp("law")
    study = synthetic_dataset(home / "study", meter_kind="estimated")
    rows = with_full_texts(read_measurements([study, mine]))
    assert (rows["data"] == "training").sum() == 1
    fitted = fit_law("roofline", rows, Catalogue.load([study / "devices.toml", mine / "devices.toml"]), bootstrap=3)
    save_law(fitted, home / "law.json")
    return home / "law.json"


def test_a_loops_row_says_what_was_trained(mine: Path) -> None:
    row = rows_of(mine).iloc[0]
    told = row[
        ["strategy", "model_family", "num_layers", "hidden_size", "num_heads", "intermediate_size", "vocab_size"]
    ]
    assert list(told) == ["single", "bert", 2, 64, 2, 256, 1000]
    assert list(row[["sequence_length", "micro_batch_size", "grad_accumulation", "precision"]]) == [32, 4, 1, "fp32"]
    assert list(row[["head", "attention", "dropout", "learning_rate"]]) == ["classification", "sdpa", 0.1, 3e-4]
    assert (row["gpu_count"], row["status"], row["verdict"]) == (1, "done", "valid")
    assert (row["meter"], row["meter_kind"], row["boundary"]) == ("cpu_time_estimate", "estimated", "cpu_modelled")
    assert row["padded_tokens"] == row["micro_steps"] * BATCH * LENGTH
    assert row["warmup_steps"] == 4


def test_its_joules_are_those_of_its_stored_readings_and_its_steps_fill_the_window(mine: Path) -> None:
    row = rows_of(mine).iloc[0]
    trial, edges = row["trial_id"], (int(row["window_begin_ns"]), int(row["window_end_ns"]))
    (stored,) = energy_of(mine, trial, *edges).values()
    assert stored.energy_j == pytest.approx(row["energy_j"], rel=1e-6)
    # One busy core draws 10 W; on a shared machine it is not always ours.
    assert 0.02 * CORE_W < row["energy_j"] / row["duration_s"] < 1.3 * CORE_W
    steps = read_steps(mine, trial)
    measured = steps[steps["measured"]]
    assert (measured["begin_ns"].iloc[0], measured["end_ns"].iloc[-1]) == edges
    assert len(measured) == row["measured_steps"]
    assert 0.1 < measured["loss"].notna().mean() < 0.2, "every eighth is read"
    assert 0 < row["loss_last"] < 5
    assert (edges[1] - edges[0]) / SECOND == pytest.approx(row["duration_s"])
    assert set(read_power(mine, trial)["device_uuid"]) == set(row["device_uuids"])


class Clocked(TrainerCallback):
    """What the test sees by itself: when each step ended and what CPU time there was by then, and when evaluations ran;
    ends the training after so many steps, and not before it has lasted so long."""

    def __init__(self, steps: int, seconds: float) -> None:
        self.least, self.seconds = steps, seconds
        self.steps: list[tuple[int, float]] = []
        self.evaluations: list[int] = []
        self.logs: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.steps.append((time.monotonic_ns(), time.process_time()))
        if len(self.steps) >= self.least and self.steps[-1][0] - self.steps[0][0] > self.seconds * SECOND:
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.evaluations.append(time.monotonic_ns())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))


@pytest.fixture(scope="session")
def trained(mine: Path, law: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Clocked, Any, str]:
    """A Trainer's run with accumulation, bf16, checkpointing of activations, evaluations and a saved checkpoint."""
    energy, clocked = EnergyCallback(law=str(law), into=mine, warmup_steps=3, **METER), Clocked(38, 3.0)
    arguments = TrainingArguments(
        str(tmp_path_factory.mktemp("out")), use_cpu=True, bf16=True, report_to="none", disable_tqdm=True,
        per_device_train_batch_size=BATCH, gradient_accumulation_steps=2, gradient_checkpointing=True, logging_steps=5,
        max_steps=4000, eval_strategy="steps", eval_steps=15, save_strategy="steps", save_steps=15, save_total_limit=1,
    )  # fmt: skip
    said: list[str] = []
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("joulelaw.bench.live.run.say", said.append)
        trainer = Trainer(
            tiny_bert(), arguments, train_dataset=Texts(100_000), eval_dataset=Texts(8), callbacks=[energy, clocked]
        )
        trainer.train()
    return energy.summary, clocked, trainer, "\n".join(said)


def test_a_trainers_row_says_how_it_was_trained(trained: Any, mine: Path) -> None:
    summary, *_ = trained
    rows = rows_of(mine).set_index("trial_id")
    row = rows.loc[summary.trial_id]
    assert (row["grad_accumulation"], row["precision"], row["micro_batch_size"]) == (2, "bf16", BATCH)
    assert bool(row["activation_checkpointing"])
    assert row["micro_steps"] == 2 * row["measured_steps"]
    assert row["padded_tokens"] == row["micro_steps"] * BATCH * LENGTH
    assert (mine / "environment.json").is_file()
    assert json.loads((mine / "environment.json").read_text())["packages"]["torch"]


def test_neither_evaluations_nor_checkpoints_nor_warm_up_are_in_the_window(trained: Any) -> None:
    summary, clocked, *_ = trained
    steps = summary.window.windows[0]
    begin_ns, end_ns = steps[0].begin_ns, steps[-1].end_ns
    assert clocked.evaluations
    assert not [at_ns for at_ns in clocked.evaluations if begin_ns < at_ns < end_ns]
    assert steps[0].step >= 3
    # Fifteen steps lie between two evaluations, and the first of them settle.
    assert len(steps) <= 13
    ends_ns = [at_ns for at_ns, _ in clocked.steps]
    assert abs(ends_ns[steps[-1].step] - end_ns) < 20_000_000, "the steps are those that the Trainer counts"


def test_its_joules_are_the_processes_own_time(trained: Any) -> None:
    summary, clocked, *_ = trained
    steps = summary.window.windows[0]
    cpu_s = clocked.steps[steps[-1].step][1] - clocked.steps[steps[0].step][1]
    seconds = summary.window.duration_s * (len(steps) - 1) / len(steps)
    found_w = summary.window.energy.energy_j / summary.window.duration_s
    assert found_w == pytest.approx(CORE_W * cpu_s / seconds, rel=0.2)
    assert summary.energy_j > summary.window.energy.energy_j
    whole_cpu_s = clocked.steps[-1][1] - clocked.steps[0][1]
    assert summary.energy_j == pytest.approx(CORE_W * whole_cpu_s, rel=0.25)
    assert (summary.meter_kind, summary.energy_meter) == ("estimated", "cpu_time_estimate, estimated")


def test_log_lines_show_joules_so_far_and_to_go_and_what_they_are(trained: Any) -> None:
    _, clocked, trainer, _ = trained
    lines = [line for line in clocked.logs if "energy_j" in line]
    assert len(lines) > 3
    joules = [line["energy_j"] for line in lines]
    assert joules == sorted(joules)
    assert {line["energy_meter"] for line in lines} == {"cpu_time_estimate, estimated"}
    assert lines[-1]["energy_to_go_j"] > lines[-1]["energy_j"], "most of 4,000 steps was left"
    assert 0 < lines[-1]["power_w"] < 2 * CORE_W
    assert [line for line in trainer.state.log_history if "energy_j" in line]


def test_the_forecast_is_stated_first_and_says_where_it_extrapolates(trained: Any) -> None:
    summary, _, _, said = trained
    forecast = summary.forecast
    assert forecast.micro_steps == 2 * 4000
    assert forecast.energy_low_j < forecast.energy_j < forecast.energy_high_j
    assert "Forecast of 4000 steps by the law" in said.splitlines()[0]
    assert "cpu_modelled" in said.splitlines()[0]
    assert "Beyond what that law was fitted on: " in said
    assert "precision" in forecast.extrapolates
    window = forecast.share(summary.window.micro_steps)
    assert window.energy_j == pytest.approx(forecast.energy_j * summary.window.micro_steps / 8000)


def test_the_law_that_learned_the_row_forecasts_that_training(law: Path, mine: Path) -> None:
    rows = read_measurements([mine])
    like = rows[rows["precision"] == "fp32"].iloc[:1]
    found = open_law(str(law)).predict(like).iloc[0]
    assert "gpu_model" not in found["extrapolates"]
    assert found["duration_low_s"] < like["duration_s"].iloc[0] < found["duration_high_s"]


def test_its_own_processor_time_is_told_apart_from_the_steps(trained: Any) -> None:
    """How little it is (0.5 % at most) is benchmarks/in_training.py's to say, on a quiet machine."""
    summary, *_ = trained
    assert 0 < summary.hooks_cpu_s < summary.own_cpu_s < summary.steps_cpu_s / 2


def test_another_family_is_metered_and_named_and_leaves_no_row(tmp_path: Path) -> None:
    config = DistilBertConfig(vocab_size=1000, dim=64, n_layers=1, n_heads=2, hidden_dim=128)
    model = DistilBertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    folder = tmp_path / "mine"
    with one_thread(), metered_training(model, optimizer, into=folder, warmup_steps=1, **METER) as run:
        train(model, optimizer, run, seconds=0.5, warmup=2)
    assert run.summary is not None
    assert run.summary.trial_id is None
    assert "a distilbert model" in run.summary.no_row
    assert run.summary.energy_j is not None
    assert not (folder / "trials").exists()


def test_a_training_that_breaks_off_leaves_no_row_and_no_thread(mine: Path) -> None:
    before = len(rows_of(mine))
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())

    def broken() -> None:
        with metered_training(model, optimizer, into=mine, **METER) as run:
            model(**batch()).loss.backward()
            run.step()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert len(rows_of(mine)) == before
    assert not [each for each in threading.enumerate() if each.name.startswith(("joulelaw-live", "sampler"))]
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


def test_a_disk_that_refuses_the_row_costs_the_row_alone(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written before the row stays unread: the dataset is whole."""
    before = rows_of(mine)["trial_id"].tolist()

    def refuse(*_: object) -> None:
        raise InputError("No space left on device", where=str(mine))

    monkeypatch.setattr(keep.TrialTables, "finish", refuse)
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())
    with one_thread(), metered_training(model, optimizer, into=mine, warmup_steps=1, **METER) as run:
        train(model, optimizer, run, seconds=0.3, warmup=1)
    assert run.summary is not None
    assert "No space left" in run.summary.no_row
    assert rows_of(mine)["trial_id"].tolist() == before
    assert len(read_measurements([mine])) >= 1


def test_mistakes_are_told_before_the_training(tmp_path: Path) -> None:
    model = tiny_bert()
    optimizer = torch.optim.AdamW(model.parameters())
    study = synthetic_dataset(tmp_path / "study")
    assert Dataset.exists(study)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"into": study}, "a study of `joulelaw run` is in it"),
        ({"law": str(tmp_path / "none.json")}, "none.json"),
        ({"meter": "nvml"}, "meter"),
        ({"warmup_steps": -1}, "warmup_steps: -1 steps"),
    ]
    for options, words in cases:
        with pytest.raises(InputError, match=words), metered_training(model, optimizer, **{**METER, **options}):
            pass


TWO = """
import os, sys, torch
torch.set_num_threads(1)
import torch.distributed as dist
from joulelaw.bench.live.loop import metered_training
from tests.bench.live_trainings import METER, batch, tiny_bert

dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(tiny_bert())
optimizer = torch.optim.AdamW(model.parameters())
here = batch()
options = {**METER, "into": sys.argv[1], "devices": [sys.argv[2]], "warmup_steps": 4}
with metered_training(model, optimizer, steps=120, **options) as run:
    for step in range(120):
        model(**here).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.step()
print("summary", run.summary is not None)
"""


def test_two_processes_under_ddp_leave_one_row_of_both(tmp_path: Path) -> None:
    folder, script, device = tmp_path / "mine", tmp_path / "two.py", tmp_path / "devices.toml"
    script.write_text(TWO)
    device.write_text(_entry("(1 core)"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    running = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), str(device)],
            env={**environment, "RANK": str(rank), "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    told = [process.communicate(timeout=200) for process in running]
    assert [process.returncode for process in running] == [0, 0], told[0][1][-3000:] + told[1][1][-3000:]
    assert [out for out, _ in told] == ["summary True\n", "summary False\n"], "one process speaks"
    assert "Added to" not in told[1][1]
    (row,) = rows_of(folder).to_dict("records")
    assert (row["strategy"], row["gpu_count"], row["node_count"], row["backend"]) == ("ddp", 2, 1, "gloo")
    assert len(set(row["device_uuids"])) == 2
    assert row["padded_tokens"] == 2 * row["micro_steps"] * BATCH * LENGTH
    steps = read_steps(folder, row["trial_id"])
    assert set(steps["rank"]) == {0, 1}
    joules = energy_of(folder, row["trial_id"], row["window_begin_ns"], row["window_end_ns"])
    assert len(joules) == 2
    assert with_full_texts(rows_of(folder)).shape[0] == 1


def _entry(cores: str) -> str:
    """A catalogue entry for a part of this machine's processor, so that nothing need be measured."""
    from joulelaw.cluster.nodes.inventory import cpu_model
    from tests.bench.test_cli import SPEC

    return to_toml(SPEC).replace(SPEC.name, f"{cpu_model()} {cores}")


def test_the_examples_of_the_documentation_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """docs/in_training.md, in its order: both add a row to one folder."""
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "in_training.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        with one_thread():
            exec(compile(example, "docs/in_training.md", "exec"), {"__name__": "example"})
    rows = rows_of(tmp_path / "results" / "mine")
    assert sorted(rows["model_family"]) == ["bert", "gpt2"]
    assert set(rows["status"]) == {"done"}
    assert (tmp_path / "results" / "mine" / "devices.toml").read_text().count("[[device]]") == 1
    assert "cpu_time_estimate, estimated train-" in capsys.readouterr().out
