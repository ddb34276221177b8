"""A small file of labelled texts and a tokenizer of a dozen words, for tests."""

import csv
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from joulelaw.bench.spec.configuration import Configuration, TextData
from tests.bench.trial_ranks import TINY

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("a", "bad", "dull", "film", "fine", "good", "it", "not", "seen", "the", "very", "was")
IDS = {word: number for number, word in enumerate(SPECIAL + WORDS)}
DATA = TextData("texts.csv", "tokenizer")


def save_tokenizer(folder: Path, *, ends: bool = True, mask: bool = True) -> Path:
    """A fast tokenizer's folder: a word a token, [CLS] before and [SEP] after if `ends`."""
    words = {word: number for word, number in IDS.items() if mask or word != "[MASK]"}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    if ends:
        marks = [("[CLS]", IDS["[CLS]"]), ("[SEP]", IDS["[SEP]"])]
        tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_csv(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """A CSV file, the header being its first row."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def reviews(count: int, longest: int = 20) -> list[tuple[str, str]]:
    """Seeded texts of 1 to `longest` words, most of them short: a good one says so in its first word."""
    draw = random.Random(count)
    filler = [word for word in WORDS if word not in ("good", "bad")]
    labels = ["good" if number % 2 else "bad" for number in range(count)]
    return [(" ".join([label, *draw.choices(filler, k=int(longest * draw.random() ** 3))]), label) for label in labels]


def study_folder(folder: Path, count: int = 24) -> Path:
    """The sweep's folder: texts.csv and a tokenizer beside it."""
    save_tokenizer(folder / "tokenizer")
    write_csv(folder / "texts.csv", [("text", "label"), *reviews(count)])
    return folder


def text_configuration(**changes: Any) -> Configuration:
    """A tiny configuration that trains on that file."""
    return replace(TINY, **{"data": DATA, **changes})
