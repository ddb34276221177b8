"""The generated pages of docs/ are what the program would write now, and the examples on the dataset's page run."""

import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import duckdb
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).resolve().parent.parent
STALE = "out of date: run `make pages`"
PAGE = (ROOT / "docs" / "dataset.md").read_text(encoding="utf-8")
TRIALS = ROOT / "results" / "2x-amd-epyc-1-core" / "quickstart" / "trials"


def generator(name: str) -> ModuleType:
    """A script of docs/, which is no package."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_command_has_its_page_as_the_program_would_write_it() -> None:
    made = generator("make_commands")
    written = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "commands").glob("*.md")}
    pages = {"README.md": made.index()} | {f"{name}.md": made.page(name) for name in made.COMMANDS}
    assert written.keys() == pages.keys(), STALE
    assert [name for name, text in pages.items() if written[name] != text] == [], STALE


def test_a_page_tells_what_the_help_and_a_run_tell() -> None:
    """Of fit: each option of its help, and the keys that its last line has, which another test reads from a run."""
    text = generator("make_commands").page("fit")
    told = subprocess.run([sys.executable, "-m", "bench", "fit", "--help"], cwd=ROOT, capture_output=True, text=True)
    options = set(re.findall(r"--[a-z-]+", told.stdout)) - {"--help"}
    assert options
    assert [option for option in options if f"`{option}" not in text] == []
    assert "`coefficients`" in text
    assert "`data_hash`" in text
    assert "| 3 |" not in text
    assert "| 3 |" in generator("make_commands").page("run")


def test_the_tables_of_the_dataset_are_those_of_the_schemas() -> None:
    made = generator("make_dataset")
    assert made.page() == PAGE, STALE
    for name, schema in made.TABLES.items():
        section = PAGE.split(f"### {name}\n")[1].split("###")[0]
        rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]* \| ([^|]+) \|$", section.replace("\\|", "/"), re.MULTILINE)
        assert [row[0] for row in rows] == schema.names
        assert [row[0] for row in rows if not row[1].strip()] == [], "every column says what it means"


def test_the_examples_in_python_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    done = subprocess.run([sys.executable, "-c", "\n".join(blocks)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "b'unit': b'J'" in done.stdout
    assert "readings" in done.stdout


def test_the_example_in_sql_counts_the_valid_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (query,) = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
    found = duckdb.sql(query).fetchall()
    columns = ["strategy", "gpu_count", "verdict"]
    rows = [
        row for path in sorted(TRIALS.glob("*.parquet")) for row in pq.read_table(path, columns=columns).to_pylist()
    ]
    valid = [row for row in rows if row["verdict"] == "valid"]
    assert sum(row[5] for row in found) == len(valid)
    assert {row[:2] for row in found} == {(row["strategy"], row["gpu_count"]) for row in valid}
    assert {row[3] for row in found} == {"estimated"}
