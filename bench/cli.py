"""The command line: `joulelaw`, also `python -m bench`. Starts light: each command imports what it needs.

Exit codes: 0 done, 1 failed, 2 bad input, 3 done with invalid trials, 130 interrupted. The last line of a command's
standard output is one JSON object, also where it failed.
"""

import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer
from typer.main import get_command

from joulelaw import InputError, __version__
from joulelaw.bench.commands import (
    calibrate,
    devices,
    export,
    imports,
    law,
    meter,
    predict,
    recommend,
    report,
    status,
    study,
)
from joulelaw.bench.commands.examples import epilog
from joulelaw.bench.console import ExitCode, last_line, say
from joulelaw.bench.study.supervisor import supervised

HELP = ["-h", "--help"]
# What a study needs beyond the law; `pip install joulelaw` alone is enough to fit and forecast.
STUDY_MODULES = ("deepspeed", "psutil", "pynvml", "ray", "torch", "transformers")

app = typer.Typer(
    name="joulelaw",
    help="What it costs, in joules and seconds, to fine-tune a Transformer on a group of GPUs: measured, and forecast.",
    epilog="\b\nA first study:\n  joulelaw doctor\n  joulelaw plan quickstart\n  joulelaw run quickstart",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": HELP},
)

COMMANDS: dict[str, Callable[..., ExitCode]] = {
    "doctor": study.doctor,
    "plan": study.plan,
    "run": study.run,
    "status": status.status,
    "trial": study.trial,
    "import": imports.import_table,
    "fit": law.fit,
    "validate": law.validate,
    "predict": predict.predict,
    "calibrate": calibrate.calibrate,
    "recommend": recommend.recommend,
    "devices": devices.devices,
    "export": export.export,
    "meter": meter.meter,
    "report": report.report,
}
# The first word that is no option begins the command to be measured, as with env or time.
SETTINGS = {"meter": {"allow_interspersed_args": False}}
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=epilog(_name), context_settings=SETTINGS.get(_name))(_command)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """What stands before a command."""
    context.obj["debug"] = debug
    context.obj["command"] = context.invoked_subcommand or ""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. No InputError and no usage error shows a traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = next((word for word in given if not word.startswith("-")), "")  # no option before it takes a value
    if arguments is None and command in ("run", "calibrate"):
        return supervised(lambda: _main(given), partial(_failed, {"command": command}, ExitCode.FAILED))
    return _main(given)


def _main(given: list[str]) -> int:
    state: dict[str, Any] = {"debug": False, "command": ""}
    try:
        code = get_command(app).main(args=given, prog_name="joulelaw", standalone_mode=False, obj=state)
    except InputError as error:
        return _failed(state, ExitCode.BAD_INPUT, str(error))
    except KeyboardInterrupt:
        return _failed(state, ExitCode.INTERRUPTED, "interrupted")
    except Exception as error:
        if hasattr(error, "format_message"):  # a usage error, whose class has moved between typer's versions
            command = f"joulelaw {state['command']}".rstrip()
            return _failed(state, ExitCode.BAD_INPUT, f"{error.format_message().rstrip('.')}; see {command} --help")
        return _unexpected(state, error)
    if code == ExitCode.INTERRUPTED and not isinstance(code, ExitCode):  # typer's own, on Ctrl-C
        return _failed(state, ExitCode.INTERRUPTED, "interrupted")
    return int(code or 0)


def _failed(state: dict[str, Any], code: ExitCode, message: str) -> int:
    say(message)
    last_line(state["command"], code, error=message)
    return code


def _unexpected(state: dict[str, Any], error: Exception) -> int:
    """Not the user's mistake: a short message; the traceback, where it may be ours, in a file."""
    from joulelaw.cluster.failures import ClusterError

    if isinstance(error, ModuleNotFoundError) and error.name in STUDY_MODULES:
        way = ", or run --alone" if error.name == "ray" else ""
        return _failed(state, ExitCode.FAILED, f"{error.name} is not installed; pip install 'joulelaw[bench]'{way}")
    if isinstance(error, ClusterError) and not state["debug"]:
        return _failed(state, ExitCode.FAILED, str(error))
    text = "".join(traceback.format_exception(error))
    message = f"unexpected error: {type(error).__name__}: {error}"
    if state["debug"]:
        say(text)
        return _failed(state, ExitCode.FAILED, message)
    with tempfile.NamedTemporaryFile("w", prefix="joulelaw-error-", suffix=".txt", delete=False) as file:
        file.write(text)
    return _failed(state, ExitCode.FAILED, f"{message} (the traceback is in {file.name})")
