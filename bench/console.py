"""How the command line speaks: people on standard error and in tables, programs in one JSON object at the end."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from joulelaw.bench.dataset.storage import ObjectPath, as_argument

MIN_WIDTH = 130
# Of a value in the last line where a person sees it: a list of all coefficients would push their table out of sight.
MOST_SEEN = 1000


class ExitCode(IntEnum):
    """What the process ends with; part of the interface."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    INVALID_TRIALS = 3
    INTERRUPTED = 130


def to_people(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal, or wide enough for our tables where there is none."""
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console = Console(stderr=stderr, highlight=False, width=max(MIN_WIDTH, console.width), soft_wrap=True)
    return console


def say(message: str) -> None:
    """One message to a person, on standard error, as it is."""
    print(message, file=sys.stderr, flush=True)


def last_line(command: str, code: int, **values: Any) -> None:
    """The last line of standard output: one JSON object, with the exit code. A number that is not finite is null.

    On a terminal long lists are left out of it, and named under `not_shown`; a file or a pipe gets all.
    """
    content = _plain({"command": command, "exit_code": int(code), **values})
    if sys.stdout.isatty():
        long = [name for name, value in content.items() if len(json.dumps(value)) > MOST_SEEN and name != "error"]
        content = {name: value for name, value in content.items() if name not in long}
        content |= {"not_shown": long} if long else {}
    print(json.dumps(content, allow_nan=False), flush=True)


def table(title: str, columns: Sequence[str], numeric: Sequence[str] = ()) -> Table:
    """An empty table; the columns named in `numeric` are aligned to the right."""
    made = Table(
        title=title, title_justify="left", title_style="bold", header_style="bold", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in columns:
        made.add_column(column, justify="right" if column in numeric else "left", overflow="fold")
    return made


def _plain(value: Any) -> Any:
    """JSON's own types: NumPy's numbers become Python's, paths and times text, what is not finite None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Path | ObjectPath):
        return as_argument(value)
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "item"):  # a NumPy number
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits without an exponent where it can be read so; a dash for what is not known."""
    if value is None or not math.isfinite(value):
        return "-"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{decimals}f}"


def counted(count: int, what: str) -> str:
    """`1 trial`, `2,000 trials`: of words that take an s."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    if seconds < 60:
        return f"{number(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
