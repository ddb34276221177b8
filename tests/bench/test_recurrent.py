"""LSTM and GRU train as trials do: torch's own layers, labels that can be learnt, from a sweep to its rows."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.spec.sweep_file import load_sweep
from joulelaw.bench.study.study import run_study
from joulelaw.bench.training.precision import TRAINABLE, set_matmul_precision
from joulelaw.bench.workloads import load_workload
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts
from joulelaw.model.recurrent import FAMILIES
from tests.bench.trial_ranks import TINY, run_trial
from tests.model.rows import CPU

pytestmark = pytest.mark.xdist_group("ranks")
DEVICE = torch.device("cpu")


def recurrent(family: str, **changes: Any) -> Configuration:
    shape = replace(TINY, **{"model_family": family, "num_heads": 1, "input_size": TINY.hidden_size} | changes)
    return replace(shape, intermediate_size=FAMILIES[family].gates * shape.hidden_size)


def plain_loop(configuration: Configuration, seed: int, steps: int) -> list[float]:
    """The same training written out with torch.nn alone."""
    from joulelaw.bench.data.batches import mixed_seed

    torch.manual_seed(mixed_seed(seed))
    c = configuration
    words = torch.nn.Embedding(c.vocab_size, c.input_size or c.hidden_size, padding_idx=0)
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[c.model_family]
    layers = kind(c.input_size or c.hidden_size, c.hidden_size, c.num_layers, batch_first=True)
    outputs = c.vocab_size if c.head == "language_model" else c.num_labels
    head = torch.nn.Linear(c.hidden_size, outputs)
    parameters = [*words.parameters(), *layers.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=c.learning_rate)
    source, losses = make_source(c, seed, DEVICE, Path()), []
    for step in range(steps):
        batch = source.global_batch(step, 0)
        hidden, state = layers(words(batch["input_ids"]))
        if c.head == "language_model":
            logits, labels = head(hidden)[:, :-1].reshape(-1, c.vocab_size), batch["input_ids"][:, 1:].reshape(-1)
        else:
            last = state[0] if c.model_family == "lstm" else state
            logits, labels = head(last[-1]), batch["labels"]
        loss = torch.nn.functional.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("head", ["classification", "language_model"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_trial_trains_as_a_plain_torch_loop_does(family: str, head: str, tmp_path: Path) -> None:
    configuration = recurrent(family, head=head, input_size=24)
    spec = TrialSpec(configuration, seed=3, window=Window(warmup_steps=2, min_steps=4))
    outcome = run_trial(tmp_path, spec)[0]
    assert outcome.losses()[:6] == pytest.approx(plain_loop(configuration, 3, 6), rel=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_in_every_precision_of_a_cpu(family: str, precision: Any, tmp_path: Path) -> None:
    configuration = recurrent(family, precision=precision, learning_rate=1e-2, num_layers=1)
    spec = TrialSpec(configuration, seed=1, window=Window(warmup_steps=2, min_steps=40))
    losses = run_trial(tmp_path, spec)[0].losses()
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


def test_cudnns_products_are_tf32_only_where_that_is_asked_for() -> None:
    """By default they are, whatever is said of other matrix products: an fp32 trial would not be one."""
    for precision in ("tf32", "fp32"):
        set_matmul_precision(precision)
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
        assert torch.get_float32_matmul_precision() == {"tf32": "high", "fp32": "highest"}[precision]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_sequence_is_classified_as_it_is_without_padding(family: str) -> None:
    configuration = recurrent(family)
    torch.manual_seed(0)
    module = load_workload(family).build(configuration, DEVICE, Path()).module
    batch = make_source(configuration, 0, DEVICE, Path()).global_batch(0, 0)
    ids, labels = batch["input_ids"], batch["labels"]
    padded, mask = (torch.nn.functional.pad(each, (0, 3)) for each in (ids, torch.ones_like(ids)))
    with_padding = module(padded, labels, attention_mask=mask).logits
    torch.testing.assert_close(with_padding, module(ids, labels).logits, rtol=1e-4, atol=1e-6)


SIZES = {"num_layers": 2, "hidden_size": 256, "vocab_size": 1000, "sequence_length": 64, "micro_batch_size": 96}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_layers": 4, "input_size": 512},
        {"precision": "bf16", "num_layers": 3},
        {"dropout": 0.1, "num_layers": 4, "micro_batch_size": 48},
        {"head": "language_model", "vocab_size": 4000, "micro_batch_size": 32},
        {"hidden_size": 1024, "input_size": 128, "micro_batch_size": 4, "sequence_length": 16, "grad_accumulation": 2},
        {"vocab_size": 80_000, "micro_batch_size": 2},
    ],
)
def test_peak_memory_is_predicted_within_a_fifth(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    sizes = SIZES | {"input_size": 256} | changes
    configuration = recurrent(family, **sizes)
    done = run_trial(tmp_path, TrialSpec(configuration, window=Window(warmup_steps=1, min_steps=1)))[0].one("done")
    measured = done["peak_memory_bytes"] - done["base_memory_bytes"]
    device = replace(CPU, name=TINY.gpu_model, peak_flop_per_s=dict.fromkeys(TRAINABLE["cpu"], 1e11))
    row = counts(pd.DataFrame([configuration.to_dict()]), Catalogue({device.name: device})).iloc[0]
    assert row["num_parameters"] == done["num_parameters"]
    predicted = row["memory_bytes_per_device"]
    assert predicted == pytest.approx(measured, rel=0.2)


SWEEP = """\
schema: 1
name: tiny
defaults: {num_layers: 1, hidden_size: 16, vocab_size: 64, sequence_length: 8, micro_batch_size: 2}
grids:
  - {model_family: [lstm, gru], CHANGES}
window: {warmup_steps: 1, min_steps: 2, min_s: 0, max_s: 10, tolerance: 0}
metering: {meter: estimate, cpu_w_per_core: 5.0, idle_s: 0}
"""


def sweep_file(folder: Path, changes: str) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(SWEEP.replace("CHANGES", changes))
    return path


def test_a_sweep_fills_in_what_a_recurrent_network_implies(tmp_path: Path) -> None:
    asked = [each.configuration for each in load_sweep(sweep_file(tmp_path, "input_size: [16, 24]")).asked]
    found = {(c.model_family, c.num_heads, c.intermediate_size, c.input_size, c.strategy) for c in asked}
    assert found == {(f, 1, g * 16, i, "single") for f, g in (("lstm", 4), ("gru", 3)) for i in (16, 24)}
    alone = load_sweep(sweep_file(tmp_path, "dropout: 0")).asked[0].configuration
    assert alone.input_size == 16


def test_what_is_right_may_be_written_and_transformers_keep_their_ids(tmp_path: Path) -> None:
    implied = load_sweep(sweep_file(tmp_path, "dropout: 0.5")).asked[0].configuration
    path = sweep_file(tmp_path, "dropout: 0.5, num_heads: 1, input_size: 16, intermediate_size: 64")
    path.write_text(path.read_text().replace("[lstm, gru]", "lstm"))
    assert load_sweep(path).asked[0].configuration.configuration_id == implied.configuration_id
    assert replace(implied, input_size=None).configuration_id != implied.configuration_id
    assert TINY.configuration_id == "e88411bc4e9f", "the id of a Transformer, as it was before there were others"


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ("strategy: fsdp, gpu_count: 2", "strategy", "strategy 'fsdp', but lstm is trained on one device only; single"),
        ("strategy: ddp", "strategy", "strategy 'ddp', but gru is trained on one device only"),
        ("num_heads: 4", "num_heads", "4 heads, and a layer of lstm has none; leave it out"),
        ("intermediate_size: 32", "intermediate_size", "32, but the 3 gates of gru are 48 wide; leave it out"),
        ("attention: eager", "attention", "'eager' attention, and lstm has none"),
        ("torch_compile: true", "torch_compile", "true, which lstm cannot have here"),
        ("activation_checkpointing: true", "activation_checkpointing", "true, which gru cannot have here"),
    ],
)
def test_what_it_cannot_have_is_refused_with_its_line(changes: str, where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        load_sweep(sweep_file(tmp_path, changes))
    lines = str(refused.value).splitlines()
    assert len(lines) == 2, "once for each family"
    assert any(f"tiny.yaml:5 grids[0].{where}: " in line and message in line for line in lines), lines


def test_a_transformer_has_no_input_size(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, "input_size: 8")
    path.write_text(path.read_text().replace("[lstm, gru]", "bert"))
    with pytest.raises(InputError, match="input_size: an input_size, and the embeddings of bert are as wide"):
        load_sweep(path)


def test_a_study_of_lstm_and_gru_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results"
    result = run_study(
        sweep_file(tmp_path, "head: [classification, language_model], input_size: 8"), folder, alone=True
    )
    assert (result.done, result.failed) == (4, 0)
    rows = pd.concat([pd.read_parquet(path) for path in sorted((folder / "trials").glob("*.parquet"))])
    assert set(rows["model_family"]) == {"lstm", "gru"}
    assert set(rows["input_size"]) == {8}
    assert json.loads((folder / "plan.json").read_text())["trials"]
