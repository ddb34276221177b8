"""DeepSpeed trains on what the node has, whatever the machine of the driver has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from joulelaw.bench.training.preload import ENVIRONMENT, PRELOAD

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
from joulelaw.cluster.nodes import inventory
inventory.cuda_devices = lambda: {found}
import joulelaw.bench.training.accelerator
import os
print(os.environ["DS_ACCELERATOR"])
"""


@pytest.mark.parametrize(("found", "kind"), [("('a GPU',)", "cuda"), ("()", "cpu")])
def test_deepspeed_is_told_the_nodes_own_devices(found: str, kind: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    command = [sys.executable, "-c", SCRIPT.format(found=found)]
    done = subprocess.run(command, env=inherited | ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == kind


def test_it_is_told_before_it_is_imported() -> None:
    assert PRELOAD.index("joulelaw.bench.training.accelerator") < PRELOAD.index(
        "joulelaw.bench.training.deepspeed_if_there"
    )
