"""docs/adding.md, followed as it stands on a copy of the checkout: files, lines and commands."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding.md").read_text()
CODE = ("bench", "cluster", "model", "tests", "joulelaw.py", "pyproject.toml")
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
STEP = re.compile(
    r"^(?:New file|In) `(?P<path>[^`]+)`(?:, (?P<how>after|before|the line that begins) `(?P<line>[^`]+)`)?"
)


@dataclass(frozen=True)
class Section:
    """The steps and commands under one heading."""

    steps: list[tuple[re.Match[str], str]]
    commands: list[str]


def section(title: str) -> Section:
    text = PAGE[PAGE.index(f"## {title}\n") :].split("\n## ")[0]
    blocks = list(BLOCK.finditer(text))
    steps = [(STEP.match(block["before"]), block["text"]) for block in blocks if block["language"] != "sh"]
    assert all(step for step, _ in steps), "every block says where it goes"
    commands = [line for block in blocks if block["language"] == "sh" for line in block["text"].splitlines()]
    return Section([(step, text) for step, text in steps if step], commands)


def placed(lines: list[str], how: str, begins: str, new: str) -> list[str]:
    """The file's lines with the block where the page says, by the first line that begins so."""
    at = next(k for k, line in enumerate(lines) if line.strip().startswith(begins.strip()))
    first, last = {"before": (at, at), "after": (at + 1, at + 1)}.get(how, (at, at + 1))
    return [*lines[:first], *new.splitlines(keepends=True), *lines[last:]]


Followed = Callable[[str], list[subprocess.CompletedProcess[str]]]


@pytest.fixture
def follow(tmp_path: Path) -> Followed:
    """Follows a section on a copy, and runs its commands there."""
    for name in CODE:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / name)
    (tmp_path / "results").symlink_to(ROOT / "results")
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "PYTEST_ADDOPTS": "-p no:cacheprovider -n 0"}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        program, *rest = shlex.split(command)
        arguments = [sys.executable, *(["-m", "joulelaw.bench"] if program == "joulelaw" else []), *rest]
        return subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    def followed(title: str) -> list[subprocess.CompletedProcess[str]]:
        told = section(title)
        for step, text in told.steps:
            path = tmp_path / step["path"]
            if step["how"]:
                text = "".join(placed(path.read_text().splitlines(keepends=True), step["how"], step["line"], text))
            path.write_text(text)
        return [run(command) for command in told.commands]

    return followed


RUNS = """\
gpu_model,gpu_count,strategy,model_family,num_layers,hidden_size,num_heads,intermediate_size,vocab_size,\
sequence_length,micro_batch_size,grad_accumulation,precision,micro_steps,node_count
{gpu_model},1,single,bert,12,768,12,3072,30522,128,32,1,fp32,1000,1
"""


def passed(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_gpu(follow: Followed, tmp_path: Path) -> None:
    (tmp_path / "runs.csv").write_text(RUNS.format(gpu_model="Example 9000"))
    (done,) = follow("A GPU")
    assert json.loads(passed(done).splitlines()[-1])["rows"] == 1
    assert "gpu_model" in (tmp_path / "forecast.csv").read_text(), "it is extrapolated to"


@pytest.mark.xdist_group("ranks")
def test_a_strategy(follow: Followed) -> None:
    (done,) = follow("A strategy")
    assert re.search(r"[1-9]\d* passed", passed(done))


def test_a_workload(follow: Followed) -> None:
    (done,) = follow("A workload")
    assert re.search(r"[1-9]\d* passed", passed(done))


def test_a_meter(follow: Followed, tmp_path: Path) -> None:
    sweep = (ROOT / "bench/sweeps/quickstart.yaml").read_text()
    (tmp_path / "battery.yaml").write_text(re.sub(r"meter: \w+", "meter: battery", sweep))
    (done,) = follow("A meter")
    assert "no battery with power_now" in done.stderr
    battery = tmp_path / "supply" / "BAT0"
    battery.mkdir(parents=True)
    (battery / "status").write_text("Discharging\n")
    (battery / "power_now").write_text("12500000\n")
    script = (
        "from pathlib import Path; from types import SimpleNamespace as Device\n"
        "from joulelaw.cluster.power.battery import open_battery\n"
        "print(open_battery([Device(uuid='cpu-0')], Path('supply')).read()[0].power_w)"
    )
    read = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
    )
    assert float(read.stdout) == 12.5


def test_a_law(follow: Followed, tmp_path: Path) -> None:
    gpu_model = json.loads((ROOT / "results/2x-amd-epyc-1-core/quickstart/law.json").read_text())["devices"][0]["name"]
    (tmp_path / "runs.csv").write_text(RUNS.format(gpu_model=gpu_model))
    fitted, predicted, validated = map(passed, follow("A law"))
    assert "duration.share" in fitted
    assert json.loads(predicted.splitlines()[-1])["rows"] == 1
    assert "peak_share" in validated
