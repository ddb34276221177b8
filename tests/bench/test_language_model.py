"""Labels of language models: what is scored, and that means over ranks equal the mean over the global batch."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw import InputError
from joulelaw.bench.data.batches import PADDING, Batch, share_of
from joulelaw.bench.data.language_model import NOT_SCORED, MaskedTokens, NextToken
from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import TextData
from tests.bench.texts import IDS, save_tokenizer, study_folder, text_configuration
from tests.bench.trial_ranks import TINY

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 45), min_size=1, max_size=6)
MASK = 99


@dataclass(frozen=True)
class Padded:
    """One batch of sequences of these lengths; no token is like another."""

    lengths: list[int]

    def global_batch(self, step: int, micro: int) -> Batch:
        width = max(self.lengths)
        mask = torch.arange(width)[None, :] < torch.tensor(self.lengths)[:, None]
        ids = (MASK + 1 + torch.arange(len(self.lengths) * width)).reshape(-1, width)
        return {"input_ids": ids.where(mask, PADDING), "attention_mask": mask.long(), "labels": torch.zeros(1)}


@settings(deadline=None)
@given(lengths=LENGTHS)
def test_the_next_token_is_scored_and_padding_is_not(lengths: list[int]) -> None:
    before, batch = Padded(lengths).global_batch(0, 0), NextToken(Padded(lengths)).global_batch(0, 0)
    assert torch.equal(batch["input_ids"], before["input_ids"])
    for row, length in enumerate(lengths):
        labels = batch["labels"][row].tolist()
        assert labels[:length] == before["input_ids"][row, :length].tolist()
        assert labels[length:] == [NOT_SCORED] * (max(lengths) - length)


@settings(deadline=None)
@given(lengths=LENGTHS, seed=st.integers(0, 9))
def test_15_percent_of_each_sequence_are_masked_and_scored(lengths: list[int], seed: int) -> None:
    before = Padded(lengths).global_batch(0, 0)["input_ids"]
    batch = MaskedTokens(Padded(lengths), MASK, seed).global_batch(0, 0)
    for row, length in enumerate(lengths):
        inputs, labels = batch["input_ids"][row].tolist(), batch["labels"][row].tolist()
        masked = [place for place, token in enumerate(inputs) if token == MASK]
        # 15 % rounded up, in whole numbers: 20 times the count is 3 times the length, or up to 19 more.
        assert 0 <= 20 * len(masked) - 3 * length < 20
        assert max(masked) < length
        for place, original in enumerate(before[row].tolist()):
            assert labels[place] == (original if place in masked else NOT_SCORED)
            assert place in masked or inputs[place] == original


def test_the_masked_places_depend_on_seed_step_and_micro_step_and_are_spread_evenly() -> None:
    source = Padded([20] * 3000)
    draws = {
        (seed, step, micro): MaskedTokens(source, MASK, seed).global_batch(step, micro)["input_ids"] == MASK
        for seed, step, micro in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    }
    first = draws.pop((0, 0, 0))
    assert torch.equal(first, MaskedTokens(source, MASK, 0).global_batch(0, 0)["input_ids"] == MASK)
    assert not any(torch.equal(first, other) for other in draws.values())
    # 3 of 20: a standard deviation of a column's count is 20.
    assert (first.sum(0) - 450).abs().max() < 100


@pytest.mark.parametrize("family", ["bert", "gpt2"])
@pytest.mark.parametrize("ranks", [2, 4])
def test_the_mean_over_ranks_is_the_mean_over_the_global_batch(family: str, ranks: int) -> None:
    """Of any figure per scored token: full sequences have equally many of them."""
    changes: dict[str, Any] = {"head": "language_model", "model_family": family, "micro_batch_size": 8}
    batch = make_source(replace(TINY, **changes), 0, CPU, Path()).global_batch(2, 0)
    figures = torch.rand(TINY.vocab_size, dtype=torch.float64)

    def mean(part: Batch) -> torch.Tensor:
        labels = part["labels"][:, 1:] if family == "gpt2" else part["labels"]
        return figures[labels[labels != NOT_SCORED]].mean()

    means = torch.stack([mean(share_of(batch, rank, ranks)) for rank in range(ranks)])
    assert len(means.unique()) == ranks
    torch.testing.assert_close(means.mean(), mean(batch))


def test_the_heads_of_a_configuration_choose_the_labels(tmp_path: Path) -> None:
    root = study_folder(tmp_path)

    def batch(**changes: Any) -> Batch:
        return make_source(text_configuration(**changes), 0, CPU, root).global_batch(0, 0)

    classes, causal = batch(), batch(head="language_model", model_family="gpt2")
    masked = batch(head="language_model")
    assert classes["labels"].shape == (TINY.micro_batch_size,)
    assert torch.equal(causal["input_ids"], classes["input_ids"])
    assert (masked["input_ids"] == IDS["[MASK]"]).sum() == (masked["labels"] != NOT_SCORED).sum() > 0
    restored = masked["labels"].where(masked["labels"] != NOT_SCORED, masked["input_ids"])
    assert torch.equal(restored, classes["input_ids"])


@pytest.mark.parametrize(
    ("path", "changes", "message"),
    [
        ("texts.csv", {"sequence_length": 1, "model_family": "gpt2"}, "sequence_length: .*; at least 2"),
        ("texts.csv", {}, r"plain: has no token \[MASK\] or <mask>; .*BERT"),
        ("short.csv", {"model_family": "gpt2"}, "short.csv:3: the text has 1 token, and 2 are"),
    ],
)
def test_what_a_language_model_cannot_learn_from_is_told(
    path: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    root = study_folder(tmp_path)
    save_tokenizer(root / "plain", ends=False, mask=False)
    (root / "short.csv").write_text("text\nit was good\ngood\nvery fine\nnot bad\n")
    configuration = text_configuration(head="language_model", data=TextData(path, "plain"), **changes)
    with pytest.raises(InputError, match=message):
        make_source(configuration, 0, CPU, root).global_batch(0, 0)
