"""BERT is Hugging Face's, of the configured shape, and its labels can be learnt."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.configuration import Configuration
from joulelaw.bench.data import SyntheticText
from joulelaw.bench.workloads import TrainingModel, load_workload
from tests.bench.trial_ranks import TINY

CPU = torch.device("cpu")


def build(configuration: Configuration) -> TrainingModel:
    return load_workload("bert").build(configuration, CPU, Path())


@pytest.mark.parametrize("changes", [{}, {"num_layers": 3, "num_labels": 5}, {"sequence_length": 700}])
def test_its_parameters_are_those_of_the_published_formula(changes: dict[str, Any]) -> None:
    shape = replace(TINY, **changes)
    h, f = shape.hidden_size, shape.intermediate_size
    embeddings = (shape.vocab_size + max(512, shape.sequence_length) + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * h * f + f + h + 4 * h
    head = h * h + h + h * shape.num_labels + shape.num_labels
    training = build(shape)
    assert sum(p.numel() for p in training.module.parameters()) == embeddings + shape.num_layers * layer + head
    assert [sum(p.numel() for p in block.parameters()) for block in training.blocks] == [layer] * shape.num_layers


def test_attention_and_dropout_are_as_configured() -> None:
    batch = SyntheticText.of(TINY, 1, 0, CPU).global_batch(0, 0)
    losses = {}
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        module = build(replace(TINY, attention=attention)).module
        assert module.config._attn_implementation == attention  # type: ignore[union-attr]
        losses[attention] = module(**batch).loss.item()
        assert module(**batch).loss.item() == losses[attention], "no dropout was asked for"
    assert losses["sdpa"] == pytest.approx(losses["eager"], rel=1e-5)
    dropping = build(replace(TINY, dropout=0.5)).module
    assert dropping(**batch).loss.item() != dropping(**batch).loss.item()


def test_equal_seeds_give_equal_models() -> None:
    first, second, third = (
        (torch.manual_seed(seed), build(TINY).module.get_parameter("classifier.weight"))[1] for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_an_unknown_family_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="unknown model family 'brt'; one of bert"):
        load_workload("brt")
