"""The sized sweeps as studies, without Ray and within the time, and the law from what they measured."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from joulelaw.bench.console import say
from joulelaw.bench.gpu_check.card import Card
from joulelaw.bench.gpu_check.sized import sweeps
from joulelaw.bench.gpu_check.store import Store
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.model.hardware import Catalogue

FITTING = "fitting"  # a step of its own: the commands after the sweeps
PATHS = ("out", "folder", "folders")  # of this machine: nobody else's business
# With less time than this a command is left for another run; with more, one that is cut off has failed.
LEAST_S, COMMAND_TIMEOUT_S = 60.0, 300.0


def write_sweeps(store: Store, card: Card) -> None:
    """The sweep files, unless an earlier run has written them: a study that goes on keeps its sweep."""
    catalogue, _ = with_assumed(Catalogue.load(), [card.node])
    for name, text in sweeps(card.device.model, catalogue, dry=card.dry).items():
        path = store.folder / f"{name}.yaml"
        if not path.is_file():
            path.write_text(text, encoding="utf-8")


def run_studies(store: Store, card: Card, left_s: Callable[[], float]) -> bool:
    """Both sweeps, as far as the time goes; whether they are complete."""
    from joulelaw.bench.study.study import run_study

    write_sweeps(store, card)
    for name in ("sweep", "repeats"):
        if store.is_over("sweep", name):
            continue
        say(f"sweep: {name}.yaml")
        result = run_study(store.folder / f"{name}.yaml", store.folder / name, alone=True, limit_s=left_s())
        if result.interrupted:
            return False
        counts = {"planned": result.planned, "failed": result.failed, "invalid": result.invalid}
        store.put("sweep", name, counts)
    return True


def make_law(store: Store, left_s: Callable[[], float]) -> bool:
    """Fit, validate, export and report by the program's own commands; whether all were tried."""
    folder = store.folder
    law, validation = str(folder / "law.json"), str(folder / "validation.json")
    studies = [str(folder / name) for name in ("sweep", "repeats")]
    commands = {
        "fit": ["fit", *studies, "--out", law],
        "validate": ["validate", *studies, "--out", validation],
        "export": ["export", law, "--format", "csv", "--out", str(folder / "coefficients.csv")],
        "report": [
            "report",
            studies[0],
            "--law",
            law,
            "--validation",
            validation,
            "--out",
            str(folder / "report.html"),
        ],
    }
    for name, command in commands.items():
        if store.is_over(FITTING, name):
            continue
        if (given_s := min(left_s(), COMMAND_TIMEOUT_S)) < LEAST_S:
            return False
        say(f"law: {name}")
        told = _command(command, given_s)
        if told["exit_code"] in (0, 3):
            store.put(FITTING, name, {key: value for key, value in told.items() if key not in PATHS})
        else:
            store.fail(FITTING, name, str(told.get("error", "it failed")))
    return True


def _command(arguments: list[str], timeout_s: float) -> dict[str, Any]:
    """One command of the program; the JSON object of its last line."""
    command = [sys.executable, "-m", "joulelaw.bench", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return {"exit_code": 1, "error": f"not over after {timeout_s:.0f} s"}
    lines = done.stdout.splitlines()
    try:
        told: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        return {"exit_code": done.returncode or 1, "error": done.stderr[-2000:]}
    return told
