"""`python -m bench` from the root, and `python bench/__main__.py`: the same program as `joulelaw`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The root holds joulelaw.py, which makes the import names work; the folder of this file must not be searched, as
# its modules would hide others of the same name.
sys.path[:] = [
    str(HERE.parent),
    *(entry for entry in sys.path if Path(entry or ".").resolve() not in (HERE, HERE.parent)),
]

from joulelaw.bench.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
