"""Every way to train: models x groups of devices x strategies x batches, as rows of the measurement table."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.training import Training, data_parallel_degree
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.parallelism import ELEMENT_BYTES, STRATEGIES

MOST = 2_000_000  # candidates; what cannot be is counted before it is left out
GROUP = ("gpu_model", "gpu_count", "node_count", "strategy", "tensor_parallel", "data_parallel")


@dataclass(frozen=True)
class Workload:
    """What is to be trained: models (a row each, with a name), on sequences of one length, for how long."""

    models: pd.DataFrame
    sequence_length: int
    training: Training
    global_batch: int | None = None
    """Sequences of an optimizer step, the same for every candidate: equal optimisation. None: whatever comes."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further columns that hold for every candidate: head, network_bytes_per_s, boundary, ..."""


@dataclass(frozen=True)
class Axes:
    """The ways to train that are crossed with each other."""

    gpu_model: Sequence[str]
    gpu_count: Sequence[int] = (1, 2, 4, 8)
    node_count: Sequence[int] = (1,)
    strategy: Sequence[str] = tuple(STRATEGIES)
    tensor_parallel: Sequence[int] = (2,)
    """Of fsdp_tp; tp splits each layer over all devices."""
    micro_batch_size: Sequence[int] = (1, 2, 4, 8, 16, 32, 64, 128)
    grad_accumulation: Sequence[int] | None = None
    """None: 1, 2, 4 and 8, or with a global batch what makes it up."""
    precision: Sequence[str] = tuple(ELEMENT_BYTES)
    activation_checkpointing: Sequence[bool] = (False, True)

    @classmethod
    def of_law(cls, fitted: FittedLaw) -> Self:
        """All that the law was fitted on or calibrated for, in the usual counts and batches.

        Raises:
            InputError: a law that was fitted on nothing.
        """
        ranges = fitted.provenance.ranges
        models = [str(each) for each in ranges.get("gpu_model", ())]
        if not models:
            raise InputError("the law was fitted on no device", where="--gpu-model", remedy="name GPU models")
        precisions = [each for each in ELEMENT_BYTES if each in ranges.get("precision", ())]
        return cls(gpu_model=models, precision=precisions or tuple(ELEMENT_BYTES))

    def with_(self, given: dict[str, Any]) -> Self:
        """These axes with others' values in place of theirs."""
        return replace(self, **{name: values for name, values in given.items() if values is not None})


AXES = tuple(each.name for each in fields(Axes))


def candidates(axes: Axes, workload: Workload) -> pd.DataFrame:
    """A row for each candidate, with model, data_parallel, global_batch and micro_steps of the whole training.

    What cannot be is left out: groups that a strategy cannot have, tensor parallelism that does not divide heads and
    FFN, batches that do not make up the global batch.

    Raises:
        InputError: nothing is left, or more than MOST would have to be looked at.
    """
    groups, batches = _groups(axes), _batches(axes, workload)
    total = len(groups) * len(batches) * len(workload.models)
    if total > MOST:
        raise InputError(f"{total:,} candidates", where="recommend", remedy=f"ask for at most {MOST:,}")
    table = _crossed(_crossed(workload.models, groups), batches)
    return finished(table, workload, asked=axes.grad_accumulation)


def finished(table: pd.DataFrame, workload: Workload, asked: Sequence[int] | None = None) -> pd.DataFrame:
    """Candidates with what follows from the workload; without those that do not go with it."""
    table = table.assign(sequence_length=workload.sequence_length, **workload.details)
    if workload.global_batch is not None:
        table = _of_global_batch(table, workload.global_batch, asked)
    degree = table["tensor_parallel"].to_numpy()
    divides = (table["num_heads"].to_numpy() % degree == 0) & (table["intermediate_size"].to_numpy() % degree == 0)
    if not divides.any():
        what = f"tensor parallelism over {degree.min()} divides neither heads nor FFN of any model"
        raise InputError(what, where="--tensor-parallel", remedy="ask for fewer devices, or for other strategies")
    table = table[divides].reset_index(drop=True)
    sizes = (table[name].to_numpy() for name in ("micro_batch_size", "grad_accumulation", "data_parallel"))
    batch, accumulation, ranks = sizes
    return table.assign(
        global_batch=batch * accumulation * ranks, micro_steps=workload.training.micro_steps(batch, accumulation, ranks)
    )


def _groups(axes: Axes) -> pd.DataFrame:
    """Devices with the strategies that apply to so many."""
    rows = []
    for model, count, nodes in itertools.product(axes.gpu_model, axes.gpu_count, axes.node_count):
        if count % nodes == 0:
            for strategy in axes.strategy:
                degrees = axes.tensor_parallel if strategy == "fsdp_tp" else (count if strategy == "tp" else 1,)
                rows += [
                    (model, count, nodes, strategy, degree, int(data_parallel_degree(strategy, count, degree)))
                    for degree in degrees
                    if applies(strategy, count, degree)
                ]
    if not rows:
        what = f"none of {', '.join(axes.strategy)} can have {', '.join(map(str, axes.gpu_count))} devices"
        what += f" on {', '.join(map(str, axes.node_count))} nodes"
        remedy = "single has one device, the others two or more, evenly on the nodes; fsdp_tp a multiple of its degree"
        raise InputError(what, where="--strategy", remedy=remedy)
    return pd.DataFrame(rows, columns=list(GROUP))


def applies(strategy: str, count: int, degree: int = 1) -> bool:
    """Whether a strategy can have so many devices; of fsdp_tp with so many in each tensor-parallel group."""
    if strategy == "single":
        return count == 1
    return count > 1 and (strategy != "fsdp_tp" or (count % degree == 0 and 1 < degree < count))


def _batches(axes: Axes, workload: Workload) -> pd.DataFrame:
    accumulation = axes.grad_accumulation or (1, 2, 4, 8)
    if workload.global_batch is not None:
        accumulation = (1,)  # it follows, once the data-parallel ranks are known
    names = ["micro_batch_size", "grad_accumulation", "precision", "activation_checkpointing"]
    values = axes.micro_batch_size, accumulation, axes.precision, axes.activation_checkpointing
    return pd.DataFrame(list(itertools.product(*values)), columns=names)


def _of_global_batch(table: pd.DataFrame, wanted: int, asked: Sequence[int] | None) -> pd.DataFrame:
    """With the accumulation that makes up the global batch, where there is one (and it was asked for)."""
    at_once = table["micro_batch_size"].to_numpy() * table["data_parallel"].to_numpy()
    accumulation: npt.NDArray[np.int64] = wanted // at_once
    kept = (wanted % at_once == 0) & (accumulation > 0)
    if asked is not None:
        kept &= np.isin(accumulation, asked)
    if not kept.any():
        what = f"no micro-batch, accumulation and number of devices make up {wanted} sequences a step"
        raise InputError(what, where="--global-batch", remedy="name sizes of --micro-batch-size that divide it")
    return table.assign(grad_accumulation=accumulation).iloc[np.flatnonzero(kept)].reset_index(drop=True)


def _crossed(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """Every row of the first with every row of the second."""
    at, then = np.repeat(np.arange(len(first)), len(second)), np.tile(np.arange(len(second)), len(first))
    parts = [first.iloc[at].reset_index(drop=True), second.iloc[then].reset_index(drop=True)]
    return pd.concat(parts, axis=1)
