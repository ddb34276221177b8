"""A million power rows appended, ten million opened and integrated: our tables beside what pandas users write.

    python benchmarks/power_tables.py [--scale 0.1]

Each case has a new interpreter. Prints Markdown and, last, one JSON object.
"""

import argparse
import csv
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measuring import answer, costs_of, in_fresh_process, machine, table

TRIAL, NODE = "013a74890fc4-r0", "312bc0db947232e6956e455e62500106aa9fc68aede0479fcb547743"
APPENDED, STORED, DEVICES = 1_000_000, 10_000_000, 8
BATCH = 10_000  # rows handed over at once
PERIOD_NS = 50_000_000  # 20 Hz
SECOND = 1_000_000_000
SAME = {"meter": "nvml", "clock_mhz": None, "throttle": None, "foreign_processes": None, "error": ""}  # in every row


def batches(rows: int) -> Iterator[dict[str, Any]]:
    """Columns as a meter of 8 GPUs gives them: milliwatts, millijoules, whole degrees, times that jitter."""
    import numpy as np

    rng = np.random.default_rng(0)
    uuids = np.array([f"GPU-8f3c1d52-6a0e-4b7e-9d5c-{device:012d}" for device in range(DEVICES)])
    for first in range(0, rows, BATCH):
        number = np.arange(first, min(first + BATCH, rows))
        tick = number // DEVICES
        power_w = 350 + 120 * np.sin(tick / 40) + rng.normal(0, 5, number.size)
        yield {
            **SAME,
            "device_uuid": uuids[number % DEVICES].tolist(),
            "time_ns": 10**12 + tick * PERIOD_NS + rng.integers(0, 2_000_000, number.size),
            "power_w": np.round(power_w, 3),
            "energy_counter_j": np.round(tick * 17.5 + rng.random(number.size), 3),
            "temperature_c": np.round(60 + 8 * np.sin(tick / 4000)),
        }


def rows_of(columns: dict[str, Any]) -> list[dict[str, Any]]:
    """The same as one dict a row."""
    lists = {
        name: values.tolist() if hasattr(values, "tolist") else values
        for name, values in columns.items()
        if name not in SAME
    }
    key = {"trial_id": TRIAL, "attempt": 0, "node": NODE, **SAME}
    return [{**key, **dict(zip(lists, row, strict=True))} for row in zip(*lists.values(), strict=True)]


def append_columns(folder: Path, rows: int) -> None:
    """Ours, from columns."""
    from joulelaw.bench.dataset.dataset import TrialTables

    given = list(batches(rows))

    def work() -> None:
        tables = TrialTables(folder, TRIAL, 0)
        for columns in given:
            tables.add_power(NODE, columns)
        tables.flush()

    answer(costs_of(work)[0])


def append_readings(folder: Path, rows: int) -> None:
    """Ours, from the live readings of a sampler, as a study appends them."""
    from joulelaw.bench.dataset.dataset import TrialTables
    from joulelaw.bench.energy.readings import power_table
    from joulelaw.cluster.power.meter import Reading

    names = ("device_uuid", "time_ns", "power_w", "energy_counter_j", "temperature_c")
    given = [[Reading(*(row[name] for name in names)) for row in rows_of(columns)] for columns in batches(rows)]

    def work() -> None:
        tables = TrialTables(folder, TRIAL, 0)
        for readings in given:
            part = power_table("nvml", readings)
            tables.add_power(NODE, dict(zip(part.column_names, part.columns, strict=True)))
        tables.flush()

    answer(costs_of(work)[0])


def append_pandas(folder: Path, rows: int) -> None:
    """Theirs: a list of dicts, a DataFrame, a Parquet file. Until the end nothing is on disk."""
    import pandas as pd

    given = [rows_of(columns) for columns in batches(rows)]

    def work() -> None:
        kept: list[dict[str, Any]] = []
        for part in given:
            kept.extend(part)
        pd.DataFrame(kept).to_parquet(folder / "power.parquet")

    answer(costs_of(work)[0])


def append_csv(folder: Path, rows: int) -> None:
    """Theirs: rows appended to a CSV file."""
    given = [rows_of(columns) for columns in batches(rows)]

    def work() -> None:
        with (folder / "power.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, given[0][0])
            writer.writeheader()
            for part in given:
                writer.writerows(part)
                file.flush()

    answer(costs_of(work)[0])


def window_ns(rows: int) -> tuple[int, int]:
    """All but the first and last tenth of a percent."""
    span_ns = rows // DEVICES * PERIOD_NS
    return 10**12 + span_ns // 1000, 10**12 + span_ns - span_ns // 1000


def integrate(folder: Path, rows: int) -> None:
    """Ours: energy_of."""

    def work() -> float:
        from joulelaw.bench.energy.stored_power import energy_of

        energies = energy_of(folder, TRIAL, *window_ns(rows))
        return sum(energy.trace_j or 0 for energy in energies.values())

    cost, joules = costs_of(work)
    answer(cost, joules=joules)


def integrate_pandas(folder: Path, rows: int) -> None:
    """Theirs: read_parquet, one device after the other, np.trapezoid."""

    def work() -> float:
        import numpy as np
        import pandas as pd

        begin_ns, end_ns = window_ns(rows)
        power = pd.read_parquet(folder / "power")
        power = power[(power["time_ns"] >= begin_ns) & (power["time_ns"] <= end_ns)]
        return sum(
            float(np.trapezoid(device["power_w"], (device["time_ns"] - begin_ns) / SECOND))
            for _, device in power.groupby("device_uuid")
        )

    cost, joules = costs_of(work)
    answer(cost, joules=joules)


CASES = {
    "append_columns": append_columns,
    "append_readings": append_readings,
    "append_pandas": append_pandas,
    "append_csv": append_csv,
    "integrate": integrate,
    "integrate_pandas": integrate_pandas,
}
WORDS = {
    "append_columns": "append, ours, from columns",
    "append_readings": "append, ours, from live readings",
    "append_pandas": "append, list of dicts, `DataFrame.to_parquet`",
    "append_csv": "append, `csv.DictWriter`",
    "integrate": "open and integrate, ours (`energy_of`)",
    "integrate_pandas": "open and integrate, `pd.read_parquet` and `np.trapezoid`",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows, for a quick look")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        CASES[options.case](options.folder, options.rows)
        return
    said = machine()
    appended, stored = (round(rows * options.scale / BATCH) * BATCH for rows in (APPENDED, STORED))
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as home:
        data = Path(home) / "data"
        data.mkdir()
        in_fresh_process(__file__, "--case", "append_columns", "--rows", str(stored), "--folder", str(data))
        for case in CASES:
            reads = case.startswith("integrate")
            folder = data if reads else Path(tempfile.mkdtemp(dir=home))
            rows = stored if reads else appended
            found[case] = in_fresh_process(__file__, "--case", case, "--rows", str(rows), "--folder", str(folder))
            found[case]["rows"] = rows
    show(said, found)


def show(said: str, found: dict[str, dict[str, float]]) -> None:
    print(f"{said}\n")
    rows = []
    for case, cost in found.items():
        ours = found["integrate" if case.startswith("integrate") else "append_columns"]
        rows.append(
            [WORDS[case], f"{cost['rows']:,.0f}", f"{cost['wall_s']:.2f}", f"{cost['cpu_s']:.2f}",
             f"{cost['peak_mb']:.0f}", f"{cost['cpu_s'] / ours['cpu_s']:.1f}"]
        )  # fmt: skip
    print(table(["", "rows", "time, s", "CPU, s", "peak resident set, MB", "CPU, ours = 1"], rows))
    print("\nRows to append are in memory before it starts: most of its peak. Integrating counts imports.\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
