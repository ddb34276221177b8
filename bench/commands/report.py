"""report: one HTML page about a data set."""

from pathlib import Path
from typing import Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.commands.places import Where, place
from joulelaw.bench.console import ExitCode, last_line, say


def report(
    folder: Annotated[
        Where, typer.Argument(metavar="DIR", parser=place, help="A data set of `joulelaw run`: a folder or URI.")
    ],
    law: Annotated[Path | None, typer.Option("--law", metavar="LAW.json", help="A law fitted on it.")] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", metavar="FILE.json", help="What `joulelaw validate` wrote.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="DIR/report.html else.")] = None,
) -> ExitCode:
    """Write one HTML page, figures inside.

    Measured against predicted, residuals, the roofline, one trial's power and step times.
    """
    from joulelaw.bench.dataset.leftovers import broken_files
    from joulelaw.bench.report import write_report

    if out is None and not isinstance(folder, Path):
        raise InputError("where does the report go?", where=str(folder), remedy="say --out FILE.html")
    target = out or Path(str(folder)) / "report.html"
    for problem in broken_files(folder):  # first: one of them may be why nothing can be drawn
        say(problem)
    write_report(folder, law, validation, target)
    last_line("report", ExitCode.DONE, out=target)
    return ExitCode.DONE
