"""JouleLaw: what it costs, in joules and seconds, to fine-tune a Transformer on a group of GPUs.

The three packages live in the folders ``model``, ``cluster`` and ``bench`` at the top of the repository and
are imported as ``joulelaw.model``, ``joulelaw.cluster`` and ``joulelaw.bench``, so that they never shadow a
user's own ``model.py``. This module makes those names work from a plain checkout, a Ray working directory, an
editable install and a wheel alike: its ``__path__`` is the folder that holds the three.
"""

from pathlib import Path

__version__ = "0.1.0"

_here = Path(__file__).resolve().parent
_installed = _here / "joulelaw"
__path__ = [str(_installed if _installed.is_dir() else _here)]


class InputError(Exception):
    """A user's mistake: what was wrong, the value seen, where, and what to do.

    The command line prints it as one message, without a traceback, and exits with code 2.

    >>> print(InputError("unknown strategy 'fdsp'", where="sweep.yaml:7 strategy", remedy="did you mean 'fsdp'?"))
    sweep.yaml:7 strategy: unknown strategy 'fdsp'; did you mean 'fsdp'?
    """

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)  # all three in args, so that it pickles across processes
        self.what = what
        self.where = where
        self.remedy = remedy

    def __reduce__(self) -> tuple[object, ...]:
        return (_input_error, (type(self), self.what, self.where, self.remedy))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{place}{self.what}{remedy}"


def _input_error(kind: type[InputError], what: str, where: str, remedy: str) -> InputError:
    return kind(what, where=where, remedy=remedy)
