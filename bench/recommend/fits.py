"""Which candidates a device can train at all: by precision and by memory; and the nearest where none can."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from joulelaw import InputError
from joulelaw.bench.forecast.limits import limits
from joulelaw.bench.training.precision import trained_in
from joulelaw.model.hardware import Catalogue

GIB = 2**30


@dataclass(frozen=True)
class Fitting:
    """The candidates that fit, with their `limits`, and how many were left out, by reason."""

    table: pd.DataFrame
    left_out: dict[str, int]


def fitting(table: pd.DataFrame, catalogue: Catalogue) -> Fitting:
    """The candidates that a device can train.

    Memory is the predicted peak against what a study's plan counts as usable. Raises InputError
    with the nearest candidate where none fits.
    """
    can = _trainable(table, catalogue)
    if not can.any():
        pairs = table[["gpu_model", "precision"]].drop_duplicates()
        told = "; ".join(f"{model} {precision}" for model, precision in pairs.itertuples(index=False))
        remedy = "name another --precision"
        raise InputError(f"no device can train in its precision: {told}", where="--precision", remedy=remedy)
    trainable = table[can].reset_index(drop=True)
    sized = trainable.join(limits(trainable, catalogue))
    fits = sized["memory_share"] <= 1
    if not fits.any():
        raise _nothing_fits(sized)
    left_out = {"precision": int((~can).sum()), "memory": int((~fits).sum())}
    return Fitting(sized[fits].reset_index(drop=True), left_out)


def _trainable(table: pd.DataFrame, catalogue: Catalogue) -> "np.typing.NDArray[np.bool_]":
    which = table.groupby(["gpu_model", "precision"], sort=False, observed=True).ngroup().to_numpy()
    pairs = table[["gpu_model", "precision"]].drop_duplicates().itertuples(index=False)
    known = []
    for model, precision in pairs:
        spec = catalogue.get(model)
        known.append(precision in trained_in(spec.kind, spec.peak_flop_per_s))
    return np.array(known, dtype=bool)[which]


def _nothing_fits(sized: pd.DataFrame) -> InputError:
    near = sized.iloc[int(sized["memory_share"].argmin())]
    needed = near["memory_bytes_per_device"] / GIB
    what = (
        f"none of {len(sized):,} candidates fits in memory: the nearest, {in_words(near)}, needs {needed:,.1f} GiB a "
        f"device, {near['memory_share']:.2f} times the {needed / near['memory_share']:,.1f} GiB that "
        f"{near['gpu_model']} has to use"
    )
    remedy = "ask for more or larger devices, for sharding (fsdp, zero3, tp), checkpointing, or smaller micro-batches"
    return InputError(what, where="recommend", remedy=remedy)


def in_words(row: "pd.Series[Any]") -> str:
    """A candidate in one line."""
    nodes = f" on {row['node_count']} nodes" if row["node_count"] > 1 else ""
    degree = f" (tp {row['tensor_parallel']})" if row["strategy"] == "fsdp_tp" else ""
    again = " checkpointed" if row["activation_checkpointing"] else ""
    return (
        f"{row['model']}, {row['strategy']}{degree} x{row['gpu_count']}{nodes}, {row['micro_batch_size']} x "
        f"{row['grad_accumulation']} sequences, {row['precision']}{again}"
    )
