"""A saved model is loaded as it was saved, or refused with one message."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.workloads import WORKLOADS, load_workload
from joulelaw.model.recurrent import FAMILIES as RECURRENT
from tests.bench.training import spread
from tests.bench.trial_ranks import TINY, run_trial

CPU = torch.device("cpu")
FAMILIES = sorted(set(WORKLOADS) - set(RECURRENT))  # checkpoints are Hugging Face's
SAVED = "models/tiny"
CLASSIFIERS = {"bert": "classifier.weight", "gpt2": "score.weight"}


def build(configuration: Configuration, root: Path, seed: int) -> Any:
    torch.manual_seed(seed)
    return load_workload(configuration.model_family).build(configuration, CPU, root).module


def save(root: Path, family: str, head: str = "classification") -> Configuration:
    """A saved model's configuration; loading it needs another seed to show that nothing was drawn."""
    shape = replace(TINY, model_family=family, head=head)
    build(shape, root, seed=1).save_pretrained(root / SAVED)
    return replace(shape, checkpoint=SAVED)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["classification", "language_model"])
def test_a_loaded_model_begins_with_the_loss_of_the_saved_one(family: str, head: str, tmp_path: Path) -> None:
    shape = save(tmp_path, family, head)
    batch = make_source(shape, 0, CPU, tmp_path).global_batch(0, 0)
    loaded = build(replace(shape, attention="eager"), tmp_path, seed=2)
    assert loaded.training
    assert loaded.config._attn_implementation == "eager"
    saved = build(replace(shape, checkpoint="", attention="eager"), tmp_path, seed=1)
    assert loaded(**batch).loss.item() == saved(**batch).loss.item()
    assert loaded(**batch).loss.item() != build(replace(shape, checkpoint=""), tmp_path, seed=2)(**batch).loss.item()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("changes", [{}, {"num_labels": 5}])
def test_a_classifier_that_was_not_saved_is_drawn_from_the_seed(
    family: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    head = "classification" if changes else "language_model"
    shape = replace(save(tmp_path, family, head), head="classification", **changes)
    first, second, third = (dict(build(shape, tmp_path, seed).named_parameters()) for seed in (3, 3, 4))
    for name, parameter in first.items():
        assert torch.equal(parameter, second[name])
    drawn = {name for name, parameter in first.items() if not torch.equal(parameter, third[name])}
    assert CLASSIFIERS[family] in drawn
    assert not any(".h." in name or "embeddings" in name or "encoder" in name for name in drawn)


@pytest.mark.xdist_group("ranks")
@pytest.mark.parametrize(("family", "strategy"), [("bert", "zero3"), ("gpt2", "fsdp_tp")])
def test_ranks_begin_with_the_loss_of_the_saved_model(family: str, strategy: str, tmp_path: Path) -> None:
    shape = save(tmp_path, family)
    spec = TrialSpec(replace(spread(strategy, model_family=family), checkpoint=SAVED), window=Window(0, 1))
    outcomes = run_trial(tmp_path, spec, root=tmp_path)
    losses = [outcome.losses()[0] for outcome in outcomes]
    saved = build(replace(shape, checkpoint=""), tmp_path, seed=1)
    batch = make_source(spec.configuration, spec.seed, CPU, tmp_path).global_batch(0, 0)
    assert sum(losses) / len(losses) == pytest.approx(saved(**batch).loss.item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_of_a_saved_configuration_only_positions_and_epsilon_are_taken_over(family: str, tmp_path: Path) -> None:
    """`return_dict: false` gave tuples, which have no loss; feed-forward chunks change what a step launches."""
    shape = save(tmp_path, family)
    epsilon = {"bert": "layer_norm_eps", "gpt2": "layer_norm_epsilon"}[family]
    batch = make_source(shape, 0, CPU, tmp_path).global_batch(0, 0)
    expected = build(shape, tmp_path, seed=2)(**batch).loss.item()
    strange = {"return_dict": False, "chunk_size_feed_forward": 4, "output_hidden_states": True}
    configure(tmp_path / SAVED, **strange)
    loaded = build(shape, tmp_path, seed=2)
    result = loaded(**batch)
    assert result.loss.item() == expected
    assert result.get("hidden_states") is None
    assert loaded.config.chunk_size_feed_forward == 0
    configure(tmp_path / SAVED, **{epsilon: 0.25})
    assert {part.eps for part in build(shape, tmp_path, 2).modules() if isinstance(part, torch.nn.LayerNorm)} == {0.25}


def test_dropout_is_the_trials_not_the_saved_one(tmp_path: Path) -> None:
    shape = save(tmp_path, "bert")
    rates = {part.p for part in build(replace(shape, dropout=0.3), tmp_path, 1).modules() if hasattr(part, "p")}
    assert rates == {0.3}


def lose_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.popitem()
    name = next(name for name in weights if "encoder" in name)
    save_file({key: weights[key] for key in weights if key != name}, folder / "model.safetensors", {"format": "pt"})


def configure(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def resize_a_weight(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "token_type" in name)
    resized = {**weights, name: weights[name].repeat(2, 1)}
    save_file(resized, folder / "model.safetensors", {"format": "pt"})


def pickle_a_shard(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "shard.bin")
    (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {"a": "shard.bin"}}')


def pickle_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder.rename(folder.with_name("elsewhere")), "no folder .*models/tiny"),
        (lambda folder: (folder / "config.json").unlink(), "models/tiny has no config.json with a model_type"),
        (lambda folder: (folder / "config.json").write_text("{"), "models/tiny cannot be loaded: .*config.json"),
        (lambda folder: (folder / "config.json").write_text("[1]"), "models/tiny cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text('{"vocab_size": "many"}'), "models/tiny cannot be loaded"),
        (lambda folder: (folder / "config.json").write_text("{}"), "models/tiny has no config.json with a model_type"),
        (lambda folder: (folder / "model.safetensors").unlink(), "models/tiny cannot be loaded: .*safetensors"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"0" * 99), "models/tiny cannot be loaded"),
        (lambda folder: (folder / "model.safetensors").open("r+b").truncate(4096), "models/tiny cannot be loaded"),
        (pickle_the_weights, "models/tiny cannot be loaded: .*safetensors"),
        (pickle_a_shard, "models/tiny cannot be loaded: .*names 'shard.bin', which is no .safetensors file"),
        (lambda folder: configure(folder, is_decoder=True), "models/tiny cannot be loaded: is_decoder is True"),
        (lose_a_weight, "models/tiny lacks 1 of the model's weights"),
        (resize_a_weight, "models/tiny lacks 1 of the model's weights, bert.embeddings.token_type"),
    ],
)
def test_a_broken_checkpoint_is_refused_by_its_path(spoil: Callable[[Path], Any], message: str, tmp_path: Path) -> None:
    shape = save(tmp_path, "bert")
    spoil(tmp_path / SAVED)
    with pytest.raises(InputError, match=message) as refused:
        build(shape, tmp_path, 1)
    assert refused.value.where == "checkpoint"
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("axis", "asked"),
    [
        ("num_layers", 3),
        ("hidden_size", 64),
        ("num_heads", 4),
        ("intermediate_size", 128),
        ("vocab_size", 300),
        ("sequence_length", 2000),
    ],
)
def test_a_checkpoint_of_another_shape_is_refused_by_the_axis(
    family: str, axis: str, asked: int, tmp_path: Path
) -> None:
    shape = save(tmp_path, family)
    with pytest.raises(InputError, match=str(asked)) as refused:
        build(replace(shape, **{axis: asked}), tmp_path, 1)
    assert refused.value.where == axis
    assert SAVED in str(refused.value)


def test_a_checkpoint_of_another_family_is_refused(tmp_path: Path) -> None:
    shape = save(tmp_path, "gpt2")
    with pytest.raises(InputError, match="models/tiny holds a gpt2 model; a folder with a bert model"):
        build(replace(shape, model_family="bert"), tmp_path, 1)
