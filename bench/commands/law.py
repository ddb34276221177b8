"""fit and validate: what happens after the trials. Neither torch nor Ray is imported."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.commands.places import Place, Where, place
from joulelaw.bench.console import ExitCode, say

if TYPE_CHECKING:
    import pandas as pd

    from joulelaw.model.hardware import Catalogue

Folders = Annotated[
    list[Where],
    typer.Argument(metavar="DIR...", parser=place, help="Data sets of `joulelaw run` or `import`: folders or URIs."),
]
Mixed = Annotated[
    bool, typer.Option("--allow-mixed-meters", help="Take joules of several meters or boundaries as the same thing.")
]


def fit(
    folders: Folders,
    out: Annotated[Path, typer.Option("--out", metavar="LAW.json", help="The law file to write.")],
    law: Annotated[
        str, typer.Option("--law", metavar="NAME", help="roofline, reduced_form or operation.")
    ] = "roofline",
    allow_mixed_meters: Mixed = False,
) -> ExitCode:
    """Fit a law on measured trials.

    On the valid ones that are not held out; coefficients are written with their intervals and origin.
    """
    from joulelaw.bench.commands.law_files import told_of
    from joulelaw.bench.commands.law_told import resamples_told, tell_fit
    from joulelaw.bench.dataset.operation_timings import read_operations
    from joulelaw.bench.files import check_target, replacing
    from joulelaw.model.coefficients import save_law
    from joulelaw.model.holdout import HOLD_OUT
    from joulelaw.model.laws import fit_law

    check_target(out)
    measured, catalogue = _read(folders)
    rows = measured[measured["split"] != HOLD_OUT]
    if rows.empty:
        raise InputError("every valid trial is held out", where=str(folders[0]), remedy="lower hold_out.fraction")
    operations = read_operations(folders)
    with told_of(", ".join(map(str, folders))):
        fitted = fit_law(
            law, rows, catalogue, operations=operations, allow_mixed_meters=allow_mixed_meters, watch=resamples_told()
        )
    with replacing(out) as temporary:
        save_law(fitted, temporary)
    tell_fit(fitted, out)
    return ExitCode.DONE


def validate(
    folders: Folders,
    law: Annotated[
        list[str] | None, typer.Option("--law", metavar="NAME", help="A law to score; repeat it for several.")
    ] = None,
    hold_out: Annotated[
        str | None,
        typer.Option(
            "--hold-out",
            metavar="RULE",
            help="split (drawn before the trials), case, workload, gpu_model, strategy, gpu_count, size, model_family; "
            "split where every trial has one, else case.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.json", help="Also write every score.")] = None,
    allow_mixed_meters: Mixed = False,
) -> ExitCode:
    """Score laws on held-out trials.

    Beside them stand baselines. Every law is fitted anew on the other trials of each fold.
    """
    from joulelaw.bench.commands.law_files import told_of
    from joulelaw.bench.commands.law_told import tell_validation, write_validation
    from joulelaw.bench.dataset.operation_timings import read_operations
    from joulelaw.bench.files import check_target
    from joulelaw.model.validation import DEFAULT_LAWS
    from joulelaw.model.validation import validate as score

    if out is not None:
        check_target(out)
    measured, catalogue = _read(folders)
    laws = tuple(law or DEFAULT_LAWS)
    drawn = _is_drawn(measured)
    rule = hold_out or ("split" if drawn else "case")
    operations = read_operations(folders)
    with told_of(", ".join(map(str, folders))):
        result = score(measured, catalogue, laws, rule, operations=operations, allow_mixed_meters=allow_mixed_meters)
    if out is not None:
        write_validation(result, out)
    undrawn = () if hold_out or drawn else ("no hold-out was drawn before these trials: cases are left out",)
    tell_validation(result, out, undrawn)
    return ExitCode.DONE


def _is_drawn(measured: "pd.DataFrame") -> bool:
    """Whether every trial was put on one side of a hold-out before it ran; trials from elsewhere were not."""
    from joulelaw.model.holdout import FIT, HOLD_OUT

    return bool(measured["split"].isin([FIT, HOLD_OUT]).all())


def _read(folders: Sequence[Place]) -> "tuple[pd.DataFrame, Catalogue]":
    """The valid trials of data sets, and the catalogue with the devices that they bring along."""
    from joulelaw.bench.dataset.measurements import devices_files, read_measurements
    from joulelaw.model.hardware import Catalogue

    measured = read_measurements(folders)
    if measured.empty:
        remedy = "`joulelaw report` tells the reasons of each trial"
        raise InputError("no valid trials", where=", ".join(map(str, folders)), remedy=remedy)
    return _as_counted(measured, folders), Catalogue.load(devices_files(folders))


def _as_counted(measured: "pd.DataFrame", folders: Sequence[Place]) -> "pd.DataFrame":
    """Without trials on texts shorter than sequence_length, which is said."""
    from joulelaw.bench.dataset.measurements import with_full_texts

    counted = with_full_texts(measured)
    if not (left_out := len(measured) - len(counted)):
        return measured
    what = f"{left_out} of {len(measured)} trials left out: their texts were shorter than sequence_length"
    if counted.empty:
        remedy = "the laws count full sequences: measure a sequence_length that every text reaches, or synthetic data"
        raise InputError(what, where=", ".join(map(str, folders)), remedy=remedy)
    say(what)
    return counted
