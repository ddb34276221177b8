"""predict: what runs will cost before they start. Neither torch nor Ray is imported."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.console import ExitCode, last_line, say

if TYPE_CHECKING:
    import pandas as pd

    from joulelaw.model.laws.base import FittedLaw


def predict(
    law: Annotated[str, typer.Argument(metavar="LAW", help="A law that `joulelaw fit` wrote, or `default`.")],
    runs: Annotated[Path, typer.Argument(metavar="TABLE", help="Runs to forecast: CSV or Parquet, by ending.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="CSV or Parquet, by ending.")],
    devices: Annotated[
        list[Path] | None,
        typer.Option("--devices", metavar="FILE.toml", help="GPUs of your own that the law was not fitted on."),
    ] = None,
) -> ExitCode:
    """Forecast runs, with intervals.

    Energy and duration from configurations alone: measured columns are ignored where there are any.
    """
    from joulelaw.bench.commands.law_files import check_writable_table, open_law, read_table, told_of, write_table

    check_writable_table(out)
    fitted = open_law(law, devices or [])
    table = read_table(runs)
    if fitted.law.post_run:
        what = f"{fitted.law.name} is a post-run law: it looks at what was measured"
        raise InputError(what, where=law, remedy="fit one that forecasts: roofline, reduced_form or operation")
    with told_of(runs):
        forecast = _forecast(fitted, table)
    write_table(table.drop(columns=[name for name in forecast if name in table]).join(forecast), out)
    outside = int((forecast["extrapolates"] != "").sum())
    if outside:
        say(f"{outside} of {len(forecast)} runs lie outside what the law was fitted on: see the column extrapolates")
    last_line("predict", ExitCode.DONE, out=out, rows=len(forecast), extrapolates=outside)
    return ExitCode.DONE


def _forecast(fitted: "FittedLaw", table: "pd.DataFrame") -> "pd.DataFrame":
    """The law's forecast; where it cannot be made, every row that is the reason is named."""
    from joulelaw.model.tables import check_configurations

    try:
        return fitted.predict(table)
    except InputError:
        check_configurations(table, fitted.catalogue)  # slower, as it looks at every name in every row
        raise
