"""BERT and GPT-2 are Hugging Face's, of the configured shape, and their labels can be learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.data.batches import Batch
from joulelaw.bench.data.source import make_source
from joulelaw.bench.report import palette
from joulelaw.bench.spec import axes as spec_axes
from joulelaw.bench.spec.configuration import Configuration, Strategy
from joulelaw.bench.strategies import STRATEGIES
from joulelaw.bench.workloads import WORKLOADS, TrainingModel, load_workload
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS
from joulelaw.model import architecture, kernels, memory, parallelism, recurrent
from tests.bench.trial_ranks import TINY

CPU = torch.device("cpu")
FAMILIES = sorted(architecture.FAMILIES)
HEADS = ["classification", "language_model"]


def build(configuration: Configuration, seed: int = 0) -> TrainingModel:
    torch.manual_seed(seed)
    return load_workload(configuration.model_family).build(configuration, CPU, Path())


def test_what_can_be_trained_can_be_counted_and_drawn() -> None:
    """The tables that the docstrings of `workloads` and `strategies` name for whoever adds one."""
    of_transformers = [CONFIG_KEYS, architecture.FAMILIES, kernels.FAMILY_LAUNCHES]
    of_transformers += [memory.STORED_FFN_TENSORS, memory.TEMPORARY_FFN_TENSORS]
    counted = [{*table, *recurrent.FAMILIES} for table in of_transformers]
    assert all(set(table) == WORKLOADS.keys() for table in [*counted, spec_axes.VOCABULARY, architecture.FAMILY_NAMES])
    of_strategies = [get_args(Strategy), parallelism.STRATEGIES, kernels.STRATEGY_LAUNCHES, palette.STRATEGIES]
    assert all(set(table) == STRATEGIES.keys() for table in of_strategies)


def first_batch(configuration: Configuration) -> Batch:
    return make_source(configuration, 0, CPU, Path()).global_batch(0, 0)


def embedding_parameters(shape: Configuration) -> int:
    """BERT has two token types and a norm more; GPT-2's norm is behind the last layer."""
    positions, types = {"bert": (512, 2), "gpt2": (1024, 0)}[shape.model_family]
    return (shape.vocab_size + max(positions, shape.sequence_length) + types + 2) * shape.hidden_size


def layer_parameters(shape: Configuration) -> int:
    h, f = shape.hidden_size, shape.intermediate_size
    return 4 * (h * h + h) + 2 * h * f + f + h + 4 * h


def head_parameters(shape: Configuration) -> int:
    h = shape.hidden_size
    return {
        ("bert", "classification"): h * h + h + h * shape.num_labels + shape.num_labels,
        ("gpt2", "classification"): h * shape.num_labels,
        ("bert", "language_model"): h * h + h + 2 * h + shape.vocab_size,
        ("gpt2", "language_model"): 0,
    }[shape.model_family, shape.head]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("changes", [{}, {"num_layers": 3, "num_labels": 5}, {"sequence_length": 1100}])
def test_its_parameters_are_those_of_the_published_formula(family: str, head: str, changes: dict[str, Any]) -> None:
    shape = replace(TINY, model_family=family, head=head, **changes)
    training = build(shape)
    layer = layer_parameters(shape)
    expected = embedding_parameters(shape) + shape.num_layers * layer + head_parameters(shape)
    assert sum(p.numel() for p in training.module.parameters()) == expected
    assert [sum(p.numel() for p in block.parameters()) for block in training.blocks] == [layer] * shape.num_layers


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_attention_and_dropout_are_as_configured(family: str, head: str) -> None:
    shape = replace(TINY, model_family=family, head=head)
    batch = first_batch(shape)
    losses = {}
    for attention in ("sdpa", "eager"):
        module = build(replace(shape, attention=attention)).module
        assert module.config._attn_implementation == attention  # type: ignore[union-attr]
        losses[attention] = module(**batch).loss.item()
        assert module(**batch).loss.item() == losses[attention], "no dropout was asked for"
    assert losses["sdpa"] == pytest.approx(losses["eager"], rel=1e-5)
    dropping = build(replace(shape, dropout=0.5)).module
    assert dropping(**batch).loss.item() != dropping(**batch).loss.item()
    rates = {part.p for part in dropping.modules() if isinstance(part, torch.nn.Dropout)}
    assert rates == {0.5}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_the_loss_is_the_mean_over_sequences_or_over_scored_tokens(family: str, head: str) -> None:
    shape = replace(TINY, model_family=family, head=head, num_labels=3)
    batch = first_batch(shape)
    output = build(shape).module(**batch)
    labels, logits = batch["labels"], output.logits
    if (family, head) == ("gpt2", "language_model"):
        labels, logits = labels[:, 1:], logits[:, :-1]
    each = -logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    assert output.loss.item() == pytest.approx(each[labels >= 0].mean().item(), rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_padded_sequence_is_classified_as_it_is_without_padding(family: str) -> None:
    shape = replace(TINY, model_family=family)
    module, ids = build(shape).module, first_batch(shape)["input_ids"]
    padded = torch.nn.functional.pad(ids, (0, 3))
    mask = torch.nn.functional.pad(torch.ones_like(ids), (0, 3))
    torch.testing.assert_close(module(padded, attention_mask=mask).logits, module(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_activations_keeps_loss_and_gradients_and_stores_less(family: str) -> None:
    shape = replace(TINY, model_family=family, dropout=0.1)
    kept: dict[bool, int] = {}
    results = {}
    for checkpointing in (False, True):
        module = build(replace(shape, activation_checkpointing=checkpointing)).module
        saved: list[int] = []

        def pack(tensor: torch.Tensor, saved: list[int] = saved) -> torch.Tensor:
            saved.append(tensor.nbytes)
            return tensor

        torch.manual_seed(1)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = module(**first_batch(shape)).loss
        kept[checkpointing] = sum(saved)
        loss.backward()
        results[checkpointing] = [loss, *(parameter.grad for parameter in module.parameters())]
    torch.testing.assert_close(results[True], results[False], rtol=0, atol=0)
    assert kept[True] < 0.5 * kept[False]


def test_equal_seeds_give_equal_models() -> None:
    first, second, third = (build(TINY, seed).module.get_parameter("classifier.weight") for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown model family 'brt'; one of bert, gpt2, lstm, gru"):
        load_workload("brt")
