"""Figures that tests prove, kept for the tables in docs/: `python -m tests.evidence` runs those tests and writes them.

A test calls `record` beside its assertion. Without the variable `JOULELAW_EVIDENCE` (a folder) nothing is kept.
"""

import json
import os
from pathlib import Path

VARIABLE = "JOULELAW_EVIDENCE"


def record(table: str, **row: object) -> None:
    """Appends a row to a table. One write a row: parallel test processes share the file."""
    folder = os.environ.get(VARIABLE)
    if folder:
        with (Path(folder) / f"{table}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
