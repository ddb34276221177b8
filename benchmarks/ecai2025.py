"""The published data of P2 in the project's own columns: operation timings and training energies, as small Parquet.

    python benchmarks/ecai2025.py FOLDER [--into results/published/ecai2025]

FOLDER holds the four CSV files of Zenodo 10.5281/zenodo.16920232 (MIT). What each column was and what is wrong with
some is in the README of the folder written.
"""

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import ROOT

sys.path.insert(0, str(ROOT))

from joulelaw.bench.dataset.tables import OPERATIONS

PUBLISHED = ROOT / "results" / "published" / "ecai2025"
A100, RTX = "NVIDIA A100 80GB PCIe", "NVIDIA GeForce RTX 2080 Ti"
PRECISION = {A100: "tf32", RTX: "fp32"}
TRANSFORMER = {
    "QKV Projections": "qkv_projections",
    "Attention Scores": "attention_scores",
    "Attention Output": "attention_output",
    "Final Projection": "final_projection",
}
LSTM = {
    "compute_gates": "input_gating",
    "hidden_gates": "hidden_gating",
    "Activations": "activations",
    "Cell Update": "cell_update",
    "Hidden Update": "hidden_update",
}
LSTM_TIMES = {"Gates": "input_gating", "hidden_gates": "hidden_gating"} | {
    name: f"{name.lower()}" for name in ("Activations", "Cell_Update", "Hidden_Update")
}
BATCH = 64  # of every Transformer timing: its FLOPs are 6 B s d^2 and so on with B = 64
JOULES_PER_KWH = 3.6e6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("--into", type=Path, default=PUBLISHED)
    given = arguments.parse_args()
    (given.into / "operations").mkdir(parents=True, exist_ok=True)
    timings = operation_timings(given.folder)
    write(pa.Table.from_pandas(timings, OPERATIONS, False), given.into / "operations" / "ecai2025.parquet")
    write(transformer_energies(given.folder), given.into / "transformer_training.parquet")
    write(lstm_energies(given.folder), given.into / "lstm_training.parquet")
    shutil.copyfile(given.folder / "LICENSE", given.into / "LICENSE")


def operation_timings(folder: Path) -> pd.DataFrame:
    """One row a timing: the transformer's four products (its softmax left out) and the LSTM's five operations."""
    products = pd.read_csv(folder / "transformer_operation_timings.csv")
    products = products[products["operation"].isin(TRANSFORMER)]
    steps = pd.read_csv(folder / "lstm_operation_timings.csv")
    parts = [
        pd.DataFrame(
            {
                "gpu_model": products["source"],
                "model_family": "transformer",
                "operation": products["operation"].map(TRANSFORMER),
                "micro_batch_size": BATCH,
                "sequence_length": products["seq_len"],
                "hidden_size": products["d_model"],
                "input_size": None,
            }
        ),
        pd.DataFrame(
            {
                "gpu_model": steps["source"],
                "model_family": "lstm",
                "operation": steps["component"].map(LSTM),
                "micro_batch_size": steps["batch_size"],
                "sequence_length": None,
                "hidden_size": steps["hidden_size"],
                "input_size": steps["input_size"],
            }
        ),
    ]
    for part, source in zip(parts, (products, steps), strict=True):
        part["flop"] = source["FLOPs"].astype(float)
        part["duration_s"] = source["elapsed_time_sec"]
        part["precision"] = part["gpu_model"].map(PRECISION)
    return pd.concat(parts, ignore_index=True)[OPERATIONS.names]


def transformer_energies(folder: Path) -> pd.DataFrame:
    """One row a training: shape, seconds, joules, and the paper's own "us" (one column was in another unit)."""
    raw = pd.read_csv(folder / "transformer_training_energy.csv")
    gpus = {"a100": A100, "grid": RTX}
    table = pd.DataFrame(
        {
            "gpu_model": raw["source"].map(gpus),
            "model_family": raw["model"].map({"bert": "bert", "gpt": "gpt2"}),
            "num_layers": raw["num_layers"],
            "hidden_size": raw["d_model"],
            "num_heads": raw["num_attention_heads"],
            "micro_batch_size": raw["batch_size"],
            "sequence_length": raw["seq_length"],
            "repeats": raw["num_repeats"],
            "duration_s": raw["duration"],
            "energy_j": raw["energy_joules"],
        }
    )
    for name, operation in TRANSFORMER.items():
        scale = 1e6 if name == "Attention Output" else 1.0
        table[f"published_us_{operation}"] = raw[f"duration_{name}"] * scale
    return table


def lstm_energies(folder: Path) -> pd.DataFrame:
    """One row a measured run: shape, joules (CodeCarbon's total and its GPU part), and the paper's own "us"."""
    raw = pd.read_csv(folder / "lstm_training_energy.csv")
    table = pd.DataFrame(
        {
            "gpu_model": raw["source"],
            "num_layers": raw["num_layers"],
            "hidden_size": raw["hidden_size"],
            "input_size": raw["input_size"],
            "micro_batch_size": raw["batch_size"],
            "sequence_length": raw["seq_len"],
            "energy_j": raw["energy_consumed_kWh"] * JOULES_PER_KWH,
            "gpu_energy_j": raw["total_gpu_energy_kWh"] * JOULES_PER_KWH,
        }
    )
    for name, operation in LSTM_TIMES.items():
        table[f"published_us_{operation}"] = raw[f"duration_{name}"]
    return table


def write(table: pd.DataFrame | pa.Table, path: Path) -> None:
    whole = table if isinstance(table, pa.Table) else pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(whole, path, compression="zstd")
    print(f"{path}: {len(table)} rows, {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
