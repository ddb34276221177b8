"""A cluster of several nodes over a real Ray: models of their own, one node that mixes them, nodes that come and go."""

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster as RayNodes
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from joulelaw import InputError
from joulelaw.cluster.cluster import Cluster
from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.changes import NodeChange
from joulelaw.cluster.nodes.inventory import cpu_model
from joulelaw.cluster.nodes.study_files import StudyFiles
from joulelaw.cluster.ranks.gang import GangState, RankGang
from tests.bench.studies import Running
from tests.cluster.driving import finish, of_kind, run, wait_for, wait_for_kind
from tests.fake_nvml.build import fake_nvml
from tests.fake_nvml.devices import MODELS, FakeGpu

# With the other tests of a real Ray: a process is connected to one at a time.
pytestmark = pytest.mark.xdist_group("ray")

A100, H100, V100 = MODELS["a100"], MODELS["h100"], MODELS["v100"]
ONE_CORE, TWO_CORES = f"{cpu_model()} (1 core)", f"{cpu_model()} (2 cores)"
# A killed raylet is then told in two seconds; one that is only slow still has ten for each answer.
HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}
WAITS = "tests.cluster.waits_for_a_file"
HEAD = {"num_cpus": 2, "num_gpus": 2, "include_dashboard": False, "_system_config": HEALTH}


@dataclass
class Nodes:
    """Ray's nodes, our cluster over them, and their names as node ids."""

    ray: RayNodes
    cluster: Cluster
    ids: dict[str, str]
    let_go: Path
    """Once it is there, the node with GPUs may import `WAITS`."""

    def totals(self) -> dict[str, int]:
        """Devices that are there by model, of those that are."""
        found = {model: sum(on.values()) for model, on in self.cluster.total_by_model().items()}
        return {model: number for model, number in found.items() if number}

    def settle(self, totals: dict[str, int]) -> list[NodeChange]:
        """Refreshes until so many devices are there; what changed meanwhile."""
        changes: list[NodeChange] = []

        def settled() -> bool:
            changes.extend(self.cluster.refresh())
            return self.totals() == totals

        wait_for(settled)
        return changes


def gpu(name: str, sensor: Any) -> FakeGpu:
    return FakeGpu(f"GPU-{name}-0000-0000-0000-000000000000", sensor=sensor)


def gpu_node(*gpus: FakeGpu, **more: str) -> dict[str, Any]:
    whole = fake_nvml().environment(gpus, time.monotonic_ns())
    names = ("FAKE_NVML", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH")
    return {"num_cpus": 1, "num_gpus": len(gpus), "env_vars": {name: whole[name] for name in names} | more}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """The head with 2 devices of a core; a node with one of two cores; one with two A100 and an H100 between them."""
    there = RayNodes(initialize_head=True, head_node_args=HEAD)
    let_go = tmp_path_factory.mktemp("nodes") / "go"
    mixed = gpu("aaaaaaa0", "a100"), gpu("hhhhhhh0", "h100"), gpu("aaaaaaa1", "a100")
    started = {
        "head": there.head_node,
        "two": there.add_node(num_cpus=1, num_gpus=1, labels={"joulelaw/cores-per-device": "2"}),
        "mixed": there.add_node(**gpu_node(*mixed, WAITS_FOR=str(let_go))),
    }
    try:
        with Cluster.connect(there.address) as cluster:
            cluster.wait_ready()
            yield Nodes(there, cluster, {name: node.node_id for name, node in started.items()}, let_go)
    finally:
        there.shutdown()


WHOLE = {ONE_CORE: 2, TWO_CORES: 1, A100: 2, H100: 1}


def test_each_node_has_its_own_devices_and_its_own_models(nodes: Nodes) -> None:
    found = {node.node_id: [device.model for device in node.devices] for node in nodes.cluster.nodes}
    assert found == {
        nodes.ids["head"]: [ONE_CORE, ONE_CORE],
        nodes.ids["two"]: [TWO_CORES],
        nodes.ids["mixed"]: [A100, H100, A100],
    }
    nodes.settle(WHOLE)
    uuids = [device.uuid for node in nodes.cluster.nodes for device in node.devices]
    assert len(set(uuids)) == 6
    assert set(nodes.cluster.meters) == set(nodes.ids.values())
    assert nodes.cluster.meters[nodes.ids["mixed"]].name == "nvml"
    assert [node.node_id for node in nodes.cluster.nodes if node.numbered_by_cuda] == [nodes.ids["mixed"]]


def test_a_plan_is_for_the_clusters_devices_and_leaves_nothing_on_it(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(
        "schema: 1\nname: small\ndevices: {misfits: set_aside}\n"
        "defaults: {num_layers: 2, hidden_size: 64, sequence_length: 32, vocab_size: 1000, micro_batch_size: 2}\n"
        "grids:\n  - {gpu_model: each}\n  - {gpu_model: each, strategy: fsdp, gpu_count: [2, 4]}\n"
    )
    actors = sum(actor["State"] == "ALIVE" for actor in ray._private.state.actors().values())
    planned = Running("plan", "sweep.yaml", cwd=tmp_path, env={"RAY_ADDRESS": nodes.ray.address}).end()
    assert planned.code == 0, planned.errors
    assert planned.last["devices"] == WHOLE
    assert planned.last["nodes"] == 3
    assert planned.last["planned"] == 6, "one on each model, two on two of A100 and of cores"
    assert planned.last["expected_s"] > 0
    assert planned.last["meter"] is None, "none was opened"
    (aside,) = planned.last["set_aside"]
    assert "the most that one has" in aside["reason"] or "4" in aside["reason"]
    assert sum(actor["State"] == "ALIVE" for actor in ray._private.state.actors().values()) == actors


def test_trials_of_all_models_run_at_once_each_on_devices_of_its_own(nodes: Nodes, tmp_path: Path) -> None:
    nodes.settle(WHOLE)
    wanted = {ONE_CORE: "head", TWO_CORES: "two", A100: "mixed", H100: "mixed"}
    gangs = {model: nodes.cluster.acquire(model, WHOLE[model]) for model in wanted}
    try:
        assert not any(free for on in nodes.cluster.free_by_model().values() for free in on.values())
        assert len({device.uuid for gang in gangs.values() for device in gang.devices}) == 6
        assert ray.available_resources().get("GPU", 0) == 0, "nor has another Ray job any of them"
        for number, (model, gang) in enumerate(gangs.items()):
            told = of_kind(run(gang, "tell", {}, tmp_path / str(number)), "told")
            assert {event["node"] for event in told} == {nodes.ids[wanted[model]]}
            visible = ",".join(device.uuid for device in gang.devices) if wanted[model] == "mixed" else ""
            assert {event["env"]["CUDA_VISIBLE_DEVICES"] for event in told} == {visible}
        with pytest.raises(ClusterError, match="not free now: 0 are"):
            nodes.cluster.acquire(A100, 1, nodes=[nodes.ids["mixed"]])
    finally:
        for gang in gangs.values():
            nodes.cluster.release(gang)
    assert [device.index for device in gangs[A100].devices] == [0, 2]


def test_devices_go_back_to_ray_as_soon_as_no_trial_can_use_them_and_come_when_another_job_ends(nodes: Nodes) -> None:
    nodes.settle(WHOLE)
    nodes.cluster.keep_only({H100: 1, ONE_CORE: 3})
    nodes.settle({H100: 1})
    here = NodeAffinitySchedulingStrategy(nodes.ids["mixed"], soft=False)
    holder = ray.remote(Holder).options(num_gpus=1, num_cpus=0, scheduling_strategy=here).remote()
    (held,) = ray.get(holder.gpu_ids.remote(), timeout=60)
    assert held != "1", "the H100 is not lent twice"
    nodes.cluster.keep_only(dict.fromkeys([*WHOLE, V100], 1))
    nodes.settle({**WHOLE, A100: 1})
    assert nodes.cluster.more_to_come()
    ray.kill(holder)
    nodes.settle(WHOLE)
    assert not nodes.cluster.more_to_come()


class Holder:
    """Another job's."""

    def gpu_ids(self) -> list[str]:
        return [str(each) for each in ray.get_gpu_ids()]


def test_the_end_of_a_log_travels_where_the_studys_folder_is_not(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gang = nodes.cluster.acquire(TWO_CORES, 1)
    try:
        for same, number in ((True, 1), (False, 2)):
            if not same:
                monkeypatch.setattr("joulelaw.cluster.ranks.rank_log.folder_mark", lambda folder: 0)
            (exit_,) = of_kind(run(gang, "tell", {}, tmp_path / str(number)), "exit")
            log = tmp_path / str(number) / "rank0.log"
            assert exit_.get("log", log.read_text() if same else None) == "said by rank 0\n"
            assert log.exists() is same
            assert ("log" in exit_) is not same
    finally:
        nodes.cluster.release(gang)


def test_files_of_a_sweep_are_looked_for_on_every_node_before_anything_is_waited_for(
    nodes: Nodes, tmp_path: Path
) -> None:
    sums = {"more.csv": "?", "texts.csv": hashlib.sha256(b"a,b\n").hexdigest()}
    (tmp_path / "texts.csv").write_text("a,b\n")
    with pytest.raises(InputError, match=r"missing on (node \w{6}: more.csv not found there.*){3}; submit"):
        Cluster.connect(preload=[WAITS], files=StudyFiles(tmp_path, sums, Path.cwd()))


def test_a_study_begins_with_the_first_node_while_others_load_their_libraries(nodes: Nodes, tmp_path: Path) -> None:
    nodes.cluster.keep_only({})
    nodes.settle({})
    (tmp_path / "texts.csv").write_text("a,b\n")
    files = StudyFiles(tmp_path, {"texts.csv": hashlib.sha256(b"a,b\n").hexdigest()}, Path.cwd())
    with Cluster.connect(preload=[WAITS], files=files) as second:
        assert {node.node_id for node in second.nodes} == set(nodes.ids.values()), "the plan is for all of them"
        second.wait_first()
        gang = second.acquire(ONE_CORE, 1)
        run(gang, "tell", {}, tmp_path / "1")
        assert gang.state is GangState.DONE, gang.failure
        second.release(gang)
        assert not {A100, H100} & second.total_by_model().keys()
        assert second.more_to_come()
        nodes.let_go.touch()
        gang = second.acquire(A100, 2)  # waits for its node
        assert gang.node_ids == (nodes.ids["mixed"],)
        second.release(gang)
        joined = {change.node_id for change in second.refresh() if change.kind == "node_joined"}
        assert joined == set(nodes.ids.values())
        assert {member.folders[str(tmp_path)] for member in second._roster.usable} == {str(tmp_path)}
    nodes.cluster.keep_only(dict.fromkeys([*WHOLE, V100], 1))
    nodes.settle(WHOLE)


def test_a_node_that_joins_late_is_taken_up_and_one_that_cannot_be_used_is_told(nodes: Nodes, tmp_path: Path) -> None:
    nodes.settle(WHOLE)
    added = nodes.ray.add_node(**gpu_node(gpu("aaaaaaa2", "a100"), gpu("vvvvvvv0", "v100")))
    wrong = nodes.ray.add_node(num_cpus=1, num_gpus=1, labels={"joulelaw/cores-per-device": "many"})
    changes = nodes.settle({**WHOLE, A100: 3, V100: 1})
    joined, refused = sorted(changes, key=lambda change: change.kind)
    assert (joined.kind, joined.node_id) == ("node_joined", added.node_id)
    assert (refused.kind, refused.node_id) == ("node_refused", wrong.node_id)
    assert "'many' is not a number of cores" in refused.text
    assert added.node_id in nodes.cluster.meters
    nodes.ids["late"] = added.node_id

    gang = nodes.cluster.acquire(A100, 2, node_count=2)
    try:
        events = run(gang, "shake_hands", {}, tmp_path)
        assert gang.state is GangState.DONE, gang.failure
        assert set(gang.node_ids) == {nodes.ids["mixed"], nodes.ids["late"]}
        ready = of_kind(events, "ready")
        (met,) = of_kind(events, "met")
        assert {event["host"] for event in ready} == {ray.util.get_node_ip_address()} == {met["peer"]}
        for event in ready:
            interface = event["env"]["GLOO_SOCKET_IFNAME"]
            assert Path("/sys/class/net", interface).exists()
            assert event["env"]["NCCL_SOCKET_IFNAME"] == f"={interface}"
    finally:
        nodes.cluster.release(gang)


def test_a_lost_node_ends_its_own_trials_and_no_others(nodes: Nodes, tmp_path: Path) -> None:
    before = nodes.totals()
    lost, kept = nodes.cluster.acquire(TWO_CORES, 1), nodes.cluster.acquire(ONE_CORE, 1)
    for number, gang in enumerate((lost, kept)):
        gang.start("tests.cluster.entries:echo", {}, tmp_path / str(number))
        wait_for_kind(gang, "ready")
    os.kill(raylet_of(nodes, "two"), signal.SIGKILL)
    began_s = time.monotonic()
    changes = nodes.settle({model: number for model, number in before.items() if model != TWO_CORES})
    assert time.monotonic() - began_s < 60
    (change,) = changes
    assert (change.kind, change.node_id, change.cause) == ("node_lost", nodes.ids["two"], Cause.NODE_LOST)
    assert nodes.cluster.lost_nodes[nodes.ids["two"]][0] is Cause.NODE_LOST
    finish(lost)
    assert lost.cause is Cause.NODE_LOST
    assert f"was lost, as node {nodes.ids['two'][:6]} is lost: its Ray died" in lost.failure
    nodes.cluster.release(lost)
    assert_undisturbed(kept)
    nodes.cluster.release(kept)
    assert TWO_CORES not in nodes.cluster.free_by_model()
    wait_for(lambda: nodes.ids["head"] in nodes.cluster.drain_power())


def raylet_of(nodes: Nodes, name: str) -> int:
    (node,) = [each for each in nodes.ray.list_all_nodes() if each.node_id == nodes.ids[name]]
    (raylet,) = node.all_processes["raylet"]
    return int(raylet.process.pid)


def assert_undisturbed(gang: RankGang) -> None:
    gang.poll()
    assert gang.state is GangState.RUNNING
    gang.tell({"kind": "go"})
    assert of_kind(finish(gang), "echo")
    assert gang.state is GangState.DONE
