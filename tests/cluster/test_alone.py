"""A machine without Ray offers what a cluster offers, by the same names."""

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from joulelaw.cluster.alone import LocalCluster
from joulelaw.cluster.cluster import Cluster
from joulelaw.cluster.failures import ClusterError, InfeasibleGroupError
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.topology import Link
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks.gang import GangState
from tests.cluster.driving import gone, run, wait_for_kind

ROOT = Path(__file__).resolve().parent.parent.parent


def face(kind: type) -> dict[str, str]:
    """Names and what they take; what they give, the type checker compares with `bench.fleet.Fleet`."""
    every = {name: value for base in reversed(kind.__mro__[:-1]) for name, value in vars(base).items()}
    public = {name: value for name, value in every.items() if not name.startswith("_") and name != "connect"}
    return {name: "property" if isinstance(value, property) else _takes(value) for name, value in public.items()}


def _takes(method: Callable[..., Any]) -> str:
    return str(inspect.signature(method).replace(return_annotation=None))


def test_it_has_the_face_of_a_cluster() -> None:
    assert face(LocalCluster) == face(Cluster)


def test_it_runs_meters_and_leaves_nothing(tmp_path: Path) -> None:
    with LocalCluster.connect(meter_options=MeterOptions(kind="estimate", cpu_w_per_core=5.0)) as cluster:
        (node,) = cluster.nodes
        model, number = node.devices[0].model, len(node.devices)
        assert cluster.free_by_model() == {model: {node.node_id: number}}
        gang = cluster.acquire(model, number)
        with pytest.raises(ClusterError, match="not free now: 0 are"):
            cluster.acquire(model, 1)
        with pytest.raises(InfeasibleGroupError, match=f"nearest: {number} x"):
            cluster.acquire(model, number + 1)
        run(gang, "tell", {}, tmp_path)
        assert gang.state is GangState.DONE, gang.failure
        assert set(cluster.drain_power()[node.node_id]["device_uuid"].to_pylist()) == {
            device.uuid for device in node.devices
        }
        gang.start("tests.cluster.entries:sleep", {}, tmp_path)
        wait_for_kind(gang, "ready", number=number)
        pids = [cluster.wait_ready()[node.node_id].pid, *(pid for _, pid in gang.pids.values())]
    assert all(gone(pid) for pid in pids)


def test_it_loads_neither_ray_nor_torch() -> None:
    script = "import sys, joulelaw.cluster.alone; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert not set(done.stdout.split()) & {"ray", "torch"}


def test_it_takes_neighbours_as_a_cluster_does() -> None:
    gpus = tuple(Device(f"GPU-{i}", "A100", i, "cuda", 2**36, (), 400.0, "") for i in range(4))
    links = (Link("GPU-0", "GPU-2", "nvlink", 12), Link("GPU-1", "GPU-3", "nvlink", 12))
    nothing: Any = SimpleNamespace(address="")
    cluster = LocalCluster(Node("local", "0a", gpus, 1, 1, "", links), nothing, nothing, None)
    assert [device.index for device in cluster.acquire("A100", 2).devices] == [0, 2]
    assert [device.index for device in cluster.acquire("A100", 2).devices] == [1, 3]
