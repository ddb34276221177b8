"""Measurement tables that cannot be, through the command line: exit code 2, and each problem with its row and value."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.bench.imported_tables import plain_table, refusal, run, written

Capture = pytest.CaptureFixture[str]
TABLE = plain_table(12)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(column: str, value: Any, row: int = 3) -> pd.DataFrame:
    table = TABLE.copy()
    table[column] = table[column].astype(object)
    table.loc[row, column] = value
    return table


def import_refusal(capsys: Capture, table: pd.DataFrame, name: str = "t.csv") -> str:
    told = refusal(capsys, "import", written(Path(), table, name), "--into", "d", "--boundary", "gpu")
    assert not Path("d").exists(), "nothing is written"
    return told


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("energy_j", np.nan, "energy_j is not a number"),
        ("energy_j", -1.0, "energy_j must be a positive number (it is -1.0)"),
        ("energy_j", 0.0, "energy_j must be a positive number (it is 0.0)"),
        ("duration_s", np.inf, "duration_s must be a positive number (it is inf)"),
        ("duration_s", -np.inf, "duration_s must be a positive number (it is -inf)"),
        ("micro_steps", 0, "micro_steps must be at least 1 (it is 0)"),
        ("gpu_count", -2, "gpu_count must be at least 1 (it is -2)"),
        ("num_layers", 2.5, "num_layers must be a whole number (it is 2.5)"),
        ("num_layers", 1e30, "num_layers must be at most 1e+09 (it is 1e+30)"),
        ("num_heads", 7, "num_heads must divide hidden_size (it is 7)"),
        ("node_count", 9, "node_count must be at most gpu_count (it is 9)"),
        ("gpu_count", 2, "gpu_count must be 1 with strategy single (it is 2)"),
        ("trial_id", "t000", "trial_id occurs twice, first in row 1 (it is 't000')"),
        ("strategy", "fdsp", "strategy is unknown, did you mean 'fsdp'? (it is 'fdsp')"),
        ("strategy", None, "strategy is empty"),
        ("model_family", "t5", "model_family is unknown, one of bert, gpt2, lstm, gru"),
        ("precision", "bf16", "precision is not supported by Tesla T4 (it is 'bf16')"),
        ("precision", "fp8", "precision is unknown"),
        ("gpu_model", "A100", "gpu_model is in no catalogue; close ones are NVIDIA A100-PCIE-40GB"),
        ("gpu_model", "Tesla T4 ", "gpu_model is in no catalogue; leave out the spaces around it"),
        ("gpu_model", "NVIDIA A100-SXM4-40GB MIG 1g.5gb", "gpu_model is in no catalogue; a MIG instance"),
    ],
)
def test_an_impossible_value_is_told_with_row_trial_column_and_value(
    column: str, value: Any, told: str, name: str, capsys: Capture
) -> None:
    table = changed(column, value).assign(gpu_model="Tesla T4") if column != "gpu_model" else changed(column, value)
    table[column] = table[column].infer_objects()
    error = import_refusal(capsys, table, name)
    trial = value if column == "trial_id" else "t003"
    assert error.startswith(f"{name} row 4, trial {trial}: {told}"), error


def test_what_a_recurrent_network_cannot_have_is_told(capsys: Capture) -> None:
    table = TABLE[:3].assign(model_family=["lstm", "gru", "lstm"], strategy=["fsdp", "single", "single"])
    table = table.assign(gpu_count=1, num_heads=[1, 2, 1], intermediate_size=table["hidden_size"] * [4, 3, 3])
    told = import_refusal(capsys, table).splitlines()
    assert told[1].startswith("  row 1, trial t000: strategy must be single for a recurrent network")
    assert told[2].startswith("  row 2, trial t001: num_heads must be 1")
    assert told[3].startswith("  row 3, trial t002: intermediate_size must be 4 x hidden_size, the width of the gates")
    good = table.assign(strategy="single", num_heads=1, intermediate_size=table["hidden_size"] * [4, 3, 4])
    assert run(capsys, "import", written(Path(), good), "--into", "d", "--boundary", "gpu")[1]["added"] == 3


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("energy_j", "12 kJ", "energy_j is not a number (it is '12 kJ')"),
        ("energy_j", "1,234.5", "energy_j is not a number (it is '1,234.5')"),
        ("energy_j", "1 234", "energy_j is not a number (it is '1 234')"),
        ("gpu_count", "True", "gpu_count is not a number (it is 'True')"),
        ("duration_s", "00:01:30", "duration_s is not a number (it is '00:01:30')"),
    ],
)
def test_a_text_where_a_number_belongs_is_told(column: str, value: str, told: str, capsys: Capture) -> None:
    assert import_refusal(capsys, changed(column, value)).startswith(f"t.csv row 4, trial t003: {told}")


def test_every_problem_is_told_at_once_in_the_order_of_rows(capsys: Capture) -> None:
    table = TABLE.drop(columns="precision").rename(columns={"duration_s": "duration_ms"})
    table.loc[7, "energy_j"] = -3.0
    table.loc[2, "gpu_model"] = "H900"
    table.loc[4, "trial_id"] = "t001"
    lines = import_refusal(capsys, table).splitlines()
    assert lines[0] == "t.csv: 5 problems; correct them, or leave the rows out"
    begins = ["column precision is missing", "column duration_s is missing", "row 3, trial t002: gpu_model"]
    begins += ["row 5, trial t001: trial_id occurs twice, first in row 2", "row 8, trial t007: energy_j"]
    assert [line.strip().startswith(begin) for line, begin in zip(lines[1:], begins, strict=True)] == [True] * 5


def test_many_problems_are_counted_and_the_first_shown(capsys: Capture) -> None:
    table = pd.concat([TABLE] * 5, ignore_index=True)
    table["trial_id"] = [f"x{row}" for row in range(len(table))]
    table["energy_j"] = [-1.0 - row for row in range(len(table))]
    lines = import_refusal(capsys, table).splitlines()
    assert lines[0].startswith("t.csv: 60 problems")
    assert len(lines) == 22
    assert lines[-1] == "  and 40 more"


def test_one_mistake_in_many_rows_is_told_once(capsys: Capture) -> None:
    """A device that no catalogue has stands in every row of a table, and must not hide the row with another mistake."""
    table = pd.concat([TABLE] * 5, ignore_index=True).assign(gpu_model="H900")
    table["trial_id"] = [f"x{row}" for row in range(len(table))]
    table.loc[50, "energy_j"] = -1.0
    head, device, joules = import_refusal(capsys, table).splitlines()
    assert head == "t.csv: 61 problems; correct them, or leave the rows out"
    assert device.startswith("  row 1, trial x0: gpu_model is in no catalogue")
    assert device.endswith("(it is 'H900'), and so in 59 rows more")
    assert joules.startswith("  row 51, trial x50: energy_j")


@pytest.mark.parametrize(
    ("wanted", "named", "told"),
    [
        ("energy_j", "energy_kwh", "'energy_kwh': give it times 3.6e6 as energy_j"),
        ("energy_j", "energy_wh", "'energy_wh': give it times 3600 as energy_j"),
        ("energy_j", "energy_consumed_kWh", "'energy_consumed_kWh': give it times 3.6e6 as energy_j"),
        ("energy_j", "energy_joules", "'energy_joules': rename it energy_j"),
        ("energy_j", "energy", "'energy': its name has no unit known here; give joules as energy_j"),
        ("duration_s", "duration_ms", "'duration_ms': give it times 1e-3 as duration_s"),
        ("duration_s", "time_min", "'time_min': give it times 60 as duration_s"),
        ("duration_s", "duration", "'duration': its name has no unit known here; give seconds as duration_s"),
        ("energy_j", " energy_j", "' energy_j': write it 'energy_j'"),
        ("energy_j", "Energy_J", "'Energy_J': write it 'energy_j'"),
        ("sequence_length", "seq_length", "'seq_length': if that is it, rename it"),
    ],
)
def test_a_column_in_another_unit_is_recognised_and_never_converted(
    wanted: str, named: str, told: str, capsys: Capture
) -> None:
    error = import_refusal(capsys, TABLE.rename(columns={wanted: named}))
    assert error == f"t.csv: column {wanted} is missing (there is {told})"


@pytest.mark.parametrize("named", ["power_limit_kw", "link_gbps", "network_gb_per_s", "energy_net_kwh"])
def test_an_optional_column_in_another_unit_is_not_passed_over(named: str, capsys: Capture) -> None:
    assert f"column {named!r} is not understood: " in import_refusal(capsys, TABLE.assign(**{named: 1.0}))


CSV = TABLE.to_csv(index=False).encode()
ODD_TEXTS = {
    "semicolons": (CSV.replace(b",", b";"), "separated by semicolons"),
    "decimal commas": (CSV.replace(b",", b";").replace(b".", b","), "separated by semicolons"),
    "tabs": (CSV.replace(b",", b"\t"), "separated by tabs"),
    "empty": (b"", "the file is empty"),
    "header only": (CSV.splitlines()[0] + b"\n", "no rows"),
    "latin-1": (CSV.replace(b"bert", b"b\xe9rt"), "line 2 is not UTF-8 text (byte 0xe9)"),
    "utf-16": (CSV.decode().encode("utf-16"), "line 1 is not UTF-8 text (byte 0xff)"),
    "a column twice": (CSV.replace(b"energy_j", b"duration_s", 1), "columns there twice: 'duration_s'"),
    "thousands separators": (CSV.replace(b"30522", b"30,522"), "every line needs as many commas as the first"),
    "cut short": (CSV[:-30], "every line needs as many commas as the first"),
    "the word nan": (CSV.replace(b"bert", b"nan"), "row 1, trial t000: model_family is empty"),
    "not a table": (b"\x00\x01\x02", ""),
}


@pytest.mark.parametrize("case", list(ODD_TEXTS))
def test_an_odd_text_file_is_one_message(case: str, capsys: Capture) -> None:
    content, told = ODD_TEXTS[case]
    Path("t.csv").write_bytes(content)
    error = refusal(capsys, "import", "t.csv", "--into", "d", "--boundary", "gpu")
    assert error.startswith("t.csv")
    assert told in error


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CSV,
        CSV.replace(b"\n", b"\r\n"),
        b"\n".join(b",".join(b'"' + cell + b'"' for cell in line.split(b",")) for line in CSV.splitlines()),
    ],
    ids=["byte order mark", "carriage returns", "all in quotes"],
)
def test_what_spreadsheets_write_is_read(content: bytes, capsys: Capture) -> None:
    Path("t.csv").write_bytes(content)
    assert run(capsys, "import", "t.csv", "--into", "d", "--boundary", "gpu")[1]["added"] == 12


def arrow(**columns: Any) -> pa.Table:
    return pa.table({name: columns.get(name, pa.array(TABLE[name])) for name in TABLE} | columns)


ODD_PARQUET = {
    "nested numbers": (arrow(energy_j=pa.array([[1.0]] * 12)), "energy_j must be one value, not several"),
    "nested text": (arrow(strategy=pa.array([{"a": 1}] * 12)), "strategy must be one value, not several"),
    "nested option": (arrow(attention=pa.array([["sdpa"]] * 12)), "attention must be one value, not several"),
    "dates": (arrow(duration_s=pa.array(pd.to_datetime(["2026-01-01"] * 12))), "duration_s is not a number"),
    "spans of time": (arrow(duration_s=pa.array(pd.to_timedelta([10] * 12, unit="s"))), "duration_s is not a number"),
    "nothing": (arrow(energy_j=pa.nulls(12)), "energy_j is not a number"),
    "true": (arrow(gpu_count=pa.array([True] * 12)), "gpu_count is not a number (it is True)"),
    "a column twice": (
        pa.Table.from_arrays([pa.array(TABLE[name]) for name in TABLE] * 2, names=[*TABLE, *TABLE]),
        "columns there twice: 'trial_id'",
    ),
    "no column": (pa.table({}), "no rows"),
}


@pytest.mark.parametrize("case", list(ODD_PARQUET))
def test_an_odd_parquet_file_is_one_message(case: str, capsys: Capture) -> None:
    table, told = ODD_PARQUET[case]
    pq.write_table(table, "t.parquet")
    assert told in refusal(capsys, "import", "t.parquet", "--into", "d", "--boundary", "gpu")


@pytest.mark.parametrize(
    "table",
    [
        arrow(**{name: pa.array(TABLE[name]).dictionary_encode() for name in ("gpu_model", "strategy", "num_layers")}),
        arrow(energy_j=pa.array(TABLE["energy_j"].round(6)).cast(pa.decimal128(20, 6))),
        arrow(strategy=pa.array(TABLE["strategy"], pa.large_string())),
        arrow(
            strategy=pa.array(TABLE["strategy"]).cast(pa.binary()), gpu_count=pa.array(TABLE["gpu_count"], pa.uint8())
        ),
        arrow(extra=pa.array([{"a": [1]}] * 12)),
    ],
    ids=["dictionaries", "decimals", "large text", "bytes", "a nested column that means nothing"],
)
def test_parquet_of_other_types_is_read(table: pa.Table, capsys: Capture) -> None:
    pq.write_table(table, "t.parquet")
    assert run(capsys, "import", "t.parquet", "--into", "d", "--boundary", "gpu")[1]["valid"] == 12


def test_a_pandas_index_may_hold_the_ids(capsys: Capture) -> None:
    TABLE.set_index("trial_id").to_parquet("t.parquet")
    assert run(capsys, "import", "t.parquet", "--into", "d", "--boundary", "gpu")[1]["added"] == 12


def test_nothing_to_import_is_said(capsys: Capture) -> None:
    assert "name a TABLE, or --operations TIMINGS" in refusal(capsys, "import", "--into", "d")
    assert refusal(capsys, "import", "t.xlsx", "--into", "d").startswith("t.xlsx: unknown ending '.xlsx'")
    assert refusal(capsys, "import", "t.csv", "--into", "d").startswith("t.csv: no such file")
