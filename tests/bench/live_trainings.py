"""Tiny trainings of somebody's own, for tests: BERT on a CPU with one thread, its joules estimated at 10 W a core."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import BertConfig, BertForSequenceClassification

from joulelaw.bench.dataset.measurements import read_trials

CORE_W = 10.0
# Busy machines give a process its time in lots: a few readings a second would leave a short window uncertain.
METER: Mapping[str, Any] = {"meter": "estimate", "cpu_w_per_core": CORE_W, "rate_hz": 100.0}
VOCABULARY, LENGTH, BATCH = 1000, 32, 4
# A window of less is too short to be valid.
LEAST_S = 2.0


def tiny_bert(**settings: Any) -> BertForSequenceClassification:
    """2 layers, 64 wide: a step takes about 10 ms."""
    sizes = {"num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 2, "intermediate_size": 256}
    config = BertConfig(**sizes, vocab_size=VOCABULARY, **settings)
    return BertForSequenceClassification(config).train()


def batch(length: int = LENGTH, size: int = BATCH) -> dict[str, torch.Tensor]:
    ids = torch.randint(5, VOCABULARY, (size, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0] % 2}


class Texts(torch.utils.data.Dataset[dict[str, Any]]):
    """Sequences of one length, with labels."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._ids = torch.randint(5, VOCABULARY, (LENGTH,))
        self._mask = torch.ones(LENGTH, dtype=torch.long)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"input_ids": self._ids, "attention_mask": self._mask, "labels": number % 2}


@contextmanager
def one_thread() -> Iterator[None]:
    """On a busy machine several threads of one process wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(model: torch.nn.Module, optimizer: Any, run: Any, seconds: float = LEAST_S, warmup: int = 4) -> int:
    """Steps for so long after the warm-up, as a plain loop has them; how many they were."""
    steps, until_s, here = 0, float("inf"), batch()
    while time.monotonic() < until_s:
        model(**here).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.step()
        steps += 1
        until_s = time.monotonic() + seconds if steps == warmup + 1 else until_s
    return steps


def rows_of(folder: Path) -> pd.DataFrame:
    return read_trials(folder)
