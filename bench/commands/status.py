"""status: how a study stands, while it runs and after."""

import time
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from joulelaw.bench.commands.places import Where, as_argument, place
from joulelaw.bench.console import ExitCode, last_line, to_people

if TYPE_CHECKING:
    from joulelaw.bench.status.reader import StatusReader
    from joulelaw.bench.status.status import StudyStatus

WATCH_EVERY_S = 1.0


def status(
    folder: Annotated[
        Where, typer.Argument(metavar="DIR", parser=place, help="The folder or URI that `joulelaw run` writes to.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Go on looking until the study ends, or Ctrl-C.")] = False,
) -> ExitCode:
    """Say how a study stands.

    What is done, runs and waits, what failed and why, the energy so far, and when it will be over. Reads only the
    folder, from any machine that sees it, while the study runs and after.
    """
    from joulelaw.bench.status.reader import StatusReader
    from joulelaw.bench.status.status import status_of
    from joulelaw.bench.status.view import show

    reader = StatusReader(folder)
    found = status_of(reader.look())
    if watch:
        found = _watched(reader, found)
    else:
        to_people().print(show(found))
    last_line("status", ExitCode.DONE, folder=as_argument(folder), **asdict(found), power_w=found.power_w)
    return ExitCode.DONE


def _watched(reader: "StatusReader", found: "StudyStatus") -> "StudyStatus":
    """The last status seen: by then the study has ended, or the person has seen enough."""
    from rich.live import Live

    from joulelaw.bench.status.status import status_of
    from joulelaw.bench.status.view import news, show

    console = to_people()
    before = None
    drawn = Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext()
    with drawn as live, suppress(KeyboardInterrupt):
        while True:
            if live is not None:
                live.update(show(found), refresh=True)
            for line in news(before, found) if live is None else ():
                print(line, flush=True)
            if not found.at_work:
                break
            time.sleep(WATCH_EVERY_S)
            before, found = found, status_of(reader.look())
    return found
