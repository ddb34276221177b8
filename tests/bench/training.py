"""Trains a tiny model on several ranks and on one device, for tests that compare the two."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.strategies import STRATEGIES
from joulelaw.model.parallelism import FSDP_TP_DEGREE
from tests.bench.trial_ranks import TINY, run_ranks

FIVE_STEPS = Window(warmup_steps=2, min_steps=3)
SHARDED = [name for name, entry in STRATEGIES.items() if entry.needs_group]
RANKS = dict.fromkeys(SHARDED, 2) | {"fsdp_tp": 4}
TENSOR_PARALLEL = {"tp": RANKS["tp"], "fsdp_tp": FSDP_TP_DEGREE}


def spread(strategy: str, grad_accumulation: int = 1, **changes: Any) -> Configuration:
    """A configuration on this strategy's number of ranks."""
    ranks, degree = RANKS[strategy], TENSOR_PARALLEL.get(strategy, 1)
    shape = replace(TINY, strategy=strategy, gpu_count=ranks, tensor_parallel=degree)
    return replace(shape, grad_accumulation=grad_accumulation, **changes)


def alone(configuration: Configuration) -> Configuration:
    """The same global batch on one device."""
    sequences = configuration.data_parallel * configuration.micro_batch_size
    return replace(configuration.single_device(), micro_batch_size=sequences)


def trained(folder: Path, configuration: Configuration, scale_matters: bool = False) -> tuple[list[float], list[Any]]:
    """The global batch's loss in five steps, and what each rank kept (`train_and_keep`)."""
    folder.mkdir()
    spec = TrialSpec(configuration, seed=7, window=FIVE_STEPS)
    payload = {"trial": spec.to_dict(), "folder": str(folder), "scale_matters": scale_matters}
    outcomes = run_ranks(folder, "tests.bench.trial_ranks:train_and_keep", payload, configuration.gpu_count)
    assert [outcome.exit_status for outcome in outcomes] == [0] * len(outcomes), outcomes
    per_rank = [outcome.losses() for outcome in outcomes]
    group = configuration.tensor_parallel
    for first in range(0, len(per_rank), group):
        assert per_rank[first : first + group] == [per_rank[first]] * group, "tensor-parallel ranks have the same loss"
    losses = [sum(step) / len(step) for step in zip(*per_rank, strict=True)]
    return losses, [torch.load(folder / f"rank{rank}.pt") for rank in range(len(outcomes))]
