"""Counted FLOPs equal torch's own counter on the models that trials train, operation for operation."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.workloads import load_workload
from joulelaw.model.architecture import FAMILIES
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts
from tests.bench.trial_ranks import TINY
from tests.evidence import record
from tests.model.rows import CPU

aten = torch.ops.aten
DEVICE = replace(CPU, name=TINY.gpu_model)


def stated(kernel: Any) -> Callable[..., int]:
    """What torch's counter states of a kernel, for another that takes the same arguments."""

    def formula(*args: Any, **kwargs: Any) -> int:
        return int(flop_registry[kernel](*args, **kwargs))

    formula._get_raw = True  # type: ignore[attr-defined]  # it takes tensors, as the counter's own formulas do
    return formula


# Of its fused CUDA kernels torch states FLOPs; of the CPU's it states nothing, and counts nothing.
FUSED_CPU = {
    aten._scaled_dot_product_flash_attention_for_cpu: stated(aten._scaled_dot_product_flash_attention),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: stated(
        aten._scaled_dot_product_flash_attention_backward
    ),
}
ATTENTION = {*FUSED_CPU, aten.bmm}
# Nothing square, nothing equal, no FFN of 4h.
SHAPES = [
    {
        "num_layers": 1,
        "hidden_size": 32,
        "num_heads": 2,
        "intermediate_size": 96,
        "vocab_size": 71,
        "sequence_length": 16,
    },
    {"num_layers": 3, "hidden_size": 48, "num_heads": 4, "intermediate_size": 80, "vocab_size": 130, "num_labels": 5},
    {
        "num_layers": 2,
        "hidden_size": 24,
        "num_heads": 3,
        "intermediate_size": 41,
        "vocab_size": 99,
        "sequence_length": 37,
    },
]
COUNTED: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "eager": nullcontext,
    "sdpa, math": lambda: sdpa_kernel(SDPBackend.MATH),
    "sdpa, fused": nullcontext,
}


def configured(family: str, head: Any, attention: str, **changes: Any) -> Configuration:
    asked: Any = attention.split(",")[0]
    return replace(TINY, model_family=family, head=head, attention=asked, micro_batch_size=3, **changes)


def counted_flop(
    configuration: Configuration, kernels: Callable[[], AbstractContextManager[Any]], fused: bool
) -> tuple[int, int]:
    """FLOPs of a micro-step's forward and backward pass, as torch counts them in the trial's own model.

    Raises:
        AssertionError: a pass whose attention was counted as nothing.
    """
    cpu = torch.device("cpu")
    torch.manual_seed(0)
    model = load_workload(configuration.model_family).build(configuration, cpu, Path()).module
    batch = make_source(configuration, 0, cpu, Path()).global_batch(0, 0)
    with counting(fused) as forward, kernels():
        loss = model(**batch).loss
    with counting(fused) as backward, kernels():
        loss.backward()
    return forward.get_total_flops(), backward.get_total_flops()


@contextmanager
def counting(fused: bool) -> Iterator[FlopCounterMode]:
    with FlopCounterMode(display=False, custom_mapping=FUSED_CPU if fused else {}) as counter:
        yield counter
    by_operation = counter.get_flop_counts()["Global"]
    assert sum(by_operation.get(operation, 0) for operation in ATTENTION) > 0, "attention was counted as nothing"


def closed_forms(configuration: Configuration) -> "pd.Series[float]":
    """The counts, of a table's row as a trial leaves it."""
    return counts(pd.DataFrame([configuration.to_dict()]), Catalogue({DEVICE.name: DEVICE})).iloc[0]


def check(configuration: Configuration, attention: str) -> tuple[int, int]:
    """That torch counts what the closed forms say, forward and backward; what it counted and what they say."""
    row = closed_forms(configuration)
    model_flop, hardware_flop = (int(row[f"{name}flop_per_micro_step"]) for name in ("", "hardware_"))
    if attention != "sdpa, fused":  # the row's attention is fused, the kernel asked for is not
        hardware_flop = model_flop + int(row["recomputed_flop_per_micro_step"])
    forward, backward = counted_flop(configuration, COUNTED[attention], fused=attention == "sdpa, fused")
    assert (forward, backward) == (model_flop // 3, hardware_flop - model_flop // 3)
    assert 3 * forward == model_flop
    return forward + backward, hardware_flop


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("attention", COUNTED)
@pytest.mark.parametrize("head", ["classification", "language_model"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_flops_equal_torchs_counter(family: str, head: str, attention: str, checkpointing: bool) -> None:
    for shape in SHAPES:
        asked = configured(family, head, attention, activation_checkpointing=checkpointing, **shape)
        counted, closed_form = check(asked, attention)
    record(
        "flops",
        model=family,
        head=head.replace("_", " "),
        attention=attention,
        checkpointing=checkpointing,
        counted=counted,
        closed_form=closed_form,
    )


@settings(max_examples=12, deadline=None)
@given(
    family=st.sampled_from(list(FAMILIES)),
    head=st.sampled_from(["classification", "language_model"]),
    attention=st.sampled_from(list(COUNTED)),
    checkpointing=st.booleans(),
    heads=st.integers(1, 4),
    head_width=st.integers(1, 9),
    sizes=st.fixed_dictionaries(
        {
            "num_layers": st.integers(1, 2),
            "intermediate_size": st.integers(1, 70),
            "vocab_size": st.integers(20, 90),
            "sequence_length": st.integers(2, 40),
            "num_labels": st.integers(2, 7),
        }
    ),
)
def test_flops_of_any_shape_equal_torchs_counter(
    family: str, head: str, attention: str, checkpointing: bool, heads: int, head_width: int, sizes: dict[str, int]
) -> None:
    width = {"num_heads": heads, "hidden_size": heads * head_width}
    asked = configured(family, head, attention, activation_checkpointing=checkpointing, **sizes, **width)
    check(asked, attention)


@pytest.mark.parametrize("family", list(FAMILIES))
def test_dropout_makes_checkpointing_compute_a_layers_last_product_again(family: str) -> None:
    """Eager attention: on CPUs SDPA has no fused kernel with dropout."""
    asked = {"activation_checkpointing": True, **SHAPES[1]}
    with_dropout = check(configured(family, "classification", "eager", dropout=0.1, **asked), "eager")[0]
    without = check(configured(family, "classification", "eager", **asked), "eager")[0]
    last = 2 * 3 * 3 * TINY.sequence_length * 48 * 80
    assert with_dropout - without == (0 if FAMILIES[family].norm_last else last)


def test_the_fused_kernel_of_cpus_is_counted_as_nothing_and_that_fails() -> None:
    """Without this check a count that is short by all of the attention would pass for one of a fused kernel."""
    asked = configured("bert", "classification", "sdpa", **SHAPES[0])
    with pytest.raises(AssertionError, match="attention was counted as nothing"):
        counted_flop(asked, nullcontext, fused=False)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.scaled_dot_product_attention(*(torch.rand(1, 2, 64, 16) for _ in range(3)))
    assert counter.get_total_flops() == 0, "torch counts it now: the formulas above are no longer needed"


def test_a_fused_backward_pass_runs_a_quarter_more_of_attentions_own() -> None:
    """BERT-base at s = 512, written out: 10Bs^2h a layer instead of 8."""
    base = {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "intermediate_size": 3072, "vocab_size": 30522}
    row = closed_forms(configured("bert", "classification", "sdpa", sequence_length=512, **base))
    assert row["hardware_flop_per_micro_step"] - row["flop_per_micro_step"] == 12 * 2 * 3 * 512**2 * 768
    eager = closed_forms(configured("bert", "classification", "eager", sequence_length=512, **base))
    assert eager["hardware_flop_per_micro_step"] == eager["flop_per_micro_step"] == row["flop_per_micro_step"]
