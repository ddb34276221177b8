"""Synthetic batches: seeded, the same for any number of ranks, learnable, and never padding."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from joulelaw import InputError
from joulelaw.bench.data.batches import EPOCH_STEPS, Epoch, SyntheticText, share_of
from tests.bench.trial_ranks import TINY

CPU = torch.device("cpu")


def source(ranks: int = 1, seed: int = 3, **changes: Any) -> SyntheticText:
    return SyntheticText.of(replace(TINY, **changes), ranks, seed, CPU)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_see_what_one_device_sees(ranks: int) -> None:
    whole = source(1, micro_batch_size=8).global_batch(step=5, micro=1)
    spread = source(ranks, micro_batch_size=8 // ranks).global_batch(step=5, micro=1)
    shares = [share_of(spread, rank, ranks) for rank in range(ranks)]
    for name, tensor in whole.items():
        assert torch.equal(torch.cat([share[name] for share in shares]), tensor)
    assert not torch.equal(shares[0]["input_ids"], shares[1]["input_ids"])


def test_a_batch_depends_on_seed_step_and_micro_step_alone() -> None:
    first = source().global_batch(0, 0)["input_ids"]
    torch.manual_seed(99)
    assert torch.equal(first, source().global_batch(0, 0)["input_ids"])
    others = [source().global_batch(1, 0), source().global_batch(0, 1), source(seed=4).global_batch(0, 0)]
    assert not any(torch.equal(first, other["input_ids"]) for other in others)


@pytest.mark.parametrize("changes", [{}, {"sequence_length": 1}, {"vocab_size": 5}, {"num_labels": 3, "vocab_size": 7}])
def test_a_naive_reader_learns_the_labels(changes: dict[str, Any]) -> None:
    """Counting which tokens come with which label, on half of the data, tells the labels of the other half."""
    batch = source(micro_batch_size=2000, **changes).global_batch(0, 0)
    tokens, labels = batch["input_ids"], batch["labels"]
    vocab, classes = changes.get("vocab_size", TINY.vocab_size), changes.get("num_labels", TINY.num_labels)
    assert tokens.shape == (2000, changes.get("sequence_length", TINY.sequence_length))
    assert tokens.min() >= 1, "token 0 is padding"
    assert tokens.max() < vocab
    assert labels.unique().tolist() == list(range(classes))
    counts = torch.ones(classes, vocab)
    for label in range(classes):
        counts[label] += tokens[:1000][labels[:1000] == label].flatten().bincount(minlength=vocab)
    score = (counts / counts.sum(1, keepdim=True)).log()[:, tokens[1000:]].sum(-1)
    assert (score.argmax(0) == labels[1000:]).float().mean() > 0.95


def test_an_epoch_repeats_and_its_micro_steps_differ() -> None:
    epoch = Epoch(source(ranks=2), rank=1, ranks=2, micro_steps=2)
    assert epoch.step(0) is epoch.step(EPOCH_STEPS)
    assert len(epoch.step(3)) == 2
    first, second = epoch.step(3)
    assert first["input_ids"].shape == (TINY.micro_batch_size, TINY.sequence_length)
    assert not torch.equal(first["input_ids"], second["input_ids"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"num_labels": 1}, "at least 2"), ({"num_labels": 3, "vocab_size": 6}, "vocab_size: .* at least 7")],
)
def test_labels_that_could_not_be_told_apart_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        source(**changes)
