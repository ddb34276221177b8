"""docs/tutorial.md, typed as it stands: every file, every command in order, and lines of their output.

Figures that only the machine decides are compared in their form; those of the committed trials in their value, too.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
FILE = re.compile(r"New file `([^`]+)`:")
NUMBER = re.compile(r"\d[\d.,]*(?:e[+-]?\d+)?")
SIGN = re.compile(r"(?<![\w#])-(?=#)")
UNIT = re.compile(r"# min # s|# h # min|# (?:s|min|h)\b")  # 61 s are 1 min 1 s
LAWS = "2x-amd-epyc-1-core"
# One after the other: the second takes the law of the first, and all of them the cores.
pytestmark = [pytest.mark.xdist_group("tutorial"), pytest.mark.timeout(480)]


@dataclass
class Session:
    """A user's terminal: a folder, and commands in it."""

    folder: Path
    process: subprocess.Popen[str]
    told: list[dict[str, Any]] = field(default_factory=list)

    def run(self, command: str) -> dict[str, Any]:
        program, *words = shlex.split(command, comments=True)
        if program == "joulelaw":
            assert self.process.stdin is not None
            assert self.process.stdout is not None
            print(json.dumps(words), file=self.process.stdin, flush=True)
            done = json.loads(self.process.stdout.readline())
        else:
            ran = subprocess.run(
                command, shell=True, cwd=self.folder, env=environment(), capture_output=True, text=True
            )
            done = {"code": ran.returncode, "out": ran.stdout, "err": ran.stderr, "loaded": []}
        self.told.append(done | {"command": command})
        return self.told[-1]


def environment() -> dict[str, str]:
    beside = str(Path(sys.executable).parent)
    return os.environ | {"PYTHONPATH": str(ROOT), "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """results/local/try of a clone."""
    results = tmp_path_factory.mktemp("clone") / "results"
    (results / "local" / "try").mkdir(parents=True)
    (results / LAWS).symlink_to(ROOT / "results" / LAWS)
    return results / "local" / "try"


@pytest.fixture(scope="module")
def session(folder: Path) -> Iterator[Session]:
    command = [sys.executable, str(ROOT / "tests" / "tutorial_session.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=environment(), text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Session(folder, process)
        process.stdin.close()


def blocks(title: str) -> Iterator[tuple[str, str, str]]:
    """The line before, the language and the text of each block under a heading."""
    section = PAGE[PAGE.index(f"## {title}\n") :].split("\n## ")[0]
    for block in BLOCK.finditer(section):
        yield block["before"], block["language"], block["text"]


def follow(session: Session, title: str, codes: dict[str, tuple[int, ...]] | None = None, near: float = 0.0) -> None:
    """Types a section. `codes` are exit codes beside 0, by command; figures are compared where `near` is not 0."""
    shown: list[str] = []
    for before, language, text in blocks(title):
        if name := FILE.fullmatch(before):
            (session.folder / name[1]).write_text(text)
        elif language == "sh":
            shown = []
            for command in text.replace("\\\n", "").splitlines():
                done = session.run(command)
                expected = (0, *(codes or {}).get(command.split()[1], ()))
                assert done["code"] in expected, f"{command}\n{done['out'][-2000:]}\n{done['err'][-2000:]}"
                shown += [*done["out"].splitlines(), *done["err"].splitlines()]
        elif language == "text":
            for line in text.splitlines():
                assert any(alike(line, real, near) for real in shown), f"nothing like this was said: {line}"
        else:
            assert language in ("console", "csv"), f"a block that nobody runs: {text}"


def alike(told: str, real: str, near: float) -> bool:
    if form(told) != form(real):
        return False
    pairs = zip(figures(told), figures(real), strict=True) if near else ()
    return all(abs(one - other) <= near * max(abs(one), abs(other)) for one, other in pairs)


def form(line: str) -> str:
    """A line without its figures, its hashes, and the spaces of its columns."""
    plain = re.sub(r"[0-9a-f]{16}\.\.\.", "hash", " ".join(line.split()))
    return UNIT.sub("# s", SIGN.sub("", NUMBER.sub("#", plain)))


def figures(line: str) -> list[float]:
    return [float(each.rstrip(".,").replace(",", "")) for each in NUMBER.findall(line)]


def last_line(session: Session, command: str) -> dict[str, Any]:
    (done,) = [each for each in session.told if each["command"].startswith(f"joulelaw {command} ")][-1:]
    content: dict[str, Any] = json.loads(done["out"].splitlines()[-1])
    return content


def test_past_runs_and_no_gpu(session: Session) -> None:
    follow(session, "1. Past runs, and no GPU", near=0.05)
    assert [done["loaded"] for done in session.told if done["loaded"]] == [], "neither torch nor Ray"
    assert last_line(session, "recommend")["candidates"] > 10
    assert (session.folder / "past" / "report.html").stat().st_size > 50_000
    assert "predicted_energy_j" in (session.folder / "forecasts.csv").read_text()
    assert "eta_flop" in (session.folder / "coefficients.csv").read_text()


def test_the_tables_that_it_shows_are_taken(session: Session) -> None:
    """Also the one that is shown but not used: a row of a real table."""
    (table,) = [text for _, language, text in blocks("1. Past runs, and no GPU") if text.startswith("trial_id,")]
    (session.folder / "june.csv").write_text(table)
    done = session.run("joulelaw import june.csv --into june --boundary gpu")
    assert (done["code"], json.loads(done["out"].splitlines()[-1])["valid"]) == (0, 1)


def test_a_new_gpu(session: Session) -> None:
    if not (session.folder / "law.json").is_file():  # the first section was not asked for
        follow(session, "1. Past runs, and no GPU")
    follow(session, "2. A new GPU", {"calibrate": (1,)})
    calibrated = last_line(session, "calibrate")
    assert len(calibrated["taken"]) == 4
    assert len(calibrated["validation"]) + len(calibrated["of_no_use"]) >= 2
    assert calibrated["holds"] in (True, False, None), "as this machine has it"
    law = json.loads((session.folder / "new_gpu" / "calibrated.json").read_text())
    assert [event["what"] for event in law["history"]] == ["fitted", "calibrated"]


def test_a_sweep(session: Session) -> None:
    follow(session, "3. A sweep", {"run": (3,), "meter": (3,)})
    first, again = [done for done in session.told if done["command"].startswith("joulelaw run ")]
    assert json.loads(first["out"].splitlines()[-1])["done"] == 5
    told = json.loads(again["out"].splitlines()[-1])
    assert (told["done"], told["already_done"]) == (0, 5)
    fits = [json.loads(done["out"].splitlines()[-1]) for done in session.told if " fit " in done["command"]]
    (mine,) = pd.read_parquet(session.folder / "mine" / "trials")["verdict"]
    assert fits[-1]["n_trials"] == fits[-2]["n_trials"] + (mine == "valid"), "its own training is one more"


def test_what_is_installed_and_submitted_exists() -> None:
    """The blocks that no test can type: installs, and the job for a cluster."""
    blocks_of = [(block["language"], block["text"]) for block in BLOCK.finditer(PAGE)]
    consoles = [text.replace("\\\n", "") for language, text in blocks_of if language == "console"]
    asked = [line for text in consoles for line in text.splitlines()]
    extras = {name for line in asked for found in re.findall(r"'\.\[(.+)\]'", line) for name in found.split(",")}
    assert extras == {"bench"}
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {"bench", "training"} <= known.keys()
    assert (ROOT / "constraints.txt").is_file()
    (job,) = [line for line in asked if line.startswith("ray job submit")]
    typed = job.partition(" -- ")[2].split()
    assert typed[:6] == ["python", "-m", "bench", "calibrate", "/shared/law.json", "new_hardware"]
    assert (ROOT / "bench" / "sweeps" / "new_hardware.yaml").is_file()


def test_links_lead_to_files_and_headings() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, heading = link.partition("#")
        assert (ROOT / "docs" / path).exists(), link
        if heading:
            text = PAGE if not path else (ROOT / "docs" / path).read_text()
            titles = [re.sub(r"[^\w -]", "", each.lower()) for each in re.findall(r"^#+ (.+)$", text, re.MULTILINE)]
            assert heading in [each.replace(" ", "-") for each in titles], link
