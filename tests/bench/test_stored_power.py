"""Millions of stored readings are integrated as a few are: equal to the plain form, whatever is wrong with them."""

import math
import shutil
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulelaw import InputError
from joulelaw.bench.dataset.columns import RowError
from joulelaw.bench.dataset.dataset import TrialTables
from joulelaw.bench.dataset.leftovers import broken_files
from joulelaw.bench.dataset.measurements import read_power, read_steps
from joulelaw.bench.dataset.table_files import UnreadableTableError
from joulelaw.bench.dataset.tables import POWER
from joulelaw.bench.energy.counter_ticks import ticks_near
from joulelaw.bench.energy.energy import DeviceEnergy, window_energy
from joulelaw.bench.energy.readings import from_readings, from_table, from_tables
from joulelaw.bench.energy.stored_power import energy_of, nodes_of, readings_of
from joulelaw.bench.energy.trace_energy import largest_gap_s, trace_energy
from joulelaw.cluster.power.meter import Reading
from tests.bench import energy_reference as plain
from tests.bench.factories import configurations, new_dataset, power_rows, step_rows, trial_row

Floats = npt.NDArray[np.float64]
SECOND = 1_000_000_000
TRIAL = "t-r0"
ERRORS = ("power: Unknown Error",) * 9 + ("gpu_lost: GPU is lost",)


def random_rows(seed: int, count: int) -> list[dict[str, Any]]:
    """Three devices at about 10 Hz: nulls, errors, a lost GPU, repeated values and times, and now and then a reset
    of the counter, a long gap or a clock that jumps."""
    rng = np.random.default_rng(seed)
    rows, time_ns, counter_j = [], 0, np.zeros(3)
    gappy, resetting, jumping, failing, counterless = rng.random(5) < 0.2
    for _ in range(count):
        time_ns += int(rng.choice([0, 1, 50_000_000, 100_000_000, 100_000_001]))
        time_ns += int(rng.exponential(3 * SECOND)) if gappy and rng.random() < 0.03 else 0
        time_ns -= SECOND if jumping and rng.random() < 0.01 else 0
        device = int(rng.integers(3))
        counter_j[device] += float(rng.choice([0.0, 7.5, rng.uniform(0, 40)]))
        counter_j[device] *= not (resetting and rng.random() < 0.01)
        error = str(rng.choice(ERRORS)) if failing and rng.random() < 0.05 else ""
        counted = not error and rng.random() > 0.05 and not (counterless and device == 1)
        rows.append(
            {
                "device_uuid": f"GPU-{device}",
                "meter": "rapl" if device == 1 else "nvml",
                "time_ns": time_ns,
                "power_w": None if rng.random() < 0.05 or device == 2 else float(rng.choice([80.0, 400.0, 80.25])),
                "energy_counter_j": float(counter_j[device]) if counted else None,
                "temperature_c": None,
                "clock_mhz": None,
                "throttle": None,
                "foreign_processes": None,
                "error": error,
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> pa.Table:
    key = {"trial_id": TRIAL, "attempt": 0, "node": "n"}
    return pa.Table.from_pylist([{**key, **row} for row in rows], schema=POWER)


def same(one: object, two: object) -> bool:
    """Of every field: the same number to the last bit, or the same array."""
    left, right = vars(one), vars(two)
    return left.keys() == right.keys() and all(
        np.array_equal(left[name], right[name], equal_nan=True)
        if isinstance(left[name], np.ndarray)
        else left[name] == right[name]
        for name in left
    )


@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 400), st.integers(1, 90))
def test_arrays_of_a_table_equal_those_made_row_by_row(seed: int, count: int, part: int) -> None:
    """Whether the table comes whole or in parts, with its texts as dictionaries or not."""
    power = table(random_rows(seed, count))
    expected = plain.from_rows(power)
    encoded = pa.table({name: power[name].dictionary_encode() if pa.types.is_string(power[name].type) else power[name]
                        for name in power.column_names})  # fmt: skip
    parts = [encoded.slice(begin, part) for begin in range(0, count, part)]
    for found in (from_table(power), from_tables(parts)):
        assert found.keys() == expected.keys()
        assert all(same(found[domain], expected[domain]) for domain in expected)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 2**32), st.integers(50, 400), st.floats(-0.4, 5), st.floats(0.1, 9))
def test_joules_of_a_window_equal_those_of_the_plain_form(seed: int, count: int, begin_s: float, span_s: float) -> None:
    begin_ns, end_ns = round(begin_s * SECOND), round(begin_s * SECOND) + round(span_s * SECOND)
    for domain, readings in plain.from_rows(table(random_rows(seed, count))).items():
        energy = window_energy(readings, begin_ns, end_ns)
        assert energy.domain == domain
        check(energy, readings, begin_ns, end_ns)


def check(energy: DeviceEnergy, readings: Any, begin_ns: int, end_ns: int) -> None:
    time_s, span_s = (readings.time_ns - begin_ns) / 1e9, (end_ns - begin_ns) / 1e9
    inside = (time_s >= 0) & (time_s <= span_s)
    has_power, has_counter = ~np.isnan(readings.power_w), ~np.isnan(readings.counter_j)
    assert energy.readings == np.count_nonzero(inside & (has_power | has_counter))
    assert energy.clock_jumps == np.count_nonzero(np.diff(readings.time_ns) < 0)
    assert energy.lost == (readings.lost & inside).any()
    if energy.clock_jumps or energy.lost:
        assert energy.energy_j is None
        return
    power = time_s[has_power], readings.power_w[has_power]
    if energy.trace_j is not None:
        assert energy.trace_j == pytest.approx(plain.trace_j(*power, span_s), rel=1e-12)
    if energy.source == "trace" and energy.energy_j is not None:
        assert energy.stderr_j == plain.trace_stderr_j(*power, span_s)
        assert energy.largest_gap_s == plain.largest_gap_s(power[0], span_s)
    if energy.counter_j is not None and np.all(np.diff(readings.counter_j[has_counter]) >= 0):
        counter = time_s[has_counter], readings.counter_j[has_counter]
        found = plain.ticks(*counter, readings.tick_s)
        if any(ticks_near(edge_s, *counter, None) for edge_s in (0.0, span_s)):
            return  # times on a raster of 50 ms pass for ticks now and then, and rightly
        expected_j = plain.counter_at(span_s, *found) - plain.counter_at(0.0, *found)
        stepped_j = sum(plain.step_at_most_j(edge_s, *counter) for edge_s in (0.0, span_s) if readings.tick_s is None)
        assert energy.counter_j == pytest.approx(expected_j, rel=1e-12, abs=stepped_j)
        assert energy.ticks == np.count_nonzero((found[0] >= 0) & (found[0] <= span_s))
        assert energy.largest_gap_s == plain.largest_gap_s(found[0], span_s)


@settings(deadline=None)
@given(st.lists(st.integers(-30, 60), min_size=2, max_size=40), st.integers(1, 40), st.integers(0, 2**32))
def test_gaps_and_traces_are_those_of_the_plain_form(at: list[int], span: int, seed: int) -> None:
    """On a grid, so that readings fall on the window's edges and on each other."""
    time_s, span_s = np.sort(np.array(at)) / 10, span / 10
    power_w = np.random.default_rng(seed).choice([1.0, 2.0, 5.0], time_s.size)
    assert largest_gap_s(time_s, span_s) == plain.largest_gap_s(time_s, span_s)
    trace = trace_energy(time_s, power_w, span_s)
    if trace.energy_j is not None:
        assert trace.energy_j == pytest.approx(plain.trace_j(time_s, power_w, span_s), rel=1e-12)
        assert trace.stderr_j == plain.trace_stderr_j(time_s, power_w, span_s)
        assert trace.largest_gap_s == plain.largest_gap_s(time_s, span_s)


def test_two_readings_at_the_very_end_of_a_short_window_stand_for_all_of_it() -> None:
    trace = trace_energy(np.array([0.4, 0.4]), np.array([50.0, 70.0]), 0.4)
    assert trace.energy_j == pytest.approx(50.0 * 0.4)


def store(folder: Path, rows: list[dict[str, Any]], node: str = "n", attempt: int = 0, flushes: int = 1) -> None:
    tables = TrialTables(folder, TRIAL, attempt)
    size = math.ceil(len(rows) / flushes)
    for begin in range(0, len(rows), size):
        tables.add_power(node, rows[begin : begin + size])
        tables.flush()


def test_energy_from_disk_is_that_of_the_rows_in_the_order_of_their_files(tmp_path: Path) -> None:
    """More than ten files: 10 comes after 9, though not in the alphabet."""
    rows = random_rows(3, 1500)
    store(tmp_path, rows, flushes=170)
    assert len(list((tmp_path / "power").iterdir())) == 11
    expected = plain.from_rows(table(rows))
    begin_ns, end_ns = 10 * SECOND, 80 * SECOND
    energies = energy_of(tmp_path, TRIAL, begin_ns, end_ns)
    assert energies == {domain: window_energy(readings, begin_ns, end_ns) for domain, readings in expected.items()}
    assert energies["GPU-0"].energy_j is not None
    assert energies["GPU-2"].trace_j is None
    assert all(same(readings, expected[readings.domain]) for readings in readings_of(tmp_path, TRIAL))


def test_only_the_committed_attempt_counts(tmp_path: Path) -> None:
    configuration = next(configurations())
    row = trial_row(configuration)
    with new_dataset(tmp_path) as dataset:
        for attempt in (0, 1):
            tables = dataset.start_trial(TRIAL, attempt)
            tables.add_power("n", power_rows(row))
            tables.flush()
        begin_ns, end_ns = row["window_begin_ns"], row["window_end_ns"]
        both = energy_of(tmp_path, TRIAL, begin_ns, end_ns)
        tables.finish(row)
    energies = energy_of(tmp_path, TRIAL, begin_ns, end_ns)
    assert [energy.clock_jumps for energy in both.values()] == [1]
    assert [energy.clock_jumps for energy in energies.values()] == [0]
    assert sum(energy.counter_j or 0 for energy in energies.values()) == pytest.approx(row["energy_j"], rel=1e-9)


def test_nodes_have_clocks_of_their_own_and_are_named(tmp_path: Path) -> None:
    for node in ("one", "two"):
        store(tmp_path, random_rows(1, 50), node)
    assert nodes_of(tmp_path, TRIAL) == ["one", "two"]
    with pytest.raises(InputError, match=r"ran on 2 nodes, each with its own clock; one of \['one', 'two'\]"):
        energy_of(tmp_path, TRIAL, 0, SECOND)
    assert energy_of(tmp_path, TRIAL, 0, SECOND, "two").keys() == {"GPU-0", "GPU-1", "GPU-2"}
    assert energy_of(tmp_path, "none-r0", 0, SECOND) == {}


def test_what_lies_beside_under_another_name_adds_no_row(tmp_path: Path) -> None:
    row = trial_row(next(configurations()))
    with new_dataset(tmp_path) as dataset:
        tables = dataset.start_trial(TRIAL)
        tables.add_steps(step_rows(row))
        tables.add_power("n", power_rows(row))
        tables.finish(row)
    steps, power = len(read_steps(tmp_path, TRIAL)), len(read_power(tmp_path, TRIAL))
    energies = energy_of(tmp_path, TRIAL, row["window_begin_ns"], row["window_end_ns"])
    for path in (tmp_path / "steps" / f"{TRIAL}.0.parquet", tmp_path / "power" / f"{TRIAL}.n.0.parquet"):
        for ending in ("-copy", " (copy)", ".n.0", "~"):
            shutil.copy(path, path.with_name(f"{path.stem}{ending}.parquet"))
    assert (len(read_steps(tmp_path, TRIAL)), len(read_power(tmp_path, TRIAL))) == (steps, power)
    assert energy_of(tmp_path, TRIAL, row["window_begin_ns"], row["window_end_ns"]) == energies
    assert nodes_of(tmp_path, TRIAL) == ["n"]
    assert len(broken_files(tmp_path)) == 8, "each is named"


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    store(tmp_path, random_rows(1, 50))
    (tmp_path / "power" / f"{TRIAL}.n.1.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(UnreadableTableError, match=r"n\.1\.parquet: not a Parquet file, or cut short"):
        energy_of(tmp_path, TRIAL, 0, SECOND)


def test_a_power_table_reads_the_same_in_pandas_polars_and_duckdb(tmp_path: Path) -> None:
    """Whatever the columns' encodings."""
    rows = random_rows(3, 300)
    store(tmp_path, rows, flushes=3)
    files = f"{tmp_path}/power/*.parquet"
    expected = table(rows)
    for read in (pa.Table.from_pandas(pd.read_parquet(tmp_path / "power"), POWER), pl.read_parquet(files).to_arrow(),
                 duckdb.sql(f"select * from '{files}'").to_arrow_table()):  # fmt: skip
        assert read.select(expected.column_names).cast(POWER).equals(expected)


def test_live_readings_are_the_rows_of_their_table() -> None:
    readings = [Reading("A", 5, 1.5, None, 40.0), Reading("B", 9, error="gpu_lost: gone"), Reading("A", 7, None, 2.5)]
    rows = [{"meter": "rapl", **vars(reading)} for reading in readings]
    live, expected = from_readings(readings, "rapl"), plain.from_rows(pa.Table.from_pylist(rows))
    assert live.keys() == expected.keys()
    assert all(same(live[domain], expected[domain]) for domain in expected)


def test_power_columns_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    tables = TrialTables(tmp_path, TRIAL, 0)
    good: dict[str, Any] = {"device_uuid": "A", "meter": "nvml", "time_ns": np.arange(3), "power_w": np.ones(3),
            "energy_counter_j": None, "temperature_c": None, "clock_mhz": None,
            "throttle": None, "foreign_processes": None, "error": ""}  # fmt: skip
    bad: list[tuple[str, Any, str]] = [
        ("time_ns", np.arange(3.0), "must be int64"),
        ("power_w", np.ones(2), "has 2 rows, 'time_ns' has 3"),
        ("power_w", [True, 1.0, 2.0], "must be double, not True"),
        ("energy_counter_j", "5 J", "must be double"),
        ("error", [0, 1, 2], "must be string"),
    ]
    for column, values, message in bad:
        with pytest.raises(RowError, match=f"column '{column}' {message}"):
            tables.add_power("n", {**good, column: values})
    with pytest.raises(RowError, match="column 'error' is missing"):
        tables.add_power("n", {name: values for name, values in good.items() if name != "error"})
    tables.add_power("n", good)
    tables.flush()
    assert [readings.time_ns.tolist() for readings in readings_of(tmp_path, TRIAL)] == [[0, 1, 2]]
