"""A sweep file is checked whole: every mistake is told once, with file, line, option, value and remedy."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration
from joulelaw.bench.spec.schema import Axes
from joulelaw.bench.spec.sweep_file import find_sweep, load_sweep
from joulelaw.bench.spec.yaml_lines import parse_yaml

GOOD = """\
schema: 1
name: small
seed: 3
defaults:
  vocab_size: 1000
grids:
  - strategy: single
    num_layers: [2, 4]
    hidden_size: 128
    sequence_length: [64, 128]
    micro_batch_size: 2
  - strategy: [fsdp, zero2]
    gpu_count: [1, 2]
    num_layers: 2
    hidden_size: 128
    num_heads: 4
    sequence_length: 64
    micro_batch_size: 2
window: {warmup_steps: 1, min_steps: 5, min_s: 0, max_s: 30}
"""

Writer = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    def writer(text: str) -> Path:
        path = tmp_path / "sweep.yaml"
        path.write_text(text)
        return path

    return writer


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_sweep(path)
    return str(caught.value).replace(str(path.parent) + "/", "")


def test_grids_are_cross_products_and_their_union_is_the_sweep(write: Writer) -> None:
    sweep = load_sweep(write(GOOD))
    asked = [
        (c.strategy, c.gpu_count, c.num_layers, c.sequence_length, c.num_heads)
        for c in (each.configuration for each in sweep.asked)
    ]
    assert asked == [
        ("single", 1, 2, 64, 2),
        ("single", 1, 2, 128, 2),
        ("single", 1, 4, 64, 2),
        ("single", 1, 4, 128, 2),
        ("fsdp", 1, 2, 64, 4),
        ("fsdp", 2, 2, 64, 4),
        ("zero2", 1, 2, 64, 4),
        ("zero2", 2, 2, 64, 4),
    ]
    assert {each.configuration.vocab_size for each in sweep.asked} == {1000}
    assert {each.configuration.intermediate_size for each in sweep.asked} == {512}
    assert sweep.window.min_steps == 5


def test_a_configuration_asked_twice_is_there_once(write: Writer) -> None:
    twice = GOOD.replace("num_layers: [2, 4]", "num_layers: [2, 4, 2]").replace(
        "window:",
        "  - {num_layers: 4, hidden_size: 128, sequence_length: 64, micro_batch_size: 2}\nwindow:",
    )
    assert load_sweep(write(twice)).asked == load_sweep(write(GOOD)).asked


def test_an_integer_where_a_fraction_may_stand_gives_the_same_id(write: Writer) -> None:
    whole = load_sweep(write(GOOD + "\n").with_name("sweep.yaml")).asked[0].configuration
    explicit = load_sweep(write(GOOD.replace("vocab_size: 1000", "vocab_size: 1000\n  dropout: 0"))).asked[0]
    assert explicit.configuration.configuration_id == whole.configuration_id


def test_scientific_notation_is_a_number(write: Writer) -> None:
    sweep = load_sweep(write(GOOD.replace("vocab_size: 1000", "learning_rate: 1e-3")))
    assert sweep.asked[0].configuration.learning_rate == 0.001


# What is changed in GOOD, and what is then said.
MISTAKES = r"""
seed: 3 => sed: 3
    sweep.yaml:3 sed: unknown key; did you mean 'seed'?
num_layers: 2\n => num_layer: 2\n
    sweep.yaml:14 grids[1].num_layer: unknown key; did you mean 'num_layers'?
min_steps => min_step
    sweep.yaml:19 window.min_step: unknown key; did you mean 'min_steps'?
[fsdp, zero2] => [fdsp, zero2]
    sweep.yaml:12 grids[1].strategy[0]: unknown value 'fdsp'; did you mean 'fsdp'?
strategy: single => strategy: sinlge
    sweep.yaml:7 grids[0].strategy: unknown value 'sinlge'; did you mean 'single'?
[64, 128] => []
    sweep.yaml:10 grids[0].sequence_length: empty; give at least one value
[64, 128] =>
    sweep.yaml:10 grids[0].sequence_length: nothing is not of the right type; write a whole number
[64, 128] => [64, long]
    grids[0].sequence_length[1]: 'long' is not of the right type; write a whole number
[64, 128] => 64.5
    grids[0].sequence_length: 64.5 is not of the right type; write a whole number
[64, 128] => true
    grids[0].sequence_length: True is not of the right type; write a whole number
[64, 128] => 0
    grids[0].sequence_length: 0 is out of range; write a value of at least 1
[64, 128] => [64, -1]
    grids[0].sequence_length[1]: -1 is out of range; write a value of at least 1
num_heads: 4 => num_heads: 5
    sweep.yaml:16 grids[1].num_heads: 5 heads do not divide a hidden_size of 128; 4 heads do
hidden_size: 128\n    sequence_length: [ => hidden_size: 200\n    sequence_length: [
    sweep.yaml:7 grids[0]: 3 heads do not
strategy: single => strategy: single\n    gpu_count: 2
    sweep.yaml:8 grids[0].gpu_count: strategy 'single' with a gpu_count of 2
gpu_count: [1, 2]\n => gpu_count: 3\n    node_count: 2\n
    sweep.yaml:14 grids[1].node_count: a gpu_count of 3 does not spread evenly over 2 nodes
max_s: 30} => max_s: 30}\nlimits: {hang_s: 0}
    sweep.yaml:20 limits.hang_s: 0 is out of range; write a value of more than 0
max_s: 30} => max_s: 30}\nlimits: {tries: 0}
    sweep.yaml:20 limits.tries: 0 is out of range; write a value of at least 1
strategy: [fsdp, zero2]\n    gpu_count: [1, 2] => strategy: fsdp
    sweep.yaml:12 grids[1].strategy: strategy 'fsdp' without a gpu_count; add gpu_count
micro_batch_size: 2\n  - => \n  -
    sweep.yaml:7 grids[0]: no value for micro_batch_size; name it in the grid or in defaults
vocab_size: 1000 => model_family: brt
    sweep.yaml:5 defaults.model_family: unknown value 'brt'; did you mean 'bert'?
vocab_size: 1000 => vocab_size: 4
    sweep.yaml:5 defaults.vocab_size: a vocabulary of 4 cannot tell 2 labels apart
[64, 128] => 1\n    model_family: gpt2\n    head: language_model
    sweep.yaml:10 grids[0].sequence_length: 1 token: a causal language model predicts the next
schema: 1 => schema: 2
    sweep.yaml:1 schema: unknown value 2; one of 1
schema: 1\n =>
    sweep.yaml:1 schema: missing; add the key 'schema'
name: small => name: ../up
    sweep.yaml:2 name: '../up' cannot name a folder
max_s: 30 => max_s: .nan
    sweep.yaml:19 window.max_s: '.nan' is not of the right type; write a number
min_s: 0, => min_s: 31,
    sweep.yaml:19 window: min_s 31 is more than max_s 30; change one of them
window: => hold_out: {fraction: 1.5}\nwindow:
    sweep.yaml:19 hold_out.fraction: 1.5 is out of range; write a value of less than 1
window: => hold_out: {by: cases}\nwindow:
    hold_out.by: unknown value 'cases'; did you mean 'case'?
window: => metering: {cpu_w_per_core: -3}\nwindow:
    metering.cpu_w_per_core: -3 is out of range; write a value of more than 0
window: => metering: {meter: replay}\nwindow:
    sweep.yaml:19 metering: meter: replay and replay_path go together
vocab_size: 1000 => tensor_parallel: 2
    sweep.yaml:5 defaults.tensor_parallel: a tensor_parallel degree, but no strategy 'fsdp_tp' that would use it
num_heads: 4 => tensor_parallel: 2
    sweep.yaml:16 grids[1].tensor_parallel: a tensor_parallel degree, but no strategy 'fsdp_tp'
[fsdp, zero2]\n    gpu_count: [1, 2] => tp\n    intermediate_size: 384\n    gpu_count: [4, 3]
    sweep.yaml:14 grids[1].gpu_count: a tensor-parallel degree of 3 does not divide 4 heads; a degree of 2 does
[fsdp, zero2]\n    gpu_count: [1, 2] => tp\n    intermediate_size: 255\n    gpu_count: 2
    sweep.yaml:14 grids[1].gpu_count: a tensor-parallel degree of 2 does not divide an intermediate_size of 255
[fsdp, zero2]\n    gpu_count: [1, 2] => fsdp_tp\n    gpu_count: [2, 1]
    sweep.yaml:13 grids[1].gpu_count: a gpu_count of 1 does not divide into groups of 2; make gpu_count a multiple of 2
[fsdp, zero2]\n    gpu_count: [1, 2] => fsdp_tp\n    tensor_parallel: 8\n    gpu_count: 8
    sweep.yaml:13 grids[1].tensor_parallel: a tensor-parallel degree of 8 does not divide 4 heads; a degree of 4 does
[fsdp, zero2]\n    gpu_count: [1, 2] => fsdp_tp\n    tensor_parallel: 4\n    gpu_count: 6
    sweep.yaml:14 grids[1].gpu_count: a gpu_count of 6 does not divide into groups of 4
window: {warmup_steps: 1, => limits: {}\nwindow: {warmup_steps: -1,
    sweep.yaml:20 window.warmup_steps: -1 is out of range; write a value of at least 0
max_s: 30 => max_s: 1e300
    sweep.yaml:19 window.max_s: 1e+300 is out of range; write a value of at most 1000000.0
seed: 3 => repeats: 10000
    sweep.yaml:3 repeats: 10000 is out of range
window: => data: {path: texts.csv}\nwindow:
    sweep.yaml:19 data.tokenizer: missing; add the key 'tokenizer'
window: => data: {path: texts.csv, tokenizer: t, colum: x}\nwindow:
    sweep.yaml:19 data.colum: unknown key; did you mean 'text_column'?
window: => devices: {misfits: ignore}\nwindow:
    sweep.yaml:19 devices.misfits: unknown value 'ignore'; one of refuse, set_aside
window: => devices: 3\nwindow:
    devices: 3 is not of the right type; write a mapping
[64, 128] => {a: 1}
    grids[0].sequence_length: {'a': 1} is not of the right type; write a whole number
grids:\n => grids:\n  - 3\n
    sweep.yaml:7 grids[0]: 3 is not of the right type; write a mapping
""".strip().splitlines()


@pytest.mark.parametrize(("change", "expected"), list(zip(MISTAKES[::2], MISTAKES[1::2], strict=True)))
def test_a_mistake_is_told_with_its_place_value_and_remedy(write: Writer, change: str, expected: str) -> None:
    old, new = change.replace(r"\n", "\n").split(" =>")
    assert old in GOOD
    message = refused(write(GOOD.replace(old, new.removeprefix(" "), 1)))
    assert expected.strip() in message
    assert message.count("\n") == 0


def test_all_mistakes_are_told_together_in_the_order_of_the_file(write: Writer) -> None:
    wrong = GOOD.replace("seed: 3", "sed: 3").replace("[64, 128]", "[]").replace("max_s: 30", "max_s: -1")
    lines = refused(write(wrong)).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["sweep.yaml:3", "sweep.yaml:10", "sweep.yaml:19"]


def test_a_mistake_in_the_defaults_is_told_once_not_once_a_grid(write: Writer) -> None:
    message = refused(write(GOOD.replace("vocab_size: 1000", "num_labels: 600\n  vocab_size: 1000")))
    assert message.count("vocab_size") == 1


def test_compiling_needs_a_warm_up(write: Writer) -> None:
    compiled = GOOD.replace("vocab_size: 1000", "torch_compile: [false, true]")
    assert load_sweep(write(compiled)).asked
    message = refused(write(compiled.replace("warmup_steps: 1", "warmup_steps: 0")))
    assert message.startswith("sweep.yaml:19 window.warmup_steps: 0 with torch_compile: the first step compiles")
    assert load_sweep(write(GOOD.replace("warmup_steps: 1", "warmup_steps: 0"))).window.warmup_steps == 0


def test_a_tensor_parallel_degree_is_the_strategys_own(write: Writer) -> None:
    several = GOOD.replace("[fsdp, zero2]", "[ddp, tp, fsdp_tp]").replace("[1, 2]", "[2, 4]")
    several = several.replace("    num_heads: 4\n", "    num_heads: 4\n    tensor_parallel: [1, 2]\n")
    asked = [each.configuration for each in load_sweep(write(several)).asked if each.grid == 1]
    assert {(c.strategy, c.gpu_count, c.tensor_parallel) for c in asked} == {
        *(("ddp", 2, 1), ("ddp", 4, 1), ("tp", 2, 2), ("tp", 4, 4)),
        *(("fsdp_tp", 2, 1), ("fsdp_tp", 4, 1), ("fsdp_tp", 2, 2), ("fsdp_tp", 4, 2)),
    }
    assert len(asked) == 8, "ddp and tp are not asked for once more with each degree"


def test_a_vocabulary_that_is_not_named_is_the_published_models_own(write: Writer) -> None:
    both = GOOD.replace("vocab_size: 1000", "model_family: [bert, gpt2]")
    asked = [each.configuration for each in load_sweep(write(both)).asked]
    assert {(c.model_family, c.vocab_size) for c in asked} == {("bert", 30522), ("gpt2", 50257)}


def test_repeats_count_towards_the_most_trials(write: Writer) -> None:
    lengths = ", ".join(str(each) for each in range(1, 31))
    message = refused(write(GOOD.replace("seed: 3", "repeats: 1000").replace("[64, 128]", f"[{lengths}]")))
    assert (
        message == "sweep.yaml:3 repeats: 64 configurations, 1000 times each, are 64000 trials; ask for at most 20000"
    )


def test_a_thousand_mistakes_are_told_in_a_few_lines(write: Writer) -> None:
    wrong = GOOD.replace("[64, 128]", "[" + ", ".join("x" * 9 for _ in range(5000)) + "]")
    lines = refused(write(wrong)).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 4980 more"


def test_too_many_configurations_are_refused_before_they_are_made(write: Writer) -> None:
    many = "[" + ", ".join(str(each) for each in range(1, 200)) + "]"
    huge = GOOD.replace("[64, 128]", many).replace("[2, 4]", many)
    assert "39601 configurations up to here; ask for at most" in refused(write(huge))


BOMB = "a: &a [" + "x, " * 99 + "]\nb: &b [" + "*a, " * 99 + "]\nc: &c [" + "*b, " * 99 + "]\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schema: 1\nname: a\nname: b\n", "sweep.yaml:3 name: the key 'name' is there twice (first on line 2)"),
        ("grids: [1, 2\nname: b", "sweep.yaml:2: not YAML"),
        ("", "sweep.yaml: the file is empty"),
        ("- a\n- b\n", "sweep.yaml:1: a sweep is a mapping"),
        ("a: !!python/object/apply:os.system ['true']\n", "is not allowed"),
        ("a: !!python/name:os.system ''\n", "is not allowed"),
        ("a: &x [1]\n<<: *x\n", "a key must be a plain word"),
        ("? [1, 2]\n: 3\n", "a key must be a plain word"),
        ("a: &a [*a]\n", "nested deeper than"),
        ("a: " + "[" * 5000, "nested deeper than"),
        (BOMB, "more than 50000 values"),
        ("a: b\n---\na: c\n", "not YAML"),
        ("a: \t@\n", "not YAML"),
        ('a:\n b: "\\U00110000"\n', "sweep.yaml:2: not YAML: no such character"),
        ('a:\n b: "\\ud800"\n', "sweep.yaml:2 a.b: the character '\\ud800' is not allowed"),
        ('a:\n b: "\\0"\n', "sweep.yaml:2 a.b: the character '\\x00' is not allowed"),
        ("a: " + "x" * 10_001, "sweep.yaml:1 a: a text of 10001 characters; write at most 10000"),
        ("b" * 101 + ": 1", "sweep.yaml:1: a key must be a plain word"),
        ("a: [" + "x, " * 50_000 + "]", "more than 50000 values"),
        ("a: \0\n", "sweep.yaml:1: not YAML: unacceptable character #x0000; "),
        ("schema: '1'\nname: a\ngrids: []", "sweep.yaml:1 schema: unknown value '1'; write 1, without quotes"),
    ],
    ids=["twice", "open", "empty", "list", "object", "name", "merge", "key", "loop", "deep", "bomb", "documents", "at",
         "outside", "half", "escaped", "long", "long_key", "many", "zero", "text"],
)  # fmt: skip
def test_a_file_that_is_not_a_plain_mapping_is_refused(write: Writer, text: str, expected: str) -> None:
    assert expected in refused(write(text))


@pytest.mark.parametrize("content", [b"\xff\xfename", b"a: " + b"x" * 1_000_001])
def test_a_file_that_is_not_a_sweep_at_all_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sweep.yaml").write_bytes(content)
    assert refused(tmp_path / "sweep.yaml").startswith("sweep.yaml: ")


def test_absent_files_and_folders_are_refused(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "absent.yaml")
    assert "cannot be read" in refused(tmp_path)
    with pytest.raises(InputError, match=r"no such sweep; .* did you mean 'quickstart'"):
        find_sweep("quikstart")


def test_a_replayed_trace_must_lie_beside_the_sweep(write: Writer, tmp_path: Path) -> None:
    replay = GOOD + "metering: {meter: replay, replay_path: %s}\n"
    assert "leaves the sweep's folder" in refused(write(replay % "../trace.csv"))
    assert "leaves the sweep's folder" in refused(write(replay % "/etc/hostname"))
    assert "no such file 'trace.csv'" in refused(write(replay % "trace.csv"))
    (tmp_path / "link.csv").symlink_to("/etc/hostname")
    assert "leaves the sweep's folder" in refused(write(replay % "link.csv"))
    (tmp_path / "trace.csv").write_text("")
    assert load_sweep(write(replay % "trace.csv")).metering.replay_path == tmp_path / "trace.csv"


def test_the_shipped_quickstart_is_what_the_study_needs() -> None:
    sweep = load_sweep("quickstart")
    asked = [each.configuration for each in sweep.asked]
    assert len(asked) == 46
    assert {c.strategy for c in asked} == {"single", "fsdp", "zero2"}
    assert {c.gpu_count for c in asked if c.strategy != "single"} == {2}
    assert {c.precision for c in asked} == {"fp32", "bf16"}
    ranges = {"num_layers": (2, 6), "hidden_size": (128, 384), "sequence_length": (64, 256)}
    for axis, (low, high) in ranges.items():
        values = [getattr(c, axis) for c in asked]
        assert (min(values), max(values)) == (low, high)
    assert max(c.grad_accumulation for c in asked) > 1
    assert sweep.window.min_steps >= 20
    singles = {c.case_id for c in asked if c.strategy == "single"}
    assert all(c.case_id in singles for c in asked), "every case has its single-device reference"


def test_every_part_of_a_configuration_is_an_axis_but_its_data() -> None:
    assert set(Axes.model_fields) == {each.name for each in fields(Configuration)} - {"data"}


def test_a_place_is_the_grids_own_line_else_the_defaults_else_the_grid(write: Writer) -> None:
    sweep = load_sweep(write(GOOD))
    places = [sweep.where(1, axis).split("/")[-1] for axis in ("gpu_count", "vocab_size", "precision")]
    assert places == ["sweep.yaml:13 grids[1].gpu_count", "sweep.yaml:5 defaults.vocab_size", "sweep.yaml:12 grids[1]"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text("abc xyz", max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text("abcxyz", min_size=1), plain, min_size=1, max_size=4))
def test_plain_data_survives_the_reader_and_every_part_has_a_line(data: dict[str, object]) -> None:
    file = parse_yaml(yaml.safe_dump(data), "any.yaml")
    assert file.data == data
    for key in data:
        line = yaml.safe_dump(data).splitlines()[file.lines[(key,)] - 1]
        assert line.lstrip("'\"").startswith(key) or line.startswith(f"? {key}")


@given(st.text(max_size=60))
def test_no_text_makes_the_reader_fail_in_another_way(text: str) -> None:
    with suppress(InputError):
        parse_yaml(text, "any.yaml")
