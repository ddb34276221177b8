"""export: a law's coefficients for other programs, and the JSON Schema of law files."""

from pathlib import Path
from typing import Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.console import ExitCode, last_line


def export(
    law: Annotated[
        str | None, typer.Argument(metavar="LAW", help="A law that `joulelaw fit` wrote, or `default`.")
    ] = None,
    file_format: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="json (the whole law file), csv or parquet.")
    ] = "json",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="<law>-coefficients.<format> beside the law else.")
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Write the JSON Schema of law files instead: law.schema.json else.")
    ] = False,
) -> ExitCode:
    """Write a law's coefficients as a table.

    One row a coefficient: value, interval, unit, meaning and the law's origin. As JSON it is the law file itself, whose
    form --schema gives. Measurements need no export: a data set is a folder of Parquet files.
    """
    from joulelaw.bench.commands.law_files import open_law
    from joulelaw.bench.files import check_target, replacing, write_text
    from joulelaw.model.coefficients import SCHEMA, SCHEMA_VERSION, export_law

    if schema:
        target = out or Path(SCHEMA.name)
        check_target(target)
        write_text(target, SCHEMA.read_text(encoding="utf-8"))
        last_line("export", ExitCode.DONE, out=target, schema_version=SCHEMA_VERSION)
        return ExitCode.DONE
    if law is None:
        raise InputError("which law?", where="LAW", remedy="name a law file, or `default`; or ask for the --schema")
    fitted = open_law(law)
    target = out or Path(law).with_name(f"{Path(law).stem}-coefficients.{file_format}")
    check_target(target)
    with replacing(target) as temporary:
        export_law(fitted, temporary, file_format)
    last_line(
        "export",
        ExitCode.DONE,
        out=target,
        format=file_format,
        coefficients=len(fitted.coefficients),
        schema_version=SCHEMA_VERSION,
        energy_is_estimated=fitted.provenance.energy_is_estimated,
    )
    return ExitCode.DONE
