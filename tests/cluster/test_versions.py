"""Nodes with other software are told apart by one message; other drivers and clocks that are off by a note."""

import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.cluster.nodes import versions
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node
from joulelaw.cluster.nodes.versions import SOURCE, check_same, installed, notes, own_epoch_ns, source_hash
from joulelaw.cluster.streams.metering import ClockOffset

SOFTWARE = (("python", "3.12.1"), ("torch", "2.13.0+cu130"), ("ray", "2.60.0"))
SECOND_NS = 10**9


def node(name: str, driver: str = "580.1", software: tuple[tuple[str, str], ...] = SOFTWARE, **changes: int) -> Node:
    gpu = Device(f"GPU-{name}", "NVIDIA A100", 0, "cuda", 2**36, (), 400.0, driver)
    return Node(name * 6, "0a", (gpu,), 2**40, 64, "CPU", software=software, epoch_ns=changes.get("epoch_ns"))


def having(**other: str) -> tuple[tuple[str, str], ...]:
    return tuple({**dict(SOFTWARE), **other}.items())


def test_what_is_installed_here_is_told_without_importing_it() -> None:
    told = dict(inspect_node().software)
    assert told["torch"] == version("torch")
    assert told[SOURCE] == source_hash()
    code = (
        "import sys; from joulelaw.cluster.nodes.versions import installed; installed(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_source_hash_is_the_codes_and_changes_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("model", "cluster", "bench"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "law.py").write_text("A = 1\n")
    monkeypatch.setattr(versions.joulelaw, "__path__", [str(tmp_path)])
    before = source_hash()
    (tmp_path / "bench" / "__pycache__").mkdir()
    (tmp_path / "bench" / "__pycache__" / "law.pyc").write_text("compiled")
    assert source_hash() == before
    (tmp_path / "bench" / "law.py").rename(tmp_path / "bench" / "laws.py")
    assert source_hash() != before


def test_equal_nodes_pass_and_so_do_builds_for_another_accelerator() -> None:
    check_same([node("a"), node("b", software=having(torch="2.13.0+cpu")), node("c", software=())])
    check_same([])


def test_the_node_that_differs_is_named_with_both_versions_and_the_remedy() -> None:
    odd = node("b", software=having(torch="2.12.1", ray="2.59.0"))
    with pytest.raises(InputError) as raised:
        check_same([node("a"), odd, node("c")])
    what = str(raised.value)
    assert "node bbbbbb has torch 2.12.1, others 2.13.0; node bbbbbb has ray 2.59.0, others 2.60.0" in what
    assert "runtime_env" in what
    assert "docs/cluster.md" in what
    assert "aaaaaa" not in what


def test_drivers_that_differ_are_noted_by_node() -> None:
    assert notes([node("a"), node("b")]) == []
    (note,) = notes([node("a"), node("b", driver="570.86"), node("c")])
    assert "570.86 on bbbbbb; 580.1 on aaaaaa, cccccc" in note
    cpu = replace(node("a").devices[0], kind="cpu", driver="")
    assert notes([node("a"), replace(node("b"), devices=(cpu,))]) == [], "a CPU has none"


@pytest.mark.parametrize(
    ("off_s", "said"), [(0.9, ""), (2.5, "2.5 s ahead"), (-3600.25, "3600.2 s behind"), (-0.5, "")]
)
def test_a_clock_that_is_off_is_noted_whatever_its_monotonic_clock_began_at(off_s: float, said: str) -> None:
    """The node was switched on 1000 s after this machine: its monotonic clock is so far behind."""
    epoch_ns = 1_700_000_000 * SECOND_NS
    there = node("b", epoch_ns=epoch_ns + 1000 * SECOND_NS + round(off_s * SECOND_NS))
    clocks = {there.node_id: ClockOffset(-1000 * SECOND_NS, SECOND_NS // 1000)}
    found = notes([there], clocks, epoch_ns)
    assert len(found) == bool(said)
    assert all(said in note and "bbbbbb" in note for note in found)
    assert notes([there]) == [], "nothing is known of its clock"


def test_this_machines_own_clock_is_right_by_itself() -> None:
    here = inspect_node()
    assert abs(own_epoch_ns() - (here.epoch_ns or 0)) < SECOND_NS
    assert notes([here], {here.node_id: ClockOffset(0, 0)}) == []
    assert installed() is installed()


def test_gpus_of_several_models_that_ray_calls_by_numbers_are_worth_a_word() -> None:
    (said,) = notes([node("a"), replace(node("b"), numbered_by_cuda=True)])
    assert said.startswith("node bbbbbb has GPUs of several models")
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in said
