"""Figures that tests prove, kept for the tables in docs/: `python -m tests.evidence` runs those tests and writes them.

A test calls `record` beside its assertion. Without the variable `JOULELAW_EVIDENCE` (a folder) nothing is kept.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

VARIABLE = "JOULELAW_EVIDENCE"
ROOT = Path(__file__).resolve().parents[1]
# Which test file fills which table. Each document has a place for its tables: <!-- table NAME --> to <!-- end -->.
TESTS = {
    "equality": "tests/bench/test_strategies.py",
    "flops": "tests/bench/test_flops.py",
    "collectives": "tests/bench/test_collectives.py",
    "memory": "tests/bench/test_peak_memory.py",
}
PLACE = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def record(table: str, **row: object) -> None:
    """Appends a row to a table. One write a row: parallel test processes share the file."""
    folder = os.environ.get(VARIABLE)
    if folder:
        with (Path(folder) / f"{table}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")


def as_markdown(rows: list[dict[str, object]]) -> str:
    """Rows as a table, sorted, without repeats; the columns are the first row's."""
    columns = list(rows[0])
    lines = sorted({"| " + " | ".join(_text(row.get(name)) for name in columns) + " |" for row in rows})
    head = "| " + " | ".join(name.replace("_", " ") for name in columns) + " |"
    return "\n".join([head, "|" + "---|" * len(columns), *lines]) + "\n"


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.2g}" if abs(value) < 1 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """Runs the tests, and fills in the documents; fails where a test fails or a table has stayed empty."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "--numprocesses", "auto", "--dist", "loadgroup", *TESTS.values()]
        code = subprocess.run(command, cwd=ROOT, env={**os.environ, VARIABLE: folder}, check=False).returncode
        if code:
            return code
        for document in sorted((ROOT / "docs").glob("*.md")):
            text = document.read_text()
            filled = PLACE.sub(lambda place: place[1] + _table(Path(folder), place[2]) + place[3], text)
            if filled != text:
                document.write_text(filled)
    return 0


def _table(folder: Path, name: str) -> str:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return as_markdown([json.loads(line) for line in lines])


if __name__ == "__main__":
    sys.exit(main())
