"""The house rules hold: import direction, file sizes, a purpose on each first line, nothing heavy after the trials."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("model", "cluster", "bench")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {"model": {"joulelaw.bench", "joulelaw.cluster", "torch", "ray", "deepspeed", "transformers"}}
FORBIDDEN["cluster"] = {"joulelaw.bench", "joulelaw.model", "deepspeed", "transformers"}
FORBIDDEN["bench"] = {"bench", "cluster", "model"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_imports_go_from_bench_to_cluster_and_model_only() -> None:
    against = [
        f"{name_of(path)}: {name}"
        for path in SOURCES
        for name in set(imported(ast.parse(path.read_text())))
        for bad in FORBIDDEN[path.relative_to(ROOT).parts[0]]
        if name == bad or name.startswith(bad + ".")
    ]
    assert not against


def test_files_are_short_and_say_their_purpose_first() -> None:
    texts = {name_of(path): path.read_text() for path in SOURCES}
    assert not [name for name, text in texts.items() if text.count("\n") > 300]
    assert not [name for name, text in texts.items() if not ast.get_docstring(ast.parse(text))]


def test_most_files_are_under_200_lines() -> None:
    short = [path for path in SOURCES if path.read_text().count("\n") < 200]
    assert len(short) >= 0.75 * len(SOURCES)


def modules_loaded_by(statement: str) -> set[str]:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module",
    [
        "model.laws",
        "model.validation",
        "model.coefficients",
        "bench.dataset.dataset",
        "bench.energy.energy",
        "bench.trial.checks",
        "bench.spec.sweep_file",
        "bench.plan.plan",
        "bench.report",
        "bench.cli",
        "cluster.scheduling.simulator",
    ],
)
def test_what_follows_the_trials_loads_neither_torch_nor_ray(module: str) -> None:
    loaded = modules_loaded_by(f"import joulelaw.{module}")
    assert f"joulelaw.{module}" in loaded
    assert not loaded & {"torch", "ray", "deepspeed", "transformers"}


@pytest.mark.parametrize(
    "module", ["bench.training.rank", "bench.strategies", "bench.workloads", "cluster.power.sampler"]
)
def test_training_and_metering_load_no_ray(module: str) -> None:
    loaded = modules_loaded_by(f"import joulelaw.{module}")
    assert f"joulelaw.{module}" in loaded
    assert "ray" not in loaded


def test_the_command_line_starts_light() -> None:
    assert not modules_loaded_by("import joulelaw.bench.cli") & {"pandas", "scipy", "pyarrow", "matplotlib"}
