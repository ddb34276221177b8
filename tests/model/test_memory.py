"""Bytes held: states are the papers', and the predicted peak is that of the live tensors of a training step."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertForSequenceClassification

from joulelaw.model import memory
from tests.model.rows import BERT_BASE, count


@pytest.mark.parametrize(
    ("stage", "per_parameter"), [(1, lambda N: 4 + 12 / N), (2, lambda N: 2 + 14 / N), (3, lambda N: 16 / N)]
)
def test_zero_states_at_16_bits_are_the_papers(stage: int, per_parameter: Any) -> None:
    psi = np.array(1e6)
    states = memory.zero_states(stage, psi, p=np.array(2.0), N=np.array(8.0))
    assert (states.always + states.gradients) / psi == pytest.approx(per_parameter(8))


def test_replicated_and_fsdp_states_are_16_bytes_a_parameter() -> None:
    psi, zero = np.array(1e6), np.array(0.0)
    for states, held in (
        (memory.replicated_states(psi, cast=zero), 16),
        (memory.fsdp_states(psi, root=zero, layer=zero, p=np.array(4.0), N=np.array(4.0)), 4),
    ):
        assert (states.always + states.gradients) / psi == pytest.approx(held)


class LiveTensors(TorchDispatchMode):
    """The most bytes of tensor storage alive at once, watched at every operation."""

    def __init__(self) -> None:
        super().__init__()
        self._live: dict[int, int] = {}
        self._now = self.peak = 0

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._live:
            self._live[storage._cdata] = storage.nbytes()
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._gone, storage._cdata)

    def _gone(self, key: int) -> None:
        self._now -= self._live.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return result


def peak_of_training(attention: str, precision: str, micro_steps: int, sizes: dict[str, int]) -> int:
    config = BertConfig(
        num_hidden_layers=sizes["num_layers"],
        hidden_size=sizes["hidden_size"],
        num_attention_heads=sizes["num_heads"],
        intermediate_size=sizes["intermediate_size"],
        vocab_size=sizes["vocab_size"],
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation=attention,
    )
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    shape = (sizes["micro_batch_size"], sizes["sequence_length"])
    with LiveTensors() as live:
        for parameter in model.parameters():
            live.see(parameter)
        tokens, labels = torch.randint(sizes["vocab_size"], shape), torch.zeros(shape[0], dtype=torch.long)
        for _ in range(2):
            for _ in range(micro_steps):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                    loss = model(input_ids=tokens, labels=labels).loss
                loss.backward()
                del loss
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return live.peak


@pytest.mark.parametrize(
    ("attention", "precision", "micro_steps", "batch", "vocabulary"),
    [
        ("sdpa", "fp32", 1, 8, 500),  # activations rule
        ("eager", "fp32", 2, 8, 500),
        ("sdpa", "bf16", 2, 8, 500),
        ("sdpa", "fp32", 1, 1, 9000),  # states rule
        ("sdpa", "fp32", 2, 1, 9000),
    ],
)
def test_predicted_memory_is_the_peak_of_live_tensors(
    attention: str, precision: str, micro_steps: int, batch: int, vocabulary: int
) -> None:
    sizes = {
        "num_layers": 4,
        "hidden_size": 128,
        "num_heads": 4,
        "intermediate_size": 512,
        "vocab_size": vocabulary,
        "sequence_length": 128,
        "micro_batch_size": batch,
    }
    row = count(attention=attention, precision=precision, grad_accumulation=micro_steps, **sizes)
    measured = peak_of_training(attention, precision, micro_steps, sizes)
    assert row["memory_bytes_per_device"] == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize("strategy", ["fsdp", "zero1", "zero2", "zero3"])
def test_more_devices_hold_less_each(strategy: str) -> None:
    held = [count(strategy=strategy, gpu_count=n, **BERT_BASE)["memory_bytes_per_device"] for n in (2, 4, 8)]
    assert held[0] > held[1] > held[2]


def test_fsdp_holds_less_than_a_replica_and_ddp_no_less() -> None:
    single = count(**BERT_BASE)["memory_bytes_per_device"]
    assert count(strategy="fsdp", gpu_count=2, **BERT_BASE)["memory_bytes_per_device"] < single
    assert count(strategy="ddp", gpu_count=2, **BERT_BASE)["memory_bytes_per_device"] >= single
