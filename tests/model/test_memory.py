"""Bytes held: states are the papers', and the predicted peak is that of the live tensors of a training step."""

import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertForSequenceClassification
from transformers.pytorch_utils import Conv1D

from joulelaw.model import states
from joulelaw.model.architecture import Shape
from joulelaw.model.group import Group
from joulelaw.model.states import Holding
from tests.model.hugging_face import MODELS, SIZES, model_of, shape_of
from tests.model.rows import BERT_BASE, count


def holding(ranks: int, element_bytes: float, shape: Shape) -> Holding:
    """One micro-step on GPUs, without autocast."""
    no = np.array(False)
    group = Group(shape, np.array(float(ranks)), np.array(1.0), np.array(element_bytes), no, no, no, no)
    return Holding(group, several=no, on_cpu=no)


def layers_only(number: int) -> Shape:
    """A model whose embeddings are next to nothing beside its layers."""
    sizes = {"hidden_size": 512, "num_heads": 8, "intermediate_size": 2048, "vocab_size": 1, "positions": 1}
    return Shape.of("gpt2", num_layers=number, sequence_length=1, micro_batch_size=1, **sizes)


@pytest.mark.parametrize(
    ("stage", "per_parameter"), [(1, lambda N: 2 + 12 / N), (2, lambda N: 2 + 12 / N), (3, lambda N: 16 / N)]
)
def test_zero_keeps_at_16_bits_what_the_paper_says(stage: int, per_parameter: Any) -> None:
    """Less the gradients of stages 1 and 2, which DeepSpeed holds in its buckets; stage 3's bucket stays besides."""
    held = holding(8, 2.0, layers_only(4))
    bucket = 2 * 5e8 if stage == 3 else 0
    always = states.zero(stage, held).always - bucket
    assert always / held.group.psi == pytest.approx(per_parameter(8))


def test_a_replica_and_fsdp_hold_16_bytes_a_parameter() -> None:
    alone, sharded = holding(1, 4.0, layers_only(400)), holding(4, 4.0, layers_only(400))
    for held, of, expected in ((alone, states.replicated(alone), 16), (sharded, states.fsdp(sharded), 4)):
        assert (of.always + of.end) / held.group.psi == pytest.approx(expected, rel=0.01)


def test_what_only_a_cpu_holds_is_not_asked_of_a_gpu() -> None:
    """Dropout's masks in fp32, and the scores that its fused attention then keeps; gloo's copies."""
    tokens, sizes = 16 * 128, BERT_BASE | {"micro_batch_size": 16, "sequence_length": 128, "hidden_size": 768}

    def more_on_a_cpu(**changes: Any) -> float:
        cpu, gpu = (count(**sizes | changes | on) for on in ({}, {"gpu_model": "NVIDIA A100-SXM4-40GB"}))
        return float(cpu["memory_bytes_per_device"] - gpu["memory_bytes_per_device"])

    masks, scores = 12 * 2 * 768 * (4 - 1) + 768 * 4, 12 * (12 * 128 * 3 * 4 - 12 * 4)
    assert more_on_a_cpu() == 0
    assert more_on_a_cpu(dropout=0.1) == tokens * (masks + scores)
    assert more_on_a_cpu(strategy="fsdp", gpu_count=2, micro_batch_size=1, grad_accumulation=1) > 0


def test_deepspeeds_bucket_is_whole_on_a_gpu_however_small_the_model() -> None:
    for stage in ("zero1", "zero2", "zero3"):
        assert count(strategy=stage, gpu_model="NVIDIA A100-SXM4-40GB")["memory_bytes_per_device"] > 4 * 5e8


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(("family", "head"), MODELS)
def test_autocast_casts_the_weights_of_products(family: str, head: str, sizes: tuple[int, ...]) -> None:
    """A language model's decoder too, though its weight is that of the embeddings, which are not cast."""
    model = model_of(family, head, sizes)
    products = (module for module in model.modules() if isinstance(module, torch.nn.Linear | Conv1D))
    no, one = np.array(False), np.array(1.0)
    group = Group(shape_of(family, head, sizes), one, one, 2 * one, ~no, no, no, no)
    assert group.cast(group.shape.num_layers) == sum(p.numel() for module in products for p in module.parameters())


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
