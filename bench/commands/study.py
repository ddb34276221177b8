"""doctor, plan, run and trial: what happens before and while trials run."""

import os
import shlex
import sys
from collections import Counter
from math import inf
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from joulelaw.bench.commands.places import Place, Where, as_argument, place
from joulelaw.bench.console import ExitCode, last_line, number, say, table, to_people

SweepArgument = Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep file, or the name of a shipped one.")]
IntoOption = Annotated[
    Where | None,
    typer.Option(
        "--into",
        metavar="DIR",
        parser=place,
        help="Where the data set goes, a folder or a URI (s3://, gs://); results/<machine>/<sweep> else.",
    ),
]


def doctor() -> ExitCode:
    """Say what runs and is metered here.

    With everything that is missing comes what to do about it.
    """
    from joulelaw.bench.doctor import examine

    diagnosis = examine(Path())
    shown = table("This machine", ["", "found", "state", "what to do"])
    styles = {"ok": "green", "note": "yellow", "missing": "bold red"}
    for check in diagnosis.checks:
        style = styles[check.state]
        shown.add_row(check.name, escape(check.found), f"[{style}]{check.state}[/{style}]", escape(check.remedy))
    to_people().print(shown)
    if not diagnosis.can_run:
        say("No trial can run here yet. What needs none can: predict, recommend, import, fit, validate, report")
    code = ExitCode.DONE if diagnosis.can_run else ExitCode.FAILED
    last_line(
        "doctor",
        code,
        can_run=diagnosis.can_run,
        meter=diagnosis.meter or None,
        meter_kind=diagnosis.meter_kind or None,
        devices=[{"uuid": each.uuid, "gpu_model": each.model, "kind": each.kind} for each in diagnosis.devices],
        checks=[vars(check) for check in diagnosis.checks],
    )
    return code


def plan(
    sweep: SweepArgument,
    law: Annotated[
        str | None, typer.Option("--law", metavar="LAW", help="A fitted law, or `default`, for better times.")
    ] = None,
) -> ExitCode:
    """Show what a sweep would run.

    Its trials, groups, memory, expected time and hold-out on this machine, or on the cluster that RAY_ADDRESS names.
    Nothing is written.
    """
    from joulelaw.bench.commands.law_files import open_law
    from joulelaw.bench.installed import missing_strategies
    from joulelaw.bench.plan.devices import cluster_nodes, local_nodes, with_assumed
    from joulelaw.bench.plan.display import set_aside_counts, show_plan
    from joulelaw.bench.plan.making import make_plan
    from joulelaw.bench.plan.meter import local_meter
    from joulelaw.bench.plan.table import is_long
    from joulelaw.bench.plan.wall import expected_wall_s, one_trial_nodes
    from joulelaw.bench.spec.sweep_file import load_sweep
    from joulelaw.model.hardware import Catalogue

    asked = load_sweep(sweep)
    here = "RAY_ADDRESS" not in os.environ
    nodes = local_nodes(asked) if here else cluster_nodes(asked)
    meter = local_meter(asked, nodes[0]) if here else None
    catalogue, assumed = with_assumed(Catalogue.load(), nodes)
    fitted = None if law is None else open_law(law, catalogue=catalogue)
    made = make_plan(asked, nodes, catalogue, fitted, missing_strategies() if here else {})
    wall_s = expected_wall_s(made.trials, nodes, one_trial_nodes(nodes, meter, share_node=asked.limits.share_node))
    show_plan(made, nodes, assumed, meter, to_people(), wall_s)
    listed = not (is_long(made) and sys.stdout.isatty())  # a person would see nothing but this line
    if not listed:
        say("Each trial is listed in the last line of the output, where that goes to a file or a pipe.")
    last_line(
        "plan",
        ExitCode.DONE,
        name=made.name,
        plan_id=made.plan_id,
        planned=len(made.trials),
        baselines_added=sum(trial.baseline for trial in made.trials),
        held_out=sum(trial.split == "hold_out" for trial in made.trials),
        hold_out_sha256=made.hold_out.hash,
        set_aside=set_aside_counts(made),
        expected_s=wall_s,
        assumed_devices=assumed,
        nodes=len(nodes),
        devices=dict(sorted(Counter(device.model for node in nodes for device in node.devices).items())),
        meter=meter and meter.name,
        meter_kind=meter and meter.kind,
        boundary=meter and (meter.boundary or None),
        trials=[
            {"trial_id": each.trial_id, "split": each.split, "baseline": each.baseline, **vars(each.price)}
            for each in made.trials
            if listed
        ],
    )
    return ExitCode.DONE


def run(
    sweep: SweepArgument,
    into: IntoOption = None,
    alone: Annotated[bool, typer.Option("--alone", help="On this machine's devices, without Ray.")] = False,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="M", min=0, help="Begin no trial that might not be over by then."),
    ] = None,
) -> ExitCode:
    """Run a study, or go on with one.

    Stopped at any point, the same command finishes the rest and repeats nothing. A local Ray is started unless
    RAY_ADDRESS names a cluster. With --alone there is no Ray: for one machine, and where it is not installed. Where
    time is short, --minutes ends a run before its trials are all done, as Ctrl-C does, but with none of them cut.
    """
    _check(sweep, into, here=alone or "RAY_ADDRESS" not in os.environ)
    from joulelaw.bench.spec.sweep_file import find_sweep
    from joulelaw.bench.study.study import run_study

    if to_people(stderr=True).is_terminal:
        say(f"Starting {'' if alone else 'Ray and '}the meters")  # seconds in which nothing else is seen
    again = [*(["--alone"] if alone else []), *([] if minutes is None else ["--minutes", f"{minutes:g}"])]
    try:
        result = run_study(find_sweep(sweep), into, alone=alone, limit_s=inf if minutes is None else 60 * minutes)
    except KeyboardInterrupt:  # before the first trial, or once more while the ranks were being ended
        _say_how_to_go_on(sweep, into, again)
        raise
    code = _run_code(result.interrupted, result.failed - result.unfit, result.invalid + result.unfit)
    if result.interrupted:
        _say_how_to_go_on(sweep, result.folder, again)
    last_line(
        "run",
        code,
        folder=result.folder,
        done=result.done,
        failed=result.failed,
        unfit=result.unfit,
        invalid=result.invalid,
        already_done=result.already_done,
        interrupted=result.interrupted,
    )
    return code


def trial(
    sweep: SweepArgument,
    trial_id: Annotated[
        str | None, typer.Option("--id", metavar="TRIAL_ID", help="As `plan` shows it; the first trial else.")
    ] = None,
    into: IntoOption = None,
    operations: Annotated[
        bool,
        typer.Option("--operations", help="Time the operations of all single-device trials (or of --id's) instead."),
    ] = False,
) -> ExitCode:
    """Run one trial alone, without Ray.

    For a first look, for debugging, or where there is no Ray. With --operations nothing is trained: each operation of
    a micro-step runs alone, and their sum is shown beside the whole.
    """
    _check(sweep, into, here=True)
    if operations:
        return _time_operations(sweep, trial_id, into)
    from joulelaw.bench.spec.sweep_file import find_sweep
    from joulelaw.bench.study.single_trial import run_trial

    row = run_trial(find_sweep(sweep), trial_id, into)
    shown = table(f"Trial {row['trial_id']}", ["", "value"])
    for name in ("status", "failure", "duration_s", "energy_j", "meter", "verdict", "loss_first", "loss_last"):
        value = row.get(name)
        shown.add_row(name, number(value) if isinstance(value, float) else escape(str(value or "-")))
    to_people().print(shown)
    code = _run_code(False, int(row["status"] != "done"), int(row["verdict"] != "valid"))
    last_line("trial", code, **{name: value for name, value in row.items() if not hasattr(value, "isoformat")})
    return code


def _time_operations(sweep: str, trial_id: str | None, into: Place | None) -> ExitCode:
    from joulelaw.bench.operations.display import as_json, show
    from joulelaw.bench.operations.operations import time_operations
    from joulelaw.bench.spec.sweep_file import find_sweep

    outcome = time_operations(find_sweep(sweep), trial_id, into, say)
    show(outcome, to_people())
    last_line("trial", ExitCode.DONE, **as_json(outcome))
    return ExitCode.DONE


def _say_how_to_go_on(sweep: str, folder: Place | None, options: list[str]) -> None:
    into = [] if folder is None else ["--into", as_argument(folder)]
    say(f"Stopped. Finished trials are kept; to go on: {shlex.join(['joulelaw', 'run', sweep, *into, *options])}")


def _check(sweep: str, into: Place | None, *, here: bool) -> None:
    """Tells every mistake that can be seen from here before Ray and torch, which take seconds, are even imported.

    `here`: the devices and meters are this machine's, not a cluster's.
    """
    from joulelaw.bench.files import check_folder
    from joulelaw.bench.installed import missing_strategies, need
    from joulelaw.bench.plan.devices import local_nodes, with_assumed
    from joulelaw.bench.plan.making import make_plan
    from joulelaw.bench.plan.meter import NO_JOULES, local_meter
    from joulelaw.bench.spec.sweep_file import load_sweep
    from joulelaw.model.hardware import Catalogue

    asked = load_sweep(sweep)
    check_folder(into or Path("results"))
    if here:
        nodes = local_nodes(asked)
        catalogue, _ = with_assumed(Catalogue.load(), nodes)
        make_plan(asked, nodes, catalogue, missing=missing_strategies())
        need("torch")
        if local_meter(asked, nodes[0]).kind == "none":
            say(NO_JOULES)


def _run_code(interrupted: bool, failed: int, invalid: int) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    if failed:
        return ExitCode.FAILED
    return ExitCode.INVALID_TRIALS if invalid else ExitCode.DONE
