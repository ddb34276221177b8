"""The saved environment says what ran, and nothing of who ran it or where."""

import getpass
import json
import os
import socket
import subprocess
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from joulelaw.bench.study import environment
from joulelaw.bench.study.environment import describe_environment, git_state, package_version
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node
from joulelaw.cluster.nodes.topology import Link

GPU = Device(
    "GPU-secret-serial", "NVIDIA A40", 0, "cuda", 48 * 2**30, (), 300.0, "570.86", (8, 6), "0000:01:00.0", (4, 16)
)
OTHER = replace(GPU, uuid="GPU-secret-other", index=1, pcie=None, compute_capability=None)
LINKS = (
    Link("GPU-secret-other", "GPU-secret-serial", "nvlink", 4, 30),
    Link("GPU-secret-serial", "GPU-secret-not-lent", "pcie", 16, 30),
)
SOFTWARE = (("python", "3.12.1"), ("torch", "2.13.0+cu130"))
NODE = Node(
    "local", "0a1b2c3d", (GPU, OTHER), 2**36, 64, "AMD EPYC", LINKS, SOFTWARE, 1_700_000_000, "node-7.secret.example"
)


def test_nothing_tells_who_ran_it_or_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    private = {
        "HF_TOKEN": "hf_0123456789secret",
        "AWS_SECRET_ACCESS_KEY": "aws0123456789secret",
        "USER": "grace.hopper",
        "LOGNAME": "grace.hopper",
        "HOME": "/home/grace.hopper",
        "HOSTNAME": "difference-engine",
        "OMP_NUM_THREADS": "token-in-the-wrong-place",
        "http_proxy": "http://hopper:pw@proxy.example",
    }
    for name, value in private.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "gethostname", lambda: "difference-engine")
    monkeypatch.setattr(environment.platform, "release", lambda: "6.1.7-hopper-custom")
    text = json.dumps(describe_environment([inspect_node(), NODE]))
    for value in private.values():
        assert value not in text
    for secret in ("hopper", "secret", "difference", os.sep + "home", str(Path.cwd()), str(Path(__file__).parents[2])):
        assert secret not in text
    assert '"kernel": "6.1.7"' in text


def test_nothing_of_this_very_machine_leaks_either() -> None:
    text = json.dumps(describe_environment([inspect_node()]))
    leaks = {getpass.getuser(), socket.gethostname(), str(Path.home())} - {"root", "/", "/root", "localhost"}
    assert not [each for each in leaks if each in text]


def test_devices_drivers_limits_and_versions_are_told() -> None:
    told = describe_environment([NODE])
    assert told["nodes"][0]["devices"][0] == {
        "gpu_model": "NVIDIA A40",
        "kind": "cuda",
        "index": 0,
        "memory_bytes": 48 * 2**30,
        "cores": [],
        "power_limit_w": 300.0,
        "driver": "570.86",
        "compute_capability": [8, 6],
        "pcie_generation": 4,
        "pcie_lanes": 16,
    }
    assert told["nodes"][0]["devices"][1]["pcie_lanes"] is None
    assert told["nodes"][0]["links"] == [{"between": [0, 1], "kind": "nvlink", "lanes": 4}], "of the study's devices"
    assert told["nodes"][0]["software"] == {"python": "3.12.1", "torch": "2.13.0+cu130"}
    assert told["nodes"][0]["host"] == "0a1b2c3d"
    assert told["packages"]["numpy"] == version("numpy")
    assert package_version("no-such-distribution") is None


def test_thread_counts_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert describe_environment([])["variables"]["OMP_NUM_THREADS"] == "3"


def test_the_commit_is_that_of_the_checkout_and_changes_are_noticed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "--quiet", "--message", "first")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": False}
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path) == {"commit": git("rev-parse", "HEAD"), "changed": True}
    (tmp_path / "inside").mkdir()
    assert git_state(tmp_path / "inside") is None
