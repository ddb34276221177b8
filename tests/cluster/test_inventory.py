"""The inventory: logical devices are disjoint, stable and pinned; GPUs come from NVML; names give nobody away."""

import hashlib
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.nodes import inventory
from joulelaw.cluster.nodes.inventory import Device, Node, inspect_node, logical_devices, named_by_node
from joulelaw.cluster.nodes.ray_devices import device_of, granted_devices
from joulelaw.cluster.ranks.launcher import Launcher

GIB = 1 << 30


def gpu(index: int, model: str = "NVIDIA A100") -> Device:
    return Device(f"GPU-{index}", model, index, "cuda", 80 * GIB, (), 400.0, "580.1")


def test_this_machines_node_is_stable_and_says_no_host_name() -> None:
    node = inspect_node("here")
    assert node == inspect_node("here")
    assert socket.gethostname() not in repr(node)
    assert 0 < node.memory_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert node.devices
    assert [device.index for device in node.devices] == list(range(len(node.devices)))


def test_logical_devices_share_no_core_and_no_memory() -> None:
    devices = logical_devices([0, 2, 4, 6, 8], 2, "AMD EPYC", 64 * GIB, "ab12")
    assert [device.cores for device in devices] == [(0, 2), (4, 6)]
    assert {device.model for device in devices} == {"AMD EPYC (2 cores)"}
    assert [device.uuid for device in devices] == ["CPU-ab12-0", "CPU-ab12-4"]
    assert {device.memory_bytes for device in devices} == {32 * GIB}


def test_more_logical_devices_than_cores_go_round_with_their_own_names() -> None:
    devices = logical_devices([0, 1], 1, "x", 8 * GIB, "ab12", count=5)
    assert [device.cores[0] for device in devices] == [0, 1, 0, 1, 0]
    assert len({device.uuid for device in devices}) == 5


@pytest.mark.parametrize("cores_per_device", [0, 3])
def test_impossible_cores_per_device_are_the_users_mistake(cores_per_device: int) -> None:
    with pytest.raises(InputError, match="choose 1 to 2"):
        logical_devices([0, 1], cores_per_device, "x", GIB, "ab12")


def test_gpus_take_the_place_of_logical_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "cuda_devices", lambda: (gpu(0), gpu(1)))
    assert [device.uuid for device in inspect_node().devices] == ["GPU-0", "GPU-1"]


def test_two_ray_nodes_on_one_machine_have_devices_of_their_own() -> None:
    devices = logical_devices([0, 1], 1, "x", GIB, "ab12")
    nodes = [Node(name, "ab12", devices, GIB, 2, "x") for name in ("node-one", "node-two")]
    uuids = [device.uuid for node in nodes for device in named_by_node(node).devices]
    assert len(set(uuids)) == 4


def test_ray_gpus_are_matched_by_what_ray_was_given() -> None:
    four = [gpu(i) for i in range(4)]
    assert granted_devices(four, 4, "") == tuple(four)
    assert granted_devices(four, 2, "2,3") == tuple(four[2:])
    assert granted_devices(four, 1, "GPU-1") == (four[1],)
    assert granted_devices(four, 1, "3,1") == (four[3],), "Ray's first is the first in its order"
    assert granted_devices(four, 2, "3,1") == (four[1], four[3])
    with pytest.raises(InputError, match="Ray offers 8 GPUs on a node where 4 are found"):
        granted_devices(four, 8, "")
    assert device_of(four, "2") == device_of(four, "GPU-2") == four[2]
    with pytest.raises(ClusterError, match="'9'"):
        device_of(four, "9")
    with pytest.raises(ClusterError, match="'GPU-'"):
        device_of(four, "GPU-")


def test_a_sweeps_files_are_found_in_a_jobs_copy_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher, digest = Launcher.__new__(Launcher), hashlib.sha256(b"text").hexdigest()
    here, there = tmp_path / "driver" / "sweeps", tmp_path / "node" / "sweeps"
    for folder in (here, there):
        folder.mkdir(parents=True)
    monkeypatch.chdir(there.parent)
    (there / "a.txt").write_text("text")
    found = launcher.find_files(str(here), str(here.parent), {"a.txt": digest})
    assert Path(found) == there
    (here / "b.txt").write_text("text")
    assert launcher.find_files(str(here), str(here.parent), {"b.txt": digest}) == str(here), "a shared disk"
    (there / "a.txt").write_text("texts")
    with pytest.raises(InputError, match=r"a\.txt not found there, or other content; submit the job"):
        launcher.find_files(str(here), str(here.parent), {"a.txt": digest})
    assert launcher.find_files("/else/where", str(here.parent), {}) == "/else/where"


def test_slices_that_rays_numbers_do_not_tell_apart_are_refused() -> None:
    slices = [replace(gpu(0), uuid=f"MIG-{i}") for i in range(2)]
    assert granted_devices(slices, 2, "MIG-1,MIG-0") == (slices[1], slices[0])
    for visible in ("", "0"):
        with pytest.raises(InputError, match="naming the slices by UUID"):
            granted_devices(slices, 2, visible)
