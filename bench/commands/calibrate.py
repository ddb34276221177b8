"""calibrate: a law is brought up to date for a device model that it does not know, and judged."""

import os
import shlex
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from joulelaw import InputError
from joulelaw.bench.commands.places import Place, Where, as_argument, place
from joulelaw.bench.console import ExitCode, last_line, say, to_people

if TYPE_CHECKING:
    from joulelaw.bench.calibration.folder import Asked
    from joulelaw.bench.calibration.standing import Standing
    from joulelaw.model.holds import Judgement
    from joulelaw.model.laws.base import FittedLaw

WRITTEN = "calibrated.json"


def calibrate(
    law: Annotated[str, typer.Argument(metavar="LAW", help="A law file, or `default`.")],
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped one.")],
    into: Annotated[
        Where | None,
        typer.Option(
            "--into",
            metavar="DIR",
            parser=place,
            help="Where the trials go, a folder or a URI; results/<machine>/<sweep>-calibration else.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="LAW.json", help="The law to write; calibrated.json in DIR else.")
    ] = None,
    gpu_model: Annotated[
        str | None,
        typer.Option("--gpu-model", metavar="NAME", help="The device model; the one that the law does not know else."),
    ] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=4, help="Correct the law by so many at most.")] = 8,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", metavar="F", help="Stop where half of the intervals are within x / F."),
    ] = 1.5,
    validation: Annotated[
        int, typer.Option("--validation", metavar="N", min=2, help="Trials to judge the law by, of other cases.")
    ] = 4,
    alone: Annotated[bool, typer.Option("--alone", help="On this machine's devices, without Ray.")] = False,
) -> ExitCode:
    """Bring a law up to date for a new GPU model.

    Shows the forecasts that the law makes blind, runs the few trials of the sweep that tell most about the device,
    corrects the law by them, and judges it by further ones, drawn by the sweep's seed before anything runs. Stopped at
    any point, the same command goes on. Exit code 1 where the law does not hold, or that cannot be told.
    """
    asked = _asked(law, sweep, gpu_model, most, tolerance, validation)
    _check(asked, law, into, out, here=alone or "RAY_ADDRESS" not in os.environ)
    from joulelaw.bench.calibration.run import Watch, run_calibration
    from joulelaw.bench.calibration.told import tell_after, tell_batch, tell_blind

    try:
        ended = run_calibration(asked, into, Watch(tell_blind, tell_batch, tell_after), alone=alone)
    except KeyboardInterrupt:  # before the first trial, or once more while the ranks were being ended
        say("Stopped. The same command goes on")
        raise
    standing = ended.standing
    if ended.interrupted:
        command = ["joulelaw", "calibrate", law, sweep, "--into", as_argument(ended.folder)]
        say(f"Stopped. Finished trials are kept; to go on: {shlex.join(command)} and the options as they were")
        last_line("calibrate", ExitCode.INTERRUPTED, folder=ended.folder, **_counts(standing))
        return ExitCode.INTERRUPTED
    if standing.taken.empty:
        what = f"none of the {len(standing.record.chosen)} trials that were to correct the law is valid"
        what += f" ({_why(standing, ended.folder)}): the same command tries those again that failed"
        say(what)
        last_line("calibrate", ExitCode.FAILED, folder=ended.folder, error=what, **_counts(standing))
        return ExitCode.FAILED
    return _judged(standing, ended.folder, out)


def _asked(law: str, sweep: str, gpu_model: str | None, most: int, tolerance: float, validation: int) -> "Asked":
    from joulelaw.bench.calibration.folder import Asked
    from joulelaw.bench.calibration.standing import Goal
    from joulelaw.bench.commands.law_files import open_law
    from joulelaw.bench.spec.sweep_file import load_sweep
    from joulelaw.model.laws.roofline import Roofline

    if not 1.01 <= tolerance <= 100:
        remedy = "a factor: 1.5 is half as much again, either way"
        raise InputError(f"{tolerance:g} is no tolerance", where="--tolerance", remedy=remedy)
    fitted = open_law(law)
    if not isinstance(fitted.law, Roofline):
        what = f"the law {fitted.law.name} has no corrections by device"
        raise InputError(what, where=law, remedy="calibrate a roofline law")
    return Asked(fitted, law, load_sweep(sweep), gpu_model, Goal(most, tolerance, validation))


def _check(asked: "Asked", law: str, into: Place | None, out: Path | None, *, here: bool) -> None:
    """Tells what can be seen from here before Ray and torch, which take seconds, are imported.

    `here`: the devices are this machine's, not a cluster's.
    """
    from joulelaw.bench.calibration.folder import check_boundary
    from joulelaw.bench.calibration.plan import calibration_plan, chosen_model
    from joulelaw.bench.files import check_folder, check_target
    from joulelaw.bench.installed import missing_strategies, need
    from joulelaw.bench.plan.devices import local_nodes, with_assumed
    from joulelaw.bench.plan.making import make_plan
    from joulelaw.bench.plan.meter import local_meter
    from joulelaw.model.hardware import Catalogue

    if out is not None:
        check_target(out)
    target = out if out is not None or into is None else into / WRITTEN
    if isinstance(target, Path) and target.exists() and Path(law).exists() and target.samefile(law):
        what = "the law that is to be calibrated would be replaced, and the command could not go on with it"
        raise InputError(what, where=str(target), remedy="name another file with --out")
    check_folder(into or Path("results"))
    if here:
        need("torch")
        nodes = local_nodes(asked.sweep)
        catalogue, _ = with_assumed(Catalogue.load(), nodes)
        plan = make_plan(asked.sweep, nodes, catalogue, missing=missing_strategies())
        model = chosen_model((trial.group[0] for trial in plan.trials), asked.law, asked.gpu_model)
        calibration_plan(plan, model, asked.goal.validation, str(asked.sweep.path))
        check_boundary([local_meter(asked.sweep, nodes[0])], asked.law)


def _judged(standing: "Standing", folder: Place, out: Path | None) -> ExitCode:
    """The verdict is told, and the law written with it."""
    from joulelaw.bench.calibration.told import errors_table, validation_table
    from joulelaw.model.holds import judge, judged

    model = standing.record.gpu_model
    found = judge(standing.blind, standing.law, standing.validation, standing.goal.tolerance)
    corrected = judged(standing.law, found, model)
    console = to_people()
    if found.after:
        console.print(validation_table(standing))
        console.print(errors_table(found))
    console.print(f"{model}: {found.verdict}.")
    for note in _notes(standing, found, folder):
        console.print(f"Note: {note}")
    target = _written(corrected, folder, out)
    code = ExitCode.DONE if found.holds else ExitCode.FAILED
    last_line(
        "calibrate",
        code,
        folder=folder,
        out=target,
        **_counts(standing),
        holds=found.holds,
        verdict=found.verdict,
        tolerance_met=standing.reached,
        interval_factors=dict(standing.factors),
        energy_is_estimated=standing.law.provenance.energy_is_estimated,
        before={target: asdict(errors) for target, errors in found.before.items()},
        after={target: asdict(errors) for target, errors in found.after.items()},
    )
    return code


def _notes(standing: "Standing", found: "Judgement", folder: Place) -> list[str]:
    tolerance = standing.goal.tolerance
    notes = [f"trials of no use: {why}"] if (why := _why(standing, folder)) else []
    if not standing.reached:
        notes.append(
            f"the tolerance of x / {tolerance:g} is not met; what the law misses unseen cases of known devices by, and "
            "what a strategy may be off by on a new one, no trial takes away"
        )
    if found.holds is False:
        notes.append(
            f"the law that is written goes on taking {standing.record.gpu_model} for a device that it does not cover: "
            "measure more of it, and fit anew"
        )
    kinds = set(standing.validation["meter_kind"]) | set(standing.taken["meter_kind"])
    if "estimated" in kinds:
        notes.append("the joules of these trials are estimates (watts x CPU time): the verdict on energy proves little")
    return notes


def _written(law: "FittedLaw", folder: Place, out: Path | None) -> Place:
    import json

    from joulelaw.bench.files import write_text
    from joulelaw.model.coefficients import to_dict

    target: Place = out if out is not None else folder / WRITTEN
    write_text(target, json.dumps(to_dict(law), indent=1) + "\n")
    return target


def _of_no_use(standing: "Standing") -> list[str]:
    """The trials that have run, and are not valid."""
    asked = [*standing.record.chosen, *standing.record.validation]
    valid = set(standing.measured["trial_id"])
    return [trial_id for trial_id in asked if trial_id in standing.ended and trial_id not in valid]


def _why(standing: "Standing", folder: Place) -> str:
    """What was wrong with trials of no use, and with how many."""
    from joulelaw.bench.dataset.measurements import read_trials

    if not (useless := set(_of_no_use(standing))):
        return ""
    rows = read_trials(folder)
    reasons = Counter(
        reason
        for row in rows[rows["trial_id"].isin(useless)].to_dict("records")
        for reason in ([row["cause"]] if row["status"] != "done" else row["reasons"])
    )
    return ", ".join(f"{count} x {reason}" for reason, count in reasons.most_common())


def _counts(standing: "Standing") -> dict[str, object]:
    return {
        "gpu_model": standing.record.gpu_model,
        "taken": list(standing.taken["trial_id"]),
        "validation": list(standing.validation["trial_id"]),
        "of_no_use": _of_no_use(standing),
    }
