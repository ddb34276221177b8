"""One row of the measurement table to vary, on a made-up device, and its counts."""

import datetime
from typing import Any

import pandas as pd

from joulelaw.model.hardware import Catalogue, DeviceSpec
from joulelaw.model.parallelism import counts

CPU = DeviceSpec(
    name="CPU (1 core)",
    peak_flop_per_s={"fp32": 60e9, "bf16": 90e9},
    bandwidth_bytes_per_s=10e9,
    memory_bytes=4 * 10**9,
    link="shared memory",
    link_bytes_per_s=2e9,
    source="made up",
    date=datetime.date(2026, 1, 1),
    kind="cpu",
)
CATALOGUE = Catalogue({**Catalogue.load().devices, CPU.name: CPU})
ROW: dict[str, Any] = {
    "gpu_model": CPU.name,
    "gpu_count": 1,
    "node_count": 1,
    "strategy": "single",
    "model_family": "bert",
    "num_layers": 3,
    "hidden_size": 128,
    "num_heads": 4,
    "intermediate_size": 512,
    "vocab_size": 2000,
    "sequence_length": 32,
    "micro_batch_size": 2,
    "grad_accumulation": 2,
    "precision": "fp32",
    "dropout": 0.0,
}
BERT_BASE = {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "intermediate_size": 3072, "vocab_size": 30522}


def count(**changes: Any) -> "pd.Series[float]":
    return counts(pd.DataFrame([ROW | changes]), CATALOGUE).iloc[0]
