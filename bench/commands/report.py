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
    law: Annotated[
        str | None,
        typer.Option("--law", metavar="LAW", help="A law fitted on it: its file, or default for the shipped one."),
    ] = None,
    validation: Annotated[
        Path | None, typer.Option("--validation", metavar="FILE.json", help="What `joulelaw validate` wrote.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="DIR/report.html else.")] = None,
) -> ExitCode:
    """Write one HTML page that works offline, and its figures as SVG and PNG for papers.

    The law in words, formula and numbers; measured against predicted; rooflines of time and energy; what more devices
    cost; where seconds and joules go; each trial's power and step times; validity, environment, how to cite and
    reproduce.
    """
    from joulelaw.bench.commands.law_files import DEFAULT, SHIPPED, open_law
    from joulelaw.bench.dataset.leftovers import broken_files
    from joulelaw.bench.dataset.measurements import devices_files
    from joulelaw.bench.report import write_report

    if out is None and not isinstance(folder, Path):
        raise InputError("where does the report go?", where=str(folder), remedy="say --out FILE.html")
    target = out or Path(str(folder)) / "report.html"
    for problem in broken_files(folder):  # first: one of them may be why nothing can be drawn
        say(problem)
    fitted = open_law(law, devices_files([folder])) if law else None
    law_file = SHIPPED if law == DEFAULT else Path(law) if law else None
    write_report(folder, fitted, validation, target, law_file=law_file, shipped=law == DEFAULT)
    last_line("report", ExitCode.DONE, out=target)
    return ExitCode.DONE
