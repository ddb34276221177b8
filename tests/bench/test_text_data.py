"""Batches of the user's texts: the same for any number of ranks, padded to each rank's own longest, exactly counted."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Replace

from joulelaw import InputError
from joulelaw.bench.data.batches import EPOCH_STEPS, PADDING, Batch, Epoch, share_of
from joulelaw.bench.data.text_data import LabelledText
from joulelaw.bench.data.text_file import read_text_file
from joulelaw.bench.data.text_input import load_tokenizer
from joulelaw.bench.spec.configuration import Configuration, TextData, TrialSpec, Window
from tests.bench.texts import DATA, IDS, reviews, save_tokenizer, study_folder, text_configuration, write_csv
from tests.bench.trial_ranks import TINY, Outcome, run_trial

pytestmark = pytest.mark.xdist_group("ranks")

CPU = torch.device("cpu")
ROWS = 24
WORDS_OF_ID = {number: word for word, number in IDS.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_folder(tmp_path_factory.mktemp("study"), ROWS)


def source(root: Path, ranks: int = 1, seed: int = 3, **changes: Any) -> LabelledText:
    configuration = text_configuration(**changes)
    return LabelledText.of(configuration, configuration.data or DATA, ranks, seed, CPU, root)


def texts_of(batch: Batch) -> list[tuple[str, str]]:
    """Words and label of each sequence, without special tokens and padding."""
    found = []
    for ids, mask, label in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
        assert ids[mask == 0].tolist() == [PADDING] * int((mask == 0).sum())
        words = [WORDS_OF_ID[int(number)] for number in ids[mask == 1]]
        assert (words[0], words[-1]) == ("[CLS]", "[SEP]")
        found.append((" ".join(words[1:-1]), ["bad", "good"][label]))
    return found


def test_a_pass_over_the_file_has_each_row_once_and_the_next_another_order(root: Path) -> None:
    """Six micro-batches of four rows: three steps of two micro-steps. Texts are cut to 14 words and two ends."""
    batches = source(root, micro_batch_size=4, grad_accumulation=2)
    passes = [
        [row for step in steps for micro in (0, 1) for row in texts_of(batches.global_batch(step, micro))]
        for steps in (range(3), range(3, 6))
    ]
    expected = Counter((" ".join(text.split()[:14]), label) for text, label in reviews(ROWS))
    assert [Counter(rows) for rows in passes] == [expected, expected]
    assert passes[0] != passes[1]
    assert any(len(text.split()) > 14 for text, _ in reviews(ROWS)), "some text is cut"


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_together_see_what_one_device_sees(ranks: int, root: Path) -> None:
    whole = source(root, micro_batch_size=8).global_batch(step=5, micro=0)
    spread = source(root, ranks, micro_batch_size=8 // ranks).global_batch(step=5, micro=0)
    shares = [share_of(spread, rank, ranks) for rank in range(ranks)]
    assert [row for share in shares for row in texts_of(share)] == texts_of(whole)
    for share in shares:
        assert share["attention_mask"].any(0).all(), "no column is padding alone"
    assert len({share["input_ids"].shape[1] for share in shares}) > 1


def test_the_order_of_a_pass_is_drawn_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(torch, "randperm", lambda n, **how: drawn.append(n) or torch.arange(n))
    batches = source(root, micro_batch_size=4)
    assert [batches.rows(step, 0)[0] for step in range(12)] == [0, 4, 8, 12, 16, 20] * 2
    assert drawn == [ROWS, ROWS], "two passes"


def test_a_batch_depends_on_file_seed_step_and_micro_step_alone(root: Path) -> None:
    first = texts_of(source(root).global_batch(0, 0))
    torch.manual_seed(99)
    assert texts_of(source(root).global_batch(0, 0)) == first
    others = [source(root).global_batch(1, 0), source(root, seed=4).global_batch(0, 0)]
    others.append(source(root, grad_accumulation=2).global_batch(0, 1))
    assert all(texts_of(other) != first for other in others)


@settings(deadline=None, max_examples=50)
@given(
    words=st.lists(st.integers(1, 20), min_size=6, max_size=14),
    length=st.integers(3, 18),
    ranks=st.sampled_from([1, 2, 3]),
    micro_steps=st.integers(1, 2),
    first=st.integers(0, 40),
    count=st.integers(0, 40),
)
def test_true_and_padded_tokens_are_those_of_a_count_by_hand(
    words: list[int],
    length: int,
    ranks: int,
    micro_steps: int,
    first: int,
    count: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """By hand: words of each text as split at spaces, two special tokens, cut, padded to the rank's longest."""
    folder = tmp_path_factory.mktemp("counts")
    save_tokenizer(folder / "tokenizer")
    rows = [(" ".join(["film"] * number), str(row % 2)) for row, number in enumerate(words)]
    write_csv(folder / "texts.csv", [("text", "label"), *rows])
    sizes = {"micro_batch_size": 2, "grad_accumulation": micro_steps, "sequence_length": length}
    batches = source(folder, ranks, **sizes)
    epochs = [Epoch(batches, rank, ranks, micro_steps) for rank in range(ranks)]
    true, padded = [0] * ranks, [0] * ranks
    for step in range(first, first + count):
        for micro in range(micro_steps):
            seen = batches.rows(step % EPOCH_STEPS, micro)
            lengths = [min(words[row] + 2, length) for row in seen]
            for rank in range(ranks):
                own = lengths[2 * rank : 2 * rank + 2]
                true[rank] += sum(own)
                padded[rank] += 2 * max(own)
    assert [epoch.tokens(first, count) for epoch in epochs] == list(zip(true, padded, strict=True))


def test_tokens_are_those_of_transformers_own_loader(tmp_path: Path) -> None:
    """From a folder that save_pretrained wrote, special tokens and truncation included."""
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    study_folder(tmp_path)
    plain = Tokenizer.from_file(str(tmp_path / "tokenizer" / "tokenizer.json"))
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(tmp_path / "saved")
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved", local_files_only=True)
    texts = read_text_file(tmp_path / "texts.csv").texts
    expected = theirs(texts, truncation=True, max_length=TINY.sequence_length)["input_ids"]
    batches = source(tmp_path, data=TextData("texts.csv", "saved"), micro_batch_size=ROWS)
    batch = batches.global_batch(0, 0)
    found = [ids[mask == 1].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch_size": 25}, "texts.csv: 24 rows, but a micro-batch of all ranks takes 25; .*micro_batch_size"),
        ({"gpu_count": 2, "micro_batch_size": 13}, "24 rows, but a micro-batch of all ranks takes 26"),
        ({"num_labels": 3}, r"texts.csv: 2 classes \('bad', 'good'\), but num_labels is 3; num_labels: 2"),
        ({"vocab_size": 16}, "tokenizer: has token ids up to 16, but vocab_size is 16; vocab_size: 17 or more"),
        ({"sequence_length": 2}, "tokenizer: adds 2 special tokens .*; sequence_length: 3 or more"),
        ({"data": replace(DATA, sha256="0" * 64)}, r"texts.csv: has changed .* planned 000000000000…; put"),
        ({"data": replace(DATA, tokenizer="none")}, "none: no such tokenizer; a folder written by"),
        ({"data": replace(DATA, tokenizer="slow")}, "slow: no tokenizer.json in the folder; .*fast"),
        ({"data": replace(DATA, tokenizer="texts.csv")}, "texts.csv: is not a tokenizer: .*; save it anew"),
        ({"data": replace(DATA, label_column="stars")}, "texts.csv:1: no column 'stars'"),
    ],
)
def test_data_that_does_not_fit_the_configuration_is_told(changes: dict[str, Any], message: str, root: Path) -> None:
    (root / "slow").mkdir(exist_ok=True)
    with pytest.raises(InputError, match=message):
        source(root, **changes)


def test_the_planned_file_and_a_single_tokenizer_file_are_taken(root: Path) -> None:
    planned = read_text_file(root / "texts.csv").sha256
    data = TextData("texts.csv", "tokenizer/tokenizer.json", sha256=planned)
    assert texts_of(source(root, data=data).global_batch(0, 0)) == texts_of(source(root).global_batch(0, 0))


def test_a_text_without_a_token_is_told_with_its_line(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer", ends=False)
    tokenizer = load_tokenizer(tmp_path / "tokenizer")
    tokenizer.normalizer = Replace("#", "")
    tokenizer.save(str(tmp_path / "tokenizer" / "tokenizer.json"))
    write_csv(tmp_path / "texts.csv", [("text", "label"), ("good", "1"), ("##", "0"), ("bad", "0"), ("bad", "0")])
    with pytest.raises(InputError, match=r"texts.csv:3: the text has 0 tokens, and 1 are the fewest"):
        source(tmp_path).global_batch(0, 0)


def trained(root: Path, folder: Path, configuration: Configuration) -> tuple[list[float], list[Outcome]]:
    """The global batch's loss in six steps, the first four of them warm-up, and what each rank said."""
    folder.mkdir()
    outcomes = run_trial(folder, TrialSpec(configuration, seed=7, window=Window(warmup_steps=4, min_steps=2)), root)
    assert [outcome.exit_status for outcome in outcomes] == [0] * configuration.gpu_count, outcomes
    losses = [sum(step) / len(step) for step in zip(*(outcome.losses() for outcome in outcomes), strict=True)]
    return losses, outcomes


@pytest.mark.parametrize(
    ("strategy", "family", "grad_accumulation"),
    [("ddp", "bert", 1), ("ddp", "bert", 2), ("ddp", "gpt2", 1), ("fsdp", "gpt2", 2), ("tp", "bert", 1)],
)
def test_two_ranks_equal_one_device_on_the_users_texts(
    strategy: Any, family: str, grad_accumulation: int, root: Path, tmp_path: Path
) -> None:
    """Though data-parallel ranks are padded each in its own way. Tensor-parallel ranks have one batch."""
    sizes = {"tensor_parallel": 2 if strategy == "tp" else 1, "grad_accumulation": grad_accumulation}
    spread = text_configuration(strategy=strategy, model_family=family, gpu_count=2, **sizes)
    alone = replace(spread.single_device(), micro_batch_size=spread.data_parallel * spread.micro_batch_size)
    losses, outcomes = trained(root, tmp_path / "spread", spread)
    expected, single = trained(root, tmp_path / "alone", alone)
    assert losses == pytest.approx(expected, rel=1e-4)
    done, (whole,) = [outcome.one("done") for outcome in outcomes], [outcome.one("done") for outcome in single]
    counts = [(each["tokens"], each["padded_tokens"]) for each in done]
    if strategy == "tp":
        assert counts == [(whole["tokens"], whole["padded_tokens"])] * 2
    else:
        true, padded = map(sum, zip(*counts, strict=True))
        assert true == whole["tokens"]
        assert true < padded < whole["padded_tokens"]


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_two_ranks_of_a_language_model_equal_one_device_on_long_texts(family: str, tmp_path: Path) -> None:
    """All are cut to the sequence length: each rank scores as many tokens."""
    save_tokenizer(tmp_path / "tokenizer")
    rows = [(f"{text} {'it was not seen ' * 4}",) for text, _ in reviews(ROWS)]
    write_csv(tmp_path / "texts.csv", [("text",), *rows])
    spread = text_configuration(strategy="ddp", gpu_count=2, model_family=family, head="language_model")
    losses, outcomes = trained(tmp_path, tmp_path / "spread", spread)
    alone = replace(spread.single_device(), micro_batch_size=2 * spread.micro_batch_size)
    expected, _ = trained(tmp_path, tmp_path / "alone", alone)
    assert losses == pytest.approx(expected, rel=1e-4)
    assert losses[0] == pytest.approx(math.log(TINY.vocab_size), rel=0.2), "every token as likely as any other"
    assert all(outcome.one("done")["tokens"] == outcome.one("done")["padded_tokens"] for outcome in outcomes)


def test_the_window_counts_its_own_tokens_only(root: Path, tmp_path: Path) -> None:
    """Two ranks with one text each have nothing to pad. The first step is warm-up."""
    configuration = text_configuration(strategy="ddp", gpu_count=2, micro_batch_size=1)
    spec = TrialSpec(configuration, window=Window(warmup_steps=1, min_steps=12))
    done = [outcome.one("done") for outcome in run_trial(tmp_path, spec, root)]
    seen = source(root, 2, seed=0, micro_batch_size=1)
    texts = [seen.file.texts[row] for step in range(1, 13) for row in seen.rows(step, 0)]
    by_hand = sum(min(len(text.split()) + 2, TINY.sequence_length) for text in texts)
    assert sum(each["tokens"] for each in done) == sum(each["padded_tokens"] for each in done) == by_hand
