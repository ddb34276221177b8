"""import: measurements from elsewhere become a dataset. Neither torch nor Ray is imported."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from joulelaw import InputError
from joulelaw.bench.commands.places import Place, Where, place
from joulelaw.bench.console import ExitCode, counted, last_line, say

if TYPE_CHECKING:
    import pyarrow as pa

    from joulelaw.bench.imported.table import Imported
    from joulelaw.model.hardware import Catalogue

MOST_NAMED = 5
# What the table says itself, beside what was found out about it here.
OWN_WORDS = ("ambiguous_steps", "invalid_at_source")


def import_table(
    into: Annotated[
        Where,
        typer.Option("--into", metavar="DIR", parser=place, help="The data set to write or add to: a folder or URI."),
    ],
    table: Annotated[
        Path | None, typer.Argument(metavar="TABLE", help="Measured trials: CSV or Parquet, by ending.")
    ] = None,
    boundary: Annotated[
        str | None,
        typer.Option(
            "--boundary",
            metavar="B",
            help="What energy_j covers, where the table does not say: gpu, gpu_host_modelled, node_dc or node_ac.",
        ),
    ] = None,
    devices: Annotated[
        list[Path] | None, typer.Option("--devices", metavar="FILE.toml", help="GPUs of your own; repeat for several.")
    ] = None,
    operations: Annotated[
        Path | None, typer.Option("--operations", metavar="TIMINGS", help="Operation timings: CSV or Parquet.")
    ] = None,
) -> ExitCode:
    """Take measurements from elsewhere.

    A measurement table is checked whole, told in full where anything is wrong, and kept as fit and validate read it.
    """
    from joulelaw.bench.dataset.dataset import locked
    from joulelaw.bench.files import check_folder
    from joulelaw.bench.imported.folder import add_file, all_devices, check_place, new_rows, save_devices

    if table is None and operations is None:
        raise InputError("nothing to import", where="import", remedy="name a TABLE, or --operations TIMINGS")
    check_folder(into)
    check_place(into)
    catalogue, own = all_devices(into, devices or [])
    read = None if table is None else _measurements(table, catalogue, boundary)
    timings = None if operations is None else _timings(operations, catalogue)
    with locked(into):
        added = None if read is None else new_rows(into, read.trials)  # refuses ids that clash, before any is written
        save_devices(into, own)
        if table is not None and read is not None and added is not None:
            add_file(into, "trials", added, _origin(table, len(read.trials)))
        if operations is not None and timings is not None:
            add_file(into, "operations", timings, _origin(operations, len(timings)))
    return _told(into, read, added, timings)


def _measurements(path: Path, catalogue: "Catalogue", boundary: str | None) -> "Imported":
    from joulelaw.bench.commands.law_files import read_table, told_of
    from joulelaw.bench.imported.table import check_imported

    table = read_table(path)
    with told_of(path):
        return check_imported(table, catalogue, boundary)


def _timings(path: Path, catalogue: "Catalogue") -> "pa.Table":
    from joulelaw.bench.commands.law_files import read_table, told_of
    from joulelaw.bench.imported.operations import check_operations

    table = read_table(path)
    with told_of(path):
        return check_operations(table, catalogue)


def _origin(path: Path, rows: int) -> dict[str, Any]:
    """What is kept of the file that rows came from."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "rows": rows}


def _told(into: Place, read: "Imported | None", added: "pa.Table | None", timings: "pa.Table | None") -> ExitCode:
    """What was taken, what was not, and why: to people, and as the last line."""
    rows = [] if read is None else read.trials.select(["trial_id", "verdict", "reasons"]).to_pylist()
    refused = {row["trial_id"]: row["reasons"] for row in rows if row["verdict"] == "invalid"}
    reasons = Counter(code for codes in refused.values() for code in codes)
    code = ExitCode.INVALID_TRIALS if set(reasons) - set(OWN_WORDS) else ExitCode.DONE
    there = 0 if added is None else len(rows) - len(added)
    if read is not None:
        _say_of_table(read, refused)
        say(
            f"{counted(len(rows) - there, 'trial')} added to {into}"
            + (f", {there} were there already" if there else "")
        )
    if timings is not None:
        say(f"{counted(len(timings), 'operation timing')} in {into / 'operations'}")
    last_line(
        "import",
        code,
        folder=into,
        rows=len(rows),
        added=len(rows) - there,
        valid=len(rows) - len(refused),
        invalid=len(refused),
        reasons=reasons,
        ignored_columns=[] if read is None else read.ignored,
        renamed_devices={} if read is None else dict(read.renamed),
        boundaries=_distinct(read, "boundary"),
        meters=_distinct(read, "meter"),
        meter_kinds=_distinct(read, "meter_kind"),
        operations=0 if timings is None else len(timings),
    )
    return code


def _say_of_table(read: "Imported", refused: Mapping[str, Sequence[str]]) -> None:
    from joulelaw.bench.trial.checks import EXPLANATIONS

    if read.ignored:
        say(f"Columns ignored, as they mean nothing here: {', '.join(map(repr, read.ignored))}")
    for given, name in read.renamed:
        say(f"gpu_model {given!r} is kept as {name!r}")
    for what in ("boundary", "meter", "meter_kind"):
        if len(several := _distinct(read, what)) > 1:
            say(f"Several values of {what}: {', '.join(several)}; a fit takes one alone, or --allow-mixed-meters")
    for code in dict.fromkeys(code for codes in refused.values() for code in codes):
        which = [trial for trial, codes in refused.items() if code in codes]
        more = f" and {len(which) - MOST_NAMED} more" if len(which) > MOST_NAMED else ""
        named = ", ".join(which[:MOST_NAMED]) + more
        say(f"{counted(len(which), 'row')} kept as invalid, {code}: {EXPLANATIONS[code]} ({named})")


def _distinct(read: "Imported | None", column: str) -> list[str]:
    return [] if read is None else sorted(set(read.trials[column].to_pylist()))
