"""Every rank's peak of memory is what the closed form said before the trial: real ranks, through their own entry."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from joulelaw.bench.plan.price import counted
from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.training.precision import TRAINABLE
from joulelaw.bench.training.rank_state import claim_device, memory_bytes, reset_peak_memory, return_freed_memory
from joulelaw.cluster.ranks.rank import RankContext
from joulelaw.model.hardware import Catalogue
from tests.bench.trial_ranks import TINY, run_ranks, run_trial
from tests.evidence import record
from tests.model.rows import CPU

pytestmark = pytest.mark.xdist_group("ranks")

# What a rank holds beside tensors (kernels' scratch, gloo, DeepSpeed's and DTensor's objects) is 5 to 20 MB: a tenth
# of these.
PARAMETERS: dict[str, Any] = {
    "num_layers": 3,
    "hidden_size": 384,
    "num_heads": 6,
    "intermediate_size": 1536,
    "vocab_size": 30522,
    "sequence_length": 32,
    "micro_batch_size": 1,
}
LAYERS = PARAMETERS | {"num_layers": 10, "vocab_size": 1000}
ACTIVATIONS = PARAMETERS | {
    "num_layers": 4,
    "hidden_size": 256,
    "num_heads": 4,
    "intermediate_size": 1024,
    "vocab_size": 2000,
    "sequence_length": 128,
    "micro_batch_size": 24,
}
SCORES = ACTIVATIONS | {"num_layers": 3, "num_heads": 8, "sequence_length": 384, "micro_batch_size": 5}
# The first step builds what later ones keep (optimizer states, buckets), the second DDP's buckets anew.
WINDOW = Window(warmup_steps=1, min_steps=1)
TOLERANCE = 0.2
OPTIONS = {"activation_checkpointing", "attention", "dropout", "grad_accumulation", "head"}


def predicted_bytes(configuration: Configuration) -> int:
    device = replace(CPU, peak_flop_per_s=dict.fromkeys(TRAINABLE["cpu"], 1e11))
    catalogue = Catalogue({device.name: device})
    return round(counted([replace(configuration, gpu_model=CPU.name)], catalogue)[0]["memory_bytes_per_device"])


@pytest.mark.parametrize(
    ("strategy", "ranks", "sizes", "changes"),
    [
        ("single", 1, PARAMETERS, {"grad_accumulation": 2}),
        ("single", 1, ACTIVATIONS, {"dropout": 0.1, "precision": "bf16"}),
        ("single", 1, ACTIVATIONS, {"activation_checkpointing": True, "model_family": "gpt2"}),
        ("single", 1, SCORES, {"attention": "eager", "model_family": "gpt2", "precision": "bf16"}),
        ("single", 1, PARAMETERS, {"head": "language_model", "micro_batch_size": 16}),
        ("single", 1, PARAMETERS, {"head": "language_model", "micro_batch_size": 16, "precision": "bf16"}),
        ("ddp", 2, PARAMETERS, {"grad_accumulation": 2}),
        ("ddp", 2, ACTIVATIONS, {}),
        ("fsdp", 2, PARAMETERS, {"grad_accumulation": 2, "precision": "bf16"}),
        ("fsdp", 2, LAYERS, {}),
        ("fsdp", 2, ACTIVATIONS, {}),
        ("tp", 2, PARAMETERS, {"tensor_parallel": 2}),
        ("fsdp_tp", 4, PARAMETERS, {"tensor_parallel": 2}),
        ("zero1", 2, PARAMETERS, {"precision": "bf16"}),
        ("zero2", 2, PARAMETERS, {"grad_accumulation": 2}),
        ("zero2", 2, ACTIVATIONS, {}),
        ("zero3", 2, PARAMETERS, {"precision": "bf16"}),
        ("zero3", 2, ACTIVATIONS, {}),
    ],
)
def test_peak_memory_is_predicted_within_a_fifth(
    strategy: Any, ranks: int, sizes: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    configuration = replace(TINY, strategy=strategy, gpu_count=ranks, **sizes | changes)
    done = [each.one("done") for each in run_trial(tmp_path, TrialSpec(configuration, window=WINDOW))]
    measured, predicted = max(_held(each) for each in done), predicted_bytes(configuration)
    record(
        "memory",
        strategy=strategy,
        ranks=ranks,
        model=f"{configuration.model_family}, {done[0]['num_parameters'] / 1e6:.0f}M",
        tokens=configuration.sequence_length * configuration.micro_batch_size,
        precision=configuration.precision,
        options=", ".join(f"{name.replace('_', ' ')} {changes[name]}" for name in sorted(changes.keys() & OPTIONS)),
        measured_bytes=measured,
        predicted_bytes=predicted,
    )
    assert predicted == pytest.approx(measured, rel=TOLERANCE)


def _held(done: dict[str, Any]) -> int:
    return int(done["peak_memory_bytes"] - done["base_memory_bytes"])


def fill_and_free(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: what the rank holds before, with and after tensors of 1 to 8 MB, and the peak."""
    device = claim_device(context)
    return_freed_memory()
    before = memory_bytes(device)
    held: list[torch.Tensor] = []
    for _ in range(3):  # glibc by itself would keep what is freed, from the second time on
        held = [torch.ones(size << 18) for size in range(1, 9)]
        held.clear()
    reset_peak_memory(device)
    held = [torch.ones(size << 18) for size in range(1, 9)]
    full = memory_bytes(device)
    del held[::2]
    half = memory_bytes(device)
    peak = memory_bytes(device, peak=True)
    context.emit({"kind": "held", "full": full - before, "half": half - before, "peak": peak - before})


def test_what_a_rank_frees_is_no_longer_held(tmp_path: Path) -> None:
    held = run_ranks(tmp_path, "tests.bench.test_peak_memory:fill_and_free", {})[0].one("held")
    noise = 2**20
    assert held["full"] == pytest.approx(36 * 2**20, abs=noise)
    assert held["half"] == pytest.approx(20 * 2**20, abs=noise)
    assert held["peak"] == pytest.approx(held["full"], abs=noise)
