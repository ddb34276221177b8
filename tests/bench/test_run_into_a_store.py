"""The commands, from a sweep to a law, with the dataset in an object store."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from joulelaw.bench.dataset.storage import place
from tests.bench.object_stores import CREDENTIALS, S3Server, child_environment, s3_server

pytestmark = [pytest.mark.xdist_group("object store"), pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
SWEEP = """\
schema: 1
name: stored
seed: 3
defaults: {vocab_size: 500, hidden_size: 64, sequence_length: 32}
grids:
  - {num_layers: [1, 2], micro_batch_size: [1, 2]}
window: {warmup_steps: 1, min_steps: 5, min_s: 2.5, max_s: 30, tolerance: 0}
hold_out: {fraction: 0}
metering: {meter: estimate, cpu_w_per_core: 10.0, idle_s: 0}
"""


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as started:
        yield started


def program(home: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    environment = child_environment() | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "joulelaw.bench", *arguments]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=250)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_a_study_is_run_and_fitted_there(server: S3Server, tmp_path: Path) -> None:
    (tmp_path / "stored.yaml").write_text(SWEEP)
    uri = server.uri("machine/stored")
    run = ("run", "stored.yaml", "--alone", "--into", uri)
    code, told, errors = program(tmp_path, *run)
    assert (code, told["done"], told["failed"]) == (0, 4, 0), errors
    assert told["folder"] == uri
    assert program(tmp_path, *run)[1]["already_done"] == 4
    code, told, errors = program(tmp_path, "fit", uri, "--out", "law.json")
    assert code == 0, errors
    assert json.loads((tmp_path / "law.json").read_text())["provenance"]["n_trials"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["law.json", "stored.yaml"], "nothing is kept here"

    folder = place(uri)
    assert {path.name for path in folder.glob("*")} >= {"sweep.yaml", "plan.json", "environment.json"}
    texts = [path.read_bytes() for path in [*folder.glob("*"), *(folder / "events").glob("*")]]
    assert not any(CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode() in text for text in texts)
