"""Strategy x shape -> what one device does in a micro-step and in an optimizer step: the law's features.

`counts` is the table of them, one row a trial; `STRATEGIES` says what each strategy means for the counts. Everything
is known before a run and computed for whole columns at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw import InputError
from joulelaw.model import architecture, communication, kernels, memory, recurrent, states, work, zero
from joulelaw.model.architecture import Numbers, Shape
from joulelaw.model.columns import codes, flags, groups, numbers, part_of
from joulelaw.model.group import Communication, Group
from joulelaw.model.hardware import Catalogue
from joulelaw.model.memory import Numerics
from joulelaw.model.recurrent_counts import recurrent_counts
from joulelaw.model.states import Holding, States
from joulelaw.model.work import Execution

# Raise it whenever a count comes to mean something else, however little: coefficients that were fitted on other counts
# are no longer those of the law, and law files of another version are refused.
COUNTS_VERSION = 2

ELEMENT_BYTES = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2}
# Without a `tensor_parallel` column, fsdp_tp splits each layer over this many devices.
FSDP_TP_DEGREE = 2
# Fused AdamW in fp32 reads weight, gradient and two moments and writes all but the gradient.
ADAMW_BYTES = 28
ACCUMULATION_BYTES = 12  # reads two fp32 gradients and writes one
CAST_BYTES = 12  # fp32 weight to 16 bits forward, 16-bit gradient to fp32 backward: 4 + 2 + 2 + 4
PER_PARAMETER_BYTES = {"adamw": ADAMW_BYTES, "accumulation": ACCUMULATION_BYTES, "cast": CAST_BYTES}
INTEGERS = ("num_parameters", "data_parallel", "tensor_parallel")
TEXT = ("gpu_model", "strategy", "model_family", "precision")
SIZES = (
    "num_layers",
    "hidden_size",
    "num_heads",
    "intermediate_size",
    "vocab_size",
    "sequence_length",
    "micro_batch_size",
)
SHAPE = (*SIZES, "num_labels")
# Columns that rows are grouped by and numeric columns, each with what a table that does not say is taken to be:
# Hugging Face's dropout and attention, two classes, and the head that a family is mostly fine-tuned with.
KEYS = {"model_family": "", "strategy": "", "head": "", "attention": "sdpa"}
USUAL_HEAD = {"gpt2": "language_model"}  # the others': classification
NUMBERS = {
    **dict.fromkeys((*SIZES, "gpu_count", "grad_accumulation"), np.nan),
    "num_labels": 2,
    "dropout": 0.1,
    "tensor_parallel": FSDP_TP_DEGREE,
}


@dataclass(frozen=True)
class Strategy:
    """What a strategy means for the counts."""

    communicate: Callable[[Group], Communication]
    states: Callable[[Holding], States]
    tensor_parallel: bool = False
    data_parallel: bool = True
    shards_optimizer: bool = False
    shards_gradients: bool = False
    """Between micro-steps a device keeps only its share of the accumulated gradients."""
    autocasts: bool = False
    """16-bit precisions keep fp32 weights and cast operation by operation; else the weights are held at 16 bits."""


_SHARDED = {"shards_optimizer": True, "shards_gradients": True}
STRATEGIES = {
    "single": Strategy(communication.none, states.replicated, data_parallel=False, autocasts=True),
    "ddp": Strategy(communication.ddp, partial(states.replicated, bucketed=True), autocasts=True),
    "fsdp": Strategy(communication.fsdp, states.fsdp, **_SHARDED),
    "zero1": Strategy(zero.zero1, partial(states.zero, 1), shards_optimizer=True),
    "zero2": Strategy(zero.zero2, partial(states.zero, 2), **_SHARDED),
    "zero3": Strategy(zero.zero3, partial(states.zero, 3), **_SHARDED),
    "tp": Strategy(communication.tensor, states.replicated, tensor_parallel=True, data_parallel=False, autocasts=True),
    "fsdp_tp": Strategy(communication.fsdp_tensor, states.fsdp, tensor_parallel=True, **_SHARDED),
}


def counts(table: pd.DataFrame, catalogue: Catalogue, *, peak: bool = True) -> pd.DataFrame:
    """What each trial of a measurement table asks of one of its devices, with the table's index.

    Columns: num_parameters (of the whole model), data_parallel, tensor_parallel, tokens_per_micro_step (per data-
    parallel rank); flop_ (the model's), row_flop_ (of one row of the products with weights), recomputed_flop_ (what
    checkpointing adds), hardware_flop_ (all that run), gemm_bytes_ (products, embedding tables and autocast's
    weights), elementwise_bytes_ (the stored activations once, a third more with checkpointing: multiply by a fitted
    factor), comm_bytes_ (sent), collectives_ and kernels_per_micro_step; optimizer_bytes_ (AdamW, and accumulating
    gradients), comm_bytes_, collectives_ and kernels_per_step; memory_bytes_per_device (predicted peak, if asked for);
    peak_flop_per_s, bandwidth_bytes_per_s, link_bytes_per_s (one direction), power_limit_w and the catalogue's
    default_power_limit_w. The table's `power_limit_w`, `link_bytes_per_s`, `network_bytes_per_s` (on several nodes)
    and `tensor_parallel` are used where present, as are `num_labels`, `dropout`, `attention`, `head` and
    `activation_checkpointing`, and, of recurrent networks, `input_size`.

    Raises:
        InputError: no rows, a missing column, an unknown device, strategy, family or precision, a precision that the
            device does not support, or a device count that the strategy cannot have.
    """
    missing = [name for name in (*TEXT, *SIZES, "gpu_count", "grad_accumulation") if name not in table.columns]
    if missing:
        raise InputError(f"columns missing: {', '.join(missing)}", where="table", remedy="see the measurement table")
    if table.empty:
        raise InputError("no rows", where="table", remedy="give at least one trial")
    given = _given(table, catalogue)
    keys = [codes(table, name, default) for name, default in KEYS.items()]
    result: dict[str, Numbers] = {}
    for (family, strategy, head, attention), rows in groups(keys):
        part = {name: part_of(values, rows) for name, values in given.items()}
        head = head or USUAL_HEAD.get(family, "classification")
        if family in recurrent.FAMILIES:
            found = recurrent_counts(family, strategy, head, part, PER_PARAMETER_BYTES, peak=peak)
        else:
            shape = Shape.of(family, head=head, **{name: part[name] for name in SHAPE})
            found = _group_counts(shape, strategy, attention, part, peak)
        for name, values in found.items():
            result.setdefault(name, np.empty(len(table)))[rows] = values
    result.update(_device_columns(table, catalogue))
    return pd.DataFrame(result, index=table.index).astype(dict.fromkeys(INTEGERS, np.int64))


def _given(table: pd.DataFrame, catalogue: Catalogue) -> dict[str, npt.NDArray[Any]]:
    """What the counts are made of, as columns; with what is usual where the table does not say."""
    return {
        **{name: numbers(table, name, default) for name, default in NUMBERS.items()},
        "input_size": numbers(table, "input_size"),
        "element_bytes": _element_bytes(table),
        "scales_loss": (table["precision"] == "fp16").to_numpy(),
        "on_cpu": _on_cpu(table, catalogue),
        "checkpointing": flags(table, "activation_checkpointing"),
    }


def _group_counts(
    shape: Shape, strategy: str, attention: str, given: Mapping[str, npt.NDArray[Any]], peak: bool
) -> dict[str, Numbers]:
    """The counts of rows of one family, head, strategy and attention."""
    if strategy not in STRATEGIES:
        raise InputError(f"unknown strategy {strategy!r}", where="strategy", remedy=f"one of {', '.join(STRATEGIES)}")
    spread, e, checkpointing = STRATEGIES[strategy], given["element_bytes"], given["checkpointing"]
    N, t = _degrees(strategy, given["gpu_count"], given["tensor_parallel"])
    autocast = np.asarray((e == 2) & spread.autocasts)
    fused, dropout = np.full(e.shape, attention != "eager"), given["dropout"] > 0
    numerics = Numerics(e, autocast, fused, dropout, checkpointing, given["on_cpu"])
    execution = Execution(fused & ~numerics.falls_back, checkpointing, dropout)
    group = Group(shape, N, t, e, autocast, given["scales_loss"], checkpointing, dropout)
    found = {
        "num_parameters": architecture.parameters(shape),
        "data_parallel": N,
        "tensor_parallel": t,
        "tokens_per_micro_step": shape.tokens,
        **_work_counts(group, numerics, execution),
        **_step_counts(strategy, group, execution, given),
    }
    if peak:
        held = Holding(group, given["grad_accumulation"] > 1, given["on_cpu"])
        found["memory_bytes_per_device"] = memory.peak_bytes(shape, numerics, spread.states(held), held.words, t)
    return found


def _work_counts(group: Group, numerics: Numerics, execution: Execution) -> dict[str, Numbers]:
    """What a micro-step computes and moves on one device."""
    shape, e, t = group.shape, group.element_bytes, group.tensor_parallel
    passes = np.where(group.checkpointing, 4 / 3, 1)  # forward, and backward as much as two of these
    weights = work.embedding_bytes(shape, e) + CAST_BYTES * group.cast(shape.num_layers)
    return {
        "flop_per_micro_step": work.flop_training(shape, t),
        "recomputed_flop_per_micro_step": work.flop_recomputed(shape, execution, t),
        "row_flop_per_micro_step": work.flop_of_a_row(shape, t),
        "hardware_flop_per_micro_step": work.flop_hardware(shape, execution, t),
        "gemm_bytes_per_micro_step": work.matmul_bytes(shape, e, execution, t) + weights,
        "elementwise_bytes_per_micro_step": passes * memory.stored_activation_bytes(shape, numerics, t),
    }


def _step_counts(
    strategy: str, group: Group, execution: Execution, given: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Numbers]:
    """What the strategy makes of a micro-step and of an optimizer step: gradients, messages and launches."""
    spread, k, gpus = STRATEGIES[strategy], given["grad_accumulation"], given["gpu_count"]
    sent = spread.communicate(group)
    owned = group.psi / (group.data_parallel if spread.shards_optimizer else 1)
    accumulated = group.psi / (group.data_parallel if spread.shards_gradients else 1)
    run = (group.autocast, np.asarray(execution.fused_attention), group.checkpointing)
    return {
        "optimizer_bytes_per_step": ADAMW_BYTES * owned + ACCUMULATION_BYTES * (k - 1) * accumulated,
        "comm_bytes_per_micro_step": sent.bytes_per_micro_step,
        "comm_bytes_per_step": sent.bytes_per_step,
        "collectives_per_micro_step": sent.collectives_per_micro_step,
        "collectives_per_step": sent.collectives_per_step,
        "kernels_per_micro_step": kernels.per_micro_step(group.shape, strategy, *run, k, gpus),
        "kernels_per_step": kernels.per_step(group.shape, strategy, owned, gpus),
    }


def _degrees(strategy: str, gpus: Numbers, tensor_parallel: Numbers) -> tuple[Numbers, Numbers]:
    """Data-parallel and tensor-parallel ranks of each row."""
    spread, one = STRATEGIES[strategy], np.ones_like(gpus)
    if not spread.data_parallel and not spread.tensor_parallel:
        if (gpus != 1).any():
            raise InputError(f"strategy {strategy} on {gpus.max():g} devices", where="gpu_count", remedy="1")
        return one, one
    if not spread.tensor_parallel:
        return gpus, one
    if not spread.data_parallel:
        return one, gpus
    wrong = np.flatnonzero(gpus % tensor_parallel != 0)
    if wrong.size:
        what = f"{gpus[wrong[0]]:g} devices do not divide into groups of {tensor_parallel[wrong[0]]:g}"
        raise InputError(what, where="tensor_parallel", remedy="make gpu_count a multiple of tensor_parallel")
    return gpus / tensor_parallel, tensor_parallel


def _element_bytes(table: pd.DataFrame) -> Numbers:
    precisions, code = codes(table, "precision")
    unknown = [each for each in precisions if each not in ELEMENT_BYTES]
    if unknown:
        remedy = f"one of {', '.join(ELEMENT_BYTES)}"
        raise InputError(f"unknown precision {unknown[0]!r}", where="precision", remedy=remedy)
    return np.array([float(ELEMENT_BYTES[each]) for each in precisions])[code]


def _on_cpu(table: pd.DataFrame, catalogue: Catalogue) -> npt.NDArray[np.bool_]:
    models, code = codes(table, "gpu_model")
    return np.array([catalogue.get(each).kind == "cpu" for each in models])[code]


def _device_columns(table: pd.DataFrame, catalogue: Catalogue) -> dict[str, Numbers]:
    """Peak, bandwidth, link and power limit of each row's device."""
    peak, bandwidth, link, limit = (np.empty(len(table)) for _ in range(4))
    for (model, precision), rows in groups([codes(table, "gpu_model"), codes(table, "precision")]):
        spec = catalogue.get(model)
        peak[rows] = spec.peak(precision)
        bandwidth[rows] = spec.bandwidth_bytes_per_s
        link[rows] = spec.link_bytes_per_s
        limit[rows] = np.nan if spec.power_limit_w is None else spec.power_limit_w
    link = numbers(table, "link_bytes_per_s", link)
    network = np.minimum(link, numbers(table, "network_bytes_per_s", link))
    return {
        "peak_flop_per_s": peak,
        "bandwidth_bytes_per_s": bandwidth,
        "link_bytes_per_s": np.where(numbers(table, "node_count", 1) > 1, network, link),
        "power_limit_w": numbers(table, "power_limit_w", limit),
        "default_power_limit_w": limit,
    }
