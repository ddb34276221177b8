"""`python -m bench` from the root, and `python bench/__main__.py`: the same program as `joulelaw`.

`ray submit CLUSTER.yaml bench/__main__.py …` copies this one file to the head's home and runs it there: then the
program is the one installed on the cluster, and the cluster is the one that the head belongs to.
"""

import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
# The folder of this file must not be searched: its modules would hide others of the same name. The root holds
# joulelaw.py, which makes the import names work.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in (HERE, ROOT)]
if (ROOT / "joulelaw.py").is_file():
    sys.path.insert(0, str(ROOT))
else:
    os.environ.setdefault("RAY_ADDRESS", "auto")

try:
    from joulelaw.bench.cli import main
except ModuleNotFoundError as error:
    if error.name != "joulelaw":
        raise
    sys.exit(f"joulelaw is not installed for {sys.executable}: see setup_commands in cluster/deploy/")

if __name__ == "__main__":
    sys.exit(main())
