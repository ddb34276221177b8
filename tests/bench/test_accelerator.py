"""DeepSpeed trains on what the node has, whatever the machine of the driver has."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from joulelaw.bench.training.preload import ENVIRONMENT, PRELOAD, preload_of
from tests.bench.factories import configurations

ROOT = Path(__file__).resolve().parents[2]
LARGE = ("deepspeed", "transformers", "torch._inductor.compile_fx")
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


def test_only_the_libraries_that_a_sweep_needs_are_loaded_before_its_first_trial() -> None:
    """A study that starts anew after a kill waits for them."""
    single = next(configurations())
    zero, compiled = replace(single, strategy="zero2"), replace(single, torch_compile=True)
    torchs = replace(single, model_family="lstm", input_size=64)
    assert preload_of([single, zero]) == preload_of([compiled]) == PRELOAD
    script = "import sys; [__import__(each) for each in {modules!r}]; print(*{{*{big!r}}} & {{*sys.modules}})"
    loaded = {}
    for name, asked in (("single", single), ("torchs", torchs)):
        command = [sys.executable, "-c", script.format(modules=preload_of([asked]), big=LARGE)]
        done = subprocess.run(
            command, env=os.environ | ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=True
        )
        loaded[name] = done.stdout.split()
    assert loaded == {"single": ["transformers"], "torchs": []}
