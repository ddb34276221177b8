"""meter: the joules of a stretch of time, or of any command, per device."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from joulelaw import InputError
from joulelaw.bench.console import ExitCode, last_line, say, to_people

if TYPE_CHECKING:
    from joulelaw.cluster.power.meter import MeterChoice, MeterOptions

_LONGEST_S = 1e9  # 32 years: the system's own waits do not reach far beyond
_OPTIONS = {"kind": "--meter"}  # of the others the option is named like the field


def meter(
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND]", help="What is measured; the devices alone else.")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", metavar="S", help="How long; else until COMMAND ends, or until Ctrl-C."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--meter", metavar="NAME", help="auto (the best there is), nvml, rapl or estimate.")
    ] = "auto",
    devices: Annotated[
        str,
        typer.Option("--devices", metavar="LIST", help="UUIDs or indices (as nvidia-smi's), with commas; all else."),
    ] = "",
    idle_seconds: Annotated[
        float, typer.Option("--idle-seconds", metavar="S", help="First measure idle power: gives net energy too.")
    ] = 0.0,
    cpu_w_per_core: Annotated[
        float | None, typer.Option("--cpu-w-per-core", metavar="W", help="For the estimate: watts of a busy core.")
    ] = None,
    rate_hz: Annotated[float, typer.Option("--rate-hz", metavar="HZ", help="Readings a second.")] = 20.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="PLACE", help="Keep all readings: FILE.parquet, or a folder to read meanwhile."),
    ] = None,
) -> ExitCode:
    """The energy of a stretch of time or of any command.

    Per device, with its uncertainty and a verdict. The command keeps its own input, output and signals; our table
    goes to standard error.
    """
    from joulelaw.bench.meter.command import check_command
    from joulelaw.bench.meter.devices import chosen, node_devices
    from joulelaw.bench.meter.readings import store_at
    from joulelaw.bench.meter.run import Asked, measure_command, measure_stretch
    from joulelaw.bench.meter.told import as_json, notes, shown

    _check_seconds("--seconds", seconds, above=0.0)
    _check_seconds("--idle-seconds", idle_seconds)
    check_command(command or [])
    options = _options(kind, rate_hz, cpu_w_per_core)
    found = chosen(node_devices(options.kind), [name for name in devices.split(",") if name.strip()])
    store = None if out is None else store_at(out)
    asked = Asked(found, options, idle_seconds, store)
    try:
        if not command and seconds is None:
            say("Measuring until Ctrl-C")
        outcome = measure_command(asked, command, seconds) if command else measure_stretch(asked, seconds)
    except InputError as error:
        raise _named_by_option(error) from None
    result = outcome.result
    if command:
        print(flush=True)  # its last line may lack an end, and ours is to stand alone
    to_people(stderr=True).print(shown(result))
    for note in notes(result):
        say(note)
    if outcome.command_exit_code:
        say(f"The command ended with exit code {outcome.command_exit_code}")
    lost = "" if store is None else store.problem
    if lost:
        say(f"The readings could not be kept: {lost}")
    early = outcome.interrupted and outcome.command_exit_code != 0 and (bool(command) or seconds is not None)
    code = _code(result.valid, bool(outcome.command_exit_code or lost), early)
    values = {
        "ran": command or None,
        "command_exit_code": outcome.command_exit_code,
        "interrupted": outcome.interrupted,
        "out": None if lost else out,
        "out_id": None if store is None else store.trial_id,
    }
    last_line("meter", code, **as_json(result), **values)
    return code


def _code(valid: bool, failed: bool, interrupted: bool) -> ExitCode:
    if interrupted:
        return ExitCode.INTERRUPTED
    if failed:
        return ExitCode.FAILED
    return ExitCode.DONE if valid else ExitCode.INVALID_TRIALS


def _check_seconds(option: str, seconds: float | None, above: float = -math.inf) -> None:
    if seconds is not None and not (0 <= seconds <= _LONGEST_S and seconds > above):
        raise InputError(f"{seconds:g} s", where=option, remedy=f"choose seconds above 0, at most {_LONGEST_S:g}")


def _options(kind: str, rate_hz: float, cpu_w_per_core: float | None) -> "MeterOptions":
    from joulelaw.cluster.power.meter import MeterOptions

    choices = ("auto", "nvml", "rapl", "estimate")
    if kind not in choices:
        raise InputError(f"unknown meter {kind!r}", where="--meter", remedy=f"choose one of {', '.join(choices)}")
    try:
        return MeterOptions(rate_hz=rate_hz, kind=cast("MeterChoice", kind), cpu_w_per_core=cpu_w_per_core)
    except InputError as error:
        raise _named_by_option(error) from None


def _named_by_option(error: InputError) -> InputError:
    """What the sweep calls meter.rate_hz is an option here."""
    section, _, field = error.where.partition(" ")[0].partition(".")
    if section != "meter" or not field:
        return error
    where = _OPTIONS.get(field, "--" + field.replace("_", "-"))
    remedy = error.remedy.replace("`cpu_w_per_core`", "--cpu-w-per-core")
    return InputError(error.what, where=where, remedy=remedy)
