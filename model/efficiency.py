"""Speed-up and parallel efficiency of a group, from the tokens per second of a case on one and on more devices."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from joulelaw.model.columns import numbers
from joulelaw.model.tables import CASE_COLUMNS, DETAIL_COLUMNS, key

Array = npt.NDArray[np.float64]


def total_tokens(table: pd.DataFrame, counts: pd.DataFrame) -> Array:
    """Tokens a trial processed in its window, over all data-parallel ranks."""
    per_step = counts["tokens_per_micro_step"] * counts["data_parallel"]
    return (table["micro_steps"] * per_step).to_numpy(dtype=float)


def efficiency(table: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    """Throughput, speed-up and parallel efficiency of each trial, index-aligned with the (checked) table.

    Parallel efficiency h = throughput_n / (n x throughput_1) in tokens/s, within a case; for equal work this is
    P1's T1 / (n Tn). The reference is the median throughput of the case's single-device trials with the same details
    (attention, dropout, checkpointing, ... as far as the table has them). Where a case has none (it did not fit in
    one device's memory), its smallest group stands in and `reference` says so:
    h = (throughput_n / n) / (throughput_m / m), and speed-up = h n.

    Columns: tokens_per_s, reference_gpu_count, reference ("single" or "smallest group (m devices)"), speed_up,
    parallel_efficiency.
    """
    details = [name for name in DETAIL_COLUMNS if name in table.columns]
    count = table["gpu_count"].to_numpy(dtype=float)
    throughput = total_tokens(table, counts) / table["duration_s"].to_numpy(dtype=float)
    frame = pd.DataFrame({"case": key(table, [*CASE_COLUMNS, *details]), "count": count, "each": throughput / count})
    smallest = frame.groupby("case")["count"].transform("min")
    reference = frame[frame["count"] == smallest].groupby("case")["each"].median()
    h = frame["each"] / frame["case"].map(reference)
    words = np.where(smallest == 1, "single", "smallest group (" + smallest.astype(int).astype(str) + " devices)")
    return pd.DataFrame(
        {
            "tokens_per_s": throughput,
            "reference_gpu_count": smallest.astype(int),
            "reference": words,
            "speed_up": h * count,
            "parallel_efficiency": h,
        },
        index=table.index,
    )


def measured_efficiency(table: pd.DataFrame, counts: pd.DataFrame) -> Array:
    """Post-run: each trial's measured h, as the reduced form takes it.

    A table's own `parallel_efficiency` (P1's, not normalised for work) goes first: it is there to reproduce P1.
    """
    return numbers(table, "parallel_efficiency", efficiency(table, counts)["parallel_efficiency"])
