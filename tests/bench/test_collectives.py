"""Collectives and bytes that are counted in closed form equal those that real ranks make, call by call.

Three observers: torch's CommDebugMode counts calls, a dispatch mode adds up the bytes of their tensors, and DeepSpeed
keeps its own log. Nothing is left out: padding and single numbers are counted too.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from joulelaw.bench.spec.configuration import Configuration, TrialSpec
from joulelaw.model import zero
from joulelaw.model.hardware import Catalogue
from joulelaw.model.parallelism import counts
from tests.bench.trial_ranks import TINY, run_ranks
from tests.evidence import record
from tests.model.rows import CPU

pytestmark = pytest.mark.xdist_group("ranks")

DEVICE = replace(CPU, name=TINY.gpu_model, peak_flop_per_s=dict.fromkeys(("fp32", "bf16", "fp16"), 1e9))
RANKS = {"ddp": 2, "fsdp": 2, "tp": 2, "fsdp_tp": 4, "zero1": 2, "zero2": 2, "zero3": 2}
FAMILIES = ("bert", "gpt2")
ZERO = ("zero1", "zero2", "zero3")
# Nothing that two or four ranks divide.
UNEVEN = {"num_labels": 3, "vocab_size": 257, "sequence_length": 15}
# Enough for three of DDP's buckets, which whole tensors overfill.
THREE_BUCKETS = {"num_layers": 3, "hidden_size": 512, "intermediate_size": 2048, "vocab_size": 2000}
# ZeRO-3 keeps tensors of up to 1e5 elements whole: these are above and below.
WIDE = {"hidden_size": 384, "intermediate_size": 384}


def spread(strategy: str, family: str, **changes: Any) -> Configuration:
    ranks = changes.pop("gpu_count", RANKS[strategy])
    degree = {"tp": ranks, "fsdp_tp": 2}.get(strategy, 1)
    base = replace(TINY, gpu_count=ranks, strategy=strategy, model_family=family, micro_batch_size=2)
    return replace(base, tensor_parallel=degree, **changes)


def predicted(configuration: Configuration) -> tuple[float, float]:
    """Calls and bytes of a rank's step, from the closed forms."""
    row = counts(pd.DataFrame([configuration.to_dict()]), Catalogue({DEVICE.name: DEVICE})).iloc[0]
    k = configuration.grad_accumulation
    calls, sent = (
        k * row[f"{name}_per_micro_step"] + row[f"{name}_per_step"] for name in ("collectives", "comm_bytes")
    )
    return calls, sent


def check(folder: Path, configuration: Configuration, deepspeed: dict[str, Any] | None = None) -> None:
    payload = {"trial": TrialSpec(configuration).to_dict(), "zero": deepspeed or {}}
    outcomes = run_ranks(folder, "tests.bench.recorded:record_step", payload, configuration.gpu_count)
    calls, sent = predicted(configuration)
    for outcome in outcomes:
        seen = outcome.one("recorded")
        assert (seen["debug_calls"], seen["calls"], seen["sent_bytes"]) == (calls, calls, sent)
        if configuration.strategy in ZERO:
            assert deepspeeds(seen["logged"], configuration.gpu_count) == (calls, sent)
    record(
        "collectives",
        strategy=configuration.strategy,
        model=f"{configuration.model_family}, {configuration.head.replace('_', ' ')}",
        ranks=configuration.gpu_count,
        precision=configuration.precision,
        grad_accumulation=configuration.grad_accumulation,
        checkpointing=configuration.activation_checkpointing,
        calls=seen["debug_calls"],
        calls_predicted=int(calls),
        bytes=int(seen["sent_bytes"]),
        bytes_predicted=int(sent),
    )


def deepspeeds(logged: list[list[Any]], ranks: int) -> tuple[int, float]:
    """Calls, and bytes that rings send, of DeepSpeed's log: it notes a rank's part of a gather, else the whole."""
    wholes = {"all_reduce": 2, "reduce_scatter_tensor": 1, "all_gather_into_tensor": ranks}
    sent = sum(wholes[operation] * (ranks - 1) / ranks * size * count for operation, size, count in logged)
    return sum(count for *_, count in logged), sent


@pytest.mark.parametrize(("precision", "k"), [("fp32", 1), ("bf16", 2)])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", RANKS)
def test_a_step_communicates_what_is_counted(
    strategy: str, family: str, precision: Any, k: int, tmp_path: Path
) -> None:
    check(tmp_path, spread(strategy, family, precision=precision, grad_accumulation=k))


@pytest.mark.parametrize("strategy", RANKS)
def test_fp16_agrees_on_overflow_once_a_step(strategy: str, tmp_path: Path) -> None:
    check(tmp_path, spread(strategy, "bert", precision="fp16", grad_accumulation=2))


@pytest.mark.parametrize(
    ("strategy", "family"),
    [
        *(("ddp", "bert"), ("fsdp", "bert"), ("fsdp", "gpt2"), ("tp", "gpt2")),
        *(("zero1", "bert"), ("zero2", "bert"), ("zero3", "bert"), ("zero3", "gpt2")),
    ],
)
def test_four_ranks_that_divide_nothing(strategy: str, family: str, tmp_path: Path) -> None:
    """Every rank's part is padded, and (N-1)/N is no longer a half."""
    heads = {"num_heads": 4} if strategy == "tp" else {}
    check(tmp_path, spread(strategy, family, gpu_count=4, **UNEVEN, **heads))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tp", "zero3"])
def test_a_language_models_head(strategy: str, family: str, tmp_path: Path) -> None:
    check(tmp_path, spread(strategy, family, head="language_model", **UNEVEN))


@pytest.mark.parametrize(
    ("strategy", "family", "dropout"),
    [
        *(("tp", "bert", 0.0), ("tp", "gpt2", 0.0), ("tp", "gpt2", 0.1), ("fsdp_tp", "gpt2", 0.0)),
        *(("ddp", "gpt2", 0.0), ("fsdp", "bert", 0.0), ("zero3", "gpt2", 0.0)),
    ],
)
def test_checkpointing_repeats_collectives_only_under_tensor_parallelism(
    strategy: str, family: str, dropout: float, tmp_path: Path
) -> None:
    check(tmp_path, spread(strategy, family, activation_checkpointing=True, dropout=dropout, grad_accumulation=2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", FAMILIES)
def test_ddp_cuts_large_models_into_the_buckets_that_are_counted(family: str, precision: Any, tmp_path: Path) -> None:
    configuration = spread("ddp", family, precision=precision, **THREE_BUCKETS)
    assert predicted(configuration)[0] >= 3
    check(tmp_path, configuration)


@pytest.mark.parametrize("family", FAMILIES)
def test_zero3_gathers_large_tensors_ahead_and_small_ones_once(family: str, tmp_path: Path) -> None:
    check(tmp_path, spread("zero3", family, grad_accumulation=2, **WIDE))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("strategy", ZERO)
def test_deepspeeds_buckets_of_large_models_at_a_smaller_scale(
    strategy: str, family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limits and ours made smaller alike: with the real ones, models of 5e8 parameters would be needed."""
    bucket, prefetch, persistent = 40_000, 3_000, 500  # no tensor is larger than a bucket
    monkeypatch.setattr(zero, "ZERO_BUCKET", bucket)
    monkeypatch.setattr(zero, "ZERO3_PREFETCH", prefetch)
    monkeypatch.setattr(zero, "ZERO3_PERSISTENT", persistent)
    limits = {"reduce_bucket_size": bucket, "stage3_prefetch_bucket_size": prefetch}
    check(
        tmp_path,
        spread(strategy, family, grad_accumulation=2),
        {**limits, "stage3_param_persistence_threshold": persistent},
    )
