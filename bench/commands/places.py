"""Where a data set is, as the argument of a command: a folder or a URI, which `parser=place` reads."""

from pathlib import Path
from typing import TYPE_CHECKING

from joulelaw.bench.dataset.storage import Place, as_argument, place

__all__ = ["Place", "Where", "as_argument", "place"]

if TYPE_CHECKING:
    Where = Place
else:
    Where = Path  # typer knows no unions; the parser gives either
