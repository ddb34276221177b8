"""Whatever a sweep file holds, it gives a plan or one message with file and place; and nothing in it is ever run.

Thousands of shipped sweeps, broken in their structure, their text and their bytes, go through all that `joulelaw plan`
does in one process. Grids are cut to a few values first: what is wrong is looked for, not how long a plan takes.
"""

import copy
import itertools
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from joulelaw import InputError
from joulelaw.bench.plan.devices import with_assumed
from joulelaw.bench.plan.display import show_plan
from joulelaw.bench.plan.making import make_plan
from joulelaw.bench.spec.schema import Axes, SweepSection
from joulelaw.bench.spec.sweep_file import SHIPPED, load_sweep
from joulelaw.bench.spec.yaml_lines import parse_yaml
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.streams.metering import MeterInfo
from joulelaw.model.hardware import Catalogue
from tests.bench.texts import study_folder

ROOT = Path(__file__).resolve().parents[2]
CORES = tuple(Device(f"CPU-{i}", "One Core", i, "cpu", 2**33, (i,), None, "") for i in range(2))
GPU = Device("GPU-0", "Tesla T4", 0, "cuda", 15 * 2**30, (), 70.0, "570")
NODES = (Node("a", "0a", CORES, 2**34, 2, ""), Node("b", "0a", (GPU,), 2**34, 8, ""))
CATALOGUE, ASSUMED = with_assumed(Catalogue.load(), NODES)
NO_METER = MeterInfo("none", "none", "", (), {}, {})
MOST_VALUES, MOST_GRIDS = 1, 2
MANY = settings(
    max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def small(path: Path) -> dict[str, Any]:
    """A shipped sweep with a few grids, evenly spread, and a few values of each axis."""
    content: dict[str, Any] = yaml.safe_load(path.read_text())
    grids = content["grids"][:: max(1, len(content["grids"]) // MOST_GRIDS)][:MOST_GRIDS]
    content["grids"] = [
        {axis: value[:MOST_VALUES] if isinstance(value, list) else value for axis, value in grid.items()}
        for grid in grids
    ]
    return content


SWEEPS = [small(path) for path in sorted(SHIPPED.glob("*.yaml"))]
SECTIONS = [
    *({"data": {"path": "texts.csv", "tokenizer": "tokenizer"}}, {"repeats": 2}, {"hold_out": {"by": "workload"}}),
    *({"metering": {"meter": "replay", "replay_path": "texts.csv"}}, {"defaults": {"checkpoint": "tokenizer"}}),
]


def planned(folder: Path, content: str | bytes) -> str:
    """What a person is told of the sweep: nothing where it can be planned. Any other exception is the test's."""
    path = folder / "sweep.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        sweep = load_sweep(path)
        plan = make_plan(sweep, NODES, CATALOGUE)
    except InputError as error:
        lines = str(error).splitlines()
        assert lines
        for line in lines:
            assert line.startswith((f"{path}:", "and ")), "the file and, where there is one, the line"
            assert len(line) < 2000
            assert line.isprintable()
        return str(error)
    with Path(os.devnull).open("w") as nowhere:
        show_plan(plan, NODES, ASSUMED, NO_METER, Console(file=nowhere, width=130))
    return ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return study_folder(tmp_path_factory.mktemp("sweep"))


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every key and index in plain data."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


KNOWN = ["single", "fsdp", "tp", "fsdp_tp", "each", "bert", "gpt2", "case", "set_aside"]
WORDS = [*Axes.model_fields, *SweepSection.model_fields, *KNOWN]
PATHS = ["..", "/etc/passwd", "../x", "/dev/zero", "texts.csv", "tokenizer", "a/../../b", "~", ".", "x" * 300]
TEXTS = st.text(max_size=20) | st.sampled_from(
    [*WORDS, *PATHS, "", "[/bold]", "\x00", "\u202e", "😀" * 40, "x" * 20_000]
)
NUMBERS = (
    st.integers(-3, 70)
    | st.sampled_from([0, 1, 10**6, 10**9, 2**63, 2**64, 10**29, 10**400, -(10**20), 999_983, 1e308, 1e-308, 0.5, -0.0])
    | st.floats()
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.dates() | st.datetimes() | st.binary(max_size=9)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | TEXTS, inner, max_size=3),
    max_leaves=4,
)
# What a mistaken user might write: most of it passes the schema, and much of it can be planned.
LIKELY = [1, 2, 3, 6, 8, 12, 48, 64, 100, 512, 1024, 4096, 0.1, 1e-4, True, False, *KNOWN, "zero3", "bf16", "eager"]
ONE_CHANGE = st.tuples(
    st.sampled_from(["likely"] * 6 + ["replace", "number", "delete", "add", "wrap", "copy", "long", "deep"]),
    st.integers(0, 10_000),
    st.integers(0, 10_000),
    VALUES,
    NUMBERS,
    st.sampled_from(WORDS),
    st.sampled_from(LIKELY),
)


def changed(content: dict[str, Any], change: tuple[str, int, int, Any, Any, str, Any]) -> None:
    """One mutation, in place."""
    kind, first, second, value, number, word, likely = change
    paths = [path for path in places(content) if kind != "likely" or path[0] in ("grids", "defaults")]
    if not paths:
        return
    path = paths[first % len(paths)]
    parent = at(content, path[:-1])
    old = parent[path[-1]]
    if kind == "delete":
        del parent[path[-1]]
    elif kind == "add" and isinstance(old, dict):
        old[word] = value
    elif kind == "copy":
        parent[path[-1]] = copy.deepcopy(at(content, paths[second % len(paths)]))
    else:
        # Of the same type, where there is one: a wrong type seldom gets past the schema.
        alike = likely if isinstance(old, type(likely)) and type(old) is not bool else old
        new = {"number": number, "likely": alike, "wrap": [old], "long": [old] * (second % 400)}
        parent[path[-1]] = nested(old, second % 40) if kind == "deep" else new.get(kind, value)


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = {"grids": value}
    return value


@pytest.mark.timeout(600)
@given(
    sweep=st.sampled_from(SWEEPS),
    section=st.sampled_from([{}, {}, *SECTIONS]),
    changes=st.lists(ONE_CHANGE, min_size=1, max_size=4),
    anchors=st.booleans(),
)
@settings(MANY, max_examples=600)  # a quarter of them come to a plan, which takes longest
def test_a_sweep_of_another_structure_is_planned_or_refused(
    folder: Path, sweep: dict[str, Any], section: dict[str, Any], changes: list[Any], anchors: bool
) -> None:
    content = copy.deepcopy(sweep | section)
    for change in changes:
        changed(content, change)
    dumper = yaml.SafeDumper if anchors else NoAliases
    planned(folder, yaml.dump(content, Dumper=dumper, sort_keys=False, allow_unicode=True))


class NoAliases(yaml.SafeDumper):
    """Writes what occurs twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


FRAGMENTS = [
    *("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!binary aGk=", "!!set {a, b}", "!x"),
    *("&a", "*a", "&a [*a]", "<<: *a", "? [1, 2]\n: 3", "---", "...", "%YAML 9.9", "%TAG ! tag:x,2000:", "%YAML 1.1"),
    *(
        "|",
        ">-",
        "\t",
        "\r",
        "\0",
        "\x85",
        "\ufeff",
        "\u2028",
        "\ud800",
        "'",
        '"',
        '"\\x00"',
        '"\\ud800"',
        '"\\UFFFFFFFF"',
    ),
    *("[", "]", "{", "}", ",", ":", "#", "- ", "- - - -", "[" * 60, "{a: " * 30, "2026-11-21", "2026-11-21T10:00:00Z"),
    *(
        ".nan",
        ".inf",
        "-.inf",
        "1e999",
        "0x1F",
        "0o17",
        "1_000",
        "1:30",
        "yes",
        "~",
        "9" * 400,
        "é",
        "\u202e",
        "x" * 11_000,
    ),
    *("schema: 1\n", "grids: []\n", "name: x\n", "\ndata: {path: ../x, tokenizer: /}\n", "\nrepeats: 999\n"),
]
EDIT = st.tuples(
    st.floats(0, 1),
    st.integers(0, 40),
    st.sampled_from(FRAGMENTS) | st.text(max_size=5),
    st.sampled_from(["insert", "line", "twice"]),
)
DUMPED = [yaml.safe_dump(each, sort_keys=False) for each in SWEEPS]
FLOWED = [yaml.safe_dump(each, sort_keys=False, default_flow_style=True, width=80) for each in SWEEPS]


def edited(text: str, edit: tuple[float, int, str, str]) -> str:
    """Cuts some characters and puts a fragment there, in place of a line's value, or a line twice."""
    at, cut, fragment, kind = int(edit[0] * len(text)), *edit[1:]
    if kind == "insert":
        return text[:at] + fragment + text[at + cut :]
    lines = text.splitlines()
    number = min(int(edit[0] * len(lines)), len(lines) - 1) if lines else 0
    if kind == "twice" or not lines:
        return "\n".join([*lines[:number], *lines[number : number + 1] * 2, *lines[number + 1 :]])
    lines[number] = f"{lines[number].partition(':')[0]}: {fragment}"
    return "\n".join(lines)


@pytest.mark.timeout(600)
@given(text=st.sampled_from(DUMPED + FLOWED), edits=st.lists(EDIT, min_size=1, max_size=4))
@MANY
def test_a_sweep_of_another_text_is_planned_or_refused(folder: Path, text: str, edits: list[Any]) -> None:
    for edit in edits:
        text = edited(text, edit)
    planned(folder, text)


@given(
    text=st.sampled_from(DUMPED),
    bytes_=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-16", "utf-8-sig", "latin-1"]),
)
@settings(MANY, max_examples=500)
def test_a_sweep_of_other_bytes_is_planned_or_refused(
    folder: Path, text: str, bytes_: list[tuple[float, int]], encoding: str
) -> None:
    raw = bytearray(text.encode(encoding))
    for at, value in bytes_:
        raw[int(at * (len(raw) - 1))] = value
    planned(folder, bytes(raw))


EXTREMES = [*(0, -1, 1, 10**6, 2**31, 2**62, 2**63, 10**29, 1e308, 1e-308, 0.5), math.inf, math.nan]


def numbers(content: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The paths of all numbers."""
    return [path for path in places(content) if type(at(content, path)) in (int, float)]


# One trial, with every option that is a number.
ONE: dict[str, Any] = {
    **{"schema": 1, "name": "one", "seed": 3, "repeats": 1, "devices": {"cores_per_device": 1}},
    **{"window": {"warmup_steps": 1, "min_steps": 2, "min_s": 1.0, "max_s": 2.0}, "hold_out": {"fraction": 0.0}},
    **{"metering": {"rate_hz": 20, "cpu_w_per_core": 3.5}, "limits": {"trial_timeout_s": 60}},
    "defaults": {"num_labels": 2, "dropout": 0.1, "learning_rate": 0.1, "grad_accumulation": 2, "vocab_size": 99},
    "grids": [
        {"num_layers": 1, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "sequence_length": 8}
        | {"micro_batch_size": 1, "strategy": "fsdp_tp", "gpu_count": 2, "tensor_parallel": 2}
    ],
}


@pytest.mark.parametrize("path", numbers(ONE), ids=lambda path: ".".join(map(str, path)))
def test_every_number_may_be_extreme(folder: Path, path: tuple[Any, ...]) -> None:
    for extreme in EXTREMES:
        content = copy.deepcopy(ONE)
        at(content, path[:-1])[path[-1]] = extreme
        if path == ("window", "max_s"):
            content["window"]["min_s"] = 0.0
        planned(folder, yaml.safe_dump(content))


@pytest.mark.parametrize("sweep", [*SWEEPS, ONE], ids=lambda sweep: str(sweep["name"]))
def test_the_sweeps_that_are_mutated_can_be_planned_as_they_are(folder: Path, sweep: dict[str, Any]) -> None:
    assert planned(folder, yaml.safe_dump(sweep, sort_keys=False)) == ""


# Each runs a command where a loader constructs what tags name; `{}` is the file that would tell.
TAGGED = [
    "!!python/object/apply:os.system ['touch {}']",
    "!!python/object/apply:subprocess.check_output [['touch', '{}']]",
    "!!python/object/new:type {{args: ['z', [], {{}}], listitems: !!python/name:exec ['touch {}']}}",
    "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{}']]",
    '!<tag:yaml.org,2002:python/object/apply:os.mkdir> ["{}"]',
]


@pytest.mark.parametrize("tagged", TAGGED)
def test_a_sweep_runs_no_code(folder: Path, tmp_path: Path, tagged: str) -> None:
    marker = tmp_path / "ran"
    value = tagged.format(marker)
    good = DUMPED[0]
    name = next(line for line in good.splitlines() if line.startswith("name:"))
    for text in (good.replace(name, f"name: {value}"), f"{value}: 1\n{good}", f"{good}\nx: {value}\n", value):
        assert planned(folder, text)
        assert not marker.exists()
    if tagged.startswith("!!python/object/apply:os.system"):
        yaml.load(value, Loader=yaml.UnsafeLoader)  # the marker does tell
        assert marker.exists()


def bombs() -> Iterator[tuple[str, str]]:
    """Texts of a few kilobytes that stand for billions of values, or for one without end."""
    lists = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9) if i else 'x'}]" for i in range(12)]
    yield "lists", "\n".join(lists)
    keys = ", ".join(f"k{i}: *m{{0}}" for i in range(9))
    yield "mappings", "\n".join(f"m{i + 1}: &m{i + 1} {{{keys.format(i) if i else 'k: 1'}}}" for i in range(10))
    yield "text", f"a: &a '{'9' * 9_000}'\nb: [{', '.join(['*a'] * 30_000)}]"
    yield "loop", "a: &a {b: *a}"
    yield "deep", "a: " + "[" * 100_000
    yield "deep_block", "\n".join(" " * i + "a:" for i in range(900))
    yield "sequences", "- " * 20_000 + "x"
    yield "digits", "seed: " + "9" * 900_000
    yield "escapes", 'a: "' + "\\x41" * 200_000 + '"'
    yield "axes", DUMPED[0].replace("grids:", "grids:\n- &g {num_layers: [" + "1, " * 9_000 + "]}\n- *g\n- *g\n- *g", 1)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in bombs()])
def test_what_unfolds_without_bound_is_refused(folder: Path, text: str) -> None:
    """Within the time-out, which anything that unfolds it would miss by hours."""
    assert planned(folder, text)


def test_more_mistakes_than_a_person_reads_cost_no_time_each(folder: Path) -> None:
    words = ", ".join(f"f{i}dp" for i in range(40_000))
    message = planned(folder, f"schema: 1\nname: x\ngrids: [{{strategy: [{words}]}}]\n")
    assert message.splitlines()[-1] == "and 39980 more"
    sizes = ", ".join(str(each) for each in range(999_000, 999_140))
    primes = f"{{num_layers: 1, hidden_size: [{sizes}], num_heads: [{sizes}], sequence_length: 8, micro_batch_size: 1}}"
    assert "do not divide" in planned(folder, f"schema: 1\nname: x\ngrids: [{primes}]\n")


def test_data_that_is_read_is_data_that_was_written(folder: Path) -> None:
    """The mutations above reach the schema: what SafeDumper writes is read as the same plain data."""
    for sweep, text in itertools.chain(zip(SWEEPS, DUMPED, strict=True), zip(SWEEPS, FLOWED, strict=True)):
        assert parse_yaml(text, "x").data == sweep


COMMANDED = {
    "good": (DUMPED[-1].encode(), 0),
    "empty": (b"", 2),
    "bytes": (b"\xff\xfe", 2),
    "loop": (b"a: &a [*a]", 2),
    "tag": (b"x: !!python/object/apply:os.system ['true']", 2),
    "markup": (DUMPED[-1].encode() + "\ndefaults: {gpu_model: '[/b] 😀'}\n".encode(), 2),
}


@pytest.mark.parametrize("name", list(COMMANDED))
def test_the_command_itself_tells_and_leaves_no_traceback(name: str) -> None:
    content, code = COMMANDED[name]
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "sweep.yaml"
        path.write_bytes(content)
        command = [sys.executable, "-m", "joulelaw.bench", "plan", str(path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert code == 0 or str(path) in said
