"""What fit and validate found: tables and notes to people, the last line to programs, and every score to a file."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from joulelaw.bench.commands.law_tables import (
    coefficients_table,
    estimated_note,
    folds_table,
    folds_tell_more,
    mixed_notes,
    narrow_notes,
    noise_notes,
    scores_table,
)
from joulelaw.bench.console import ExitCode, duration, last_line, say, to_people
from joulelaw.bench.files import write_text
from joulelaw.model.intervals import TARGETS
from joulelaw.model.laws import Watch
from joulelaw.model.laws.base import FittedLaw
from joulelaw.model.validation import Validation

TELL_EVERY_S = 5.0


def resamples_told(clock: Callable[[], float] = time.monotonic) -> Watch:
    """Says how far the resamples are and how long still, every few seconds: those of long tables take minutes."""
    begun = told = 0.0

    def watch(fitted: int, of: int) -> None:
        nonlocal begun, told
        now = clock()
        if fitted == 1:  # what came before it says nothing of the others
            begun = told = now
        elif now - told >= TELL_EVERY_S and fitted < of:
            told = now
            left = duration((now - begun) / (fitted - 1) * (of - fitted))
            say(f"{fitted} of {of} resamples fitted, for the intervals of coefficients; about {left} to go")

    return watch


def tell_fit(fitted: FittedLaw, out: Path) -> None:
    """The coefficients, and what is to be known of them."""
    origin = fitted.provenance
    to_people().print(coefficients_table(fitted))
    _print_notes((*fitted.notes, *narrow_notes(origin), *estimated_note(origin)))
    last_line(
        "fit",
        ExitCode.DONE,
        law=fitted.law.name,
        out=out,
        n_trials=origin.n_trials,
        n_cases=origin.n_cases,
        data_hash=origin.data_hash,
        meters=origin.meters,
        boundaries=origin.boundaries,
        energy_is_estimated=origin.energy_is_estimated,
        coefficients=[
            {"target": c.target, "name": c.name, "value": c.value, "low": c.low, "high": c.high, "unit": c.unit}
            for c in fitted.coefficients
        ],
    )


def tell_validation(result: Validation, out: Path | None, remarks: Sequence[str]) -> None:
    """Every fold's scores, then those of all together, and what is to be known of them, `remarks` first."""
    for shown in (folds_table, scores_table) if folds_tell_more(result) else (scores_table,):
        for target in TARGETS:
            to_people().print(shown(result, target))
    origin = result.provenance
    _print_notes((*remarks, *noise_notes(result.noise), *result.notes, *mixed_notes(origin), *estimated_note(origin)))
    content = result.to_dict()
    last_line(
        "validate",
        ExitCode.DONE,
        hold_out=result.hold_out,
        hold_out_sha256=result.hold_out_sha256 or None,
        energy_is_estimated=result.energy_is_estimated,
        out=out,
        noise=content["noise"],
        summaries=[
            {key: each[key] for key in ("law", "target", "post_run", "folds", "pooled")}
            for each in content["summaries"]
        ],
        folds=content["folds"],
    )


def write_validation(result: Validation, out: Path) -> None:
    """Every score and every forecast, as JSON."""
    predictions = json.loads(result.predictions.to_json(orient="records"))
    write_text(out, json.dumps({**result.to_dict(), "predictions": predictions}, indent=1) + "\n")


def _print_notes(notes: Iterable[str]) -> None:
    console = to_people()
    for note in notes:
        console.print(f"Note: {note}")
