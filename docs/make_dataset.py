"""The tables of docs/dataset.md, every column with its unit and meaning, from the schemas themselves: `make pages`."""

import sys
from pathlib import Path

import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from joulelaw.bench.dataset.tables import OPERATIONS, SCHEMA_VERSION, TABLES
from joulelaw.bench.operations.table import MICRO_STEPS

PAGE = Path(__file__).with_name("dataset.md")
BEGIN, END = "<!-- generated tables -->\n", "<!-- end -->"
ROWS = {
    "trials": "One row a finished trial (attempt).",
    "steps": "One row a step and rank, warm-up included.",
    "power": "One row a reading of one device while a trial held it.",
    "meters": "One row a metered domain and session (one run of the program): its meter, its sensor, its idle power.",
    "events": "One row whatever happened to the study: runs, nodes and attempts that begin and end.",
    "operations": "One row a timing of one operation alone; sizes that have no meaning for it are null.",
    "micro_steps": "One row a part of one configuration's micro-step; the whole is a part named micro_step.",
}


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE.name)


def page() -> str:
    """The page as it is, with the tables made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    schemas = TABLES | {"operations": OPERATIONS, "micro_steps": MICRO_STEPS}
    tables = "\n".join(section(name, schema) for name, schema in schemas.items())
    return f"{before}{BEGIN}Schema version {SCHEMA_VERSION}.\n\n{tables}{END}{after}"


def section(name: str, schema: pa.Schema) -> str:
    """One table: a row a column."""
    rows = "".join(
        f"| `{field.name}` | {_kind(field.type)} | {_said(field, 'unit')} | {_said(field, 'note')} |\n"
        for field in schema
    )
    return f"### {name}\n\n{ROWS[name]}\n\n| column | type | unit | meaning |\n|---|---|---|---|\n{rows}"


def _kind(kind: pa.DataType) -> str:
    return f"list of {kind.value_type}" if pa.types.is_list(kind) else str(kind)


def _said(field: pa.Field, what: str) -> str:
    return (field.metadata or {}).get(what.encode(), b"").decode().replace("|", "\\|")


if __name__ == "__main__":
    main()
