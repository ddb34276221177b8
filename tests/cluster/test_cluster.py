"""The cluster over a real Ray with logical GPUs: exclusive groups, the same events as without Ray, no orphans."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from joulelaw import InputError
from joulelaw.cluster.cluster import Cluster
from joulelaw.cluster.failures import Cause, ClusterError, GroupTimeoutError, InfeasibleGroupError
from joulelaw.cluster.nodes.pool import DevicePool
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks import remote
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.node_link import NodeLink
from joulelaw.cluster.ranks.remote import RankHost, RemoteRank
from joulelaw.cluster.ranks.server import ForkServer
from tests.cluster.driving import Event, environment, finish, gone, of_kind, run, wait_for, wait_for_kind

# One Ray for all: --dist loadgroup sends these to one worker.
pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster.connect("local", meter_options=MeterOptions(kind="estimate", cpu_w_per_core=5.0)) as cluster:
        yield cluster


@pytest.fixture
def model(cluster: Cluster) -> str:
    return cluster.nodes[0].devices[0].model


def free_devices(cluster: Cluster, model: str) -> int:
    return sum(cluster.free_by_model()[model].values())


def test_its_node_has_the_devices_of_this_machine(cluster: Cluster) -> None:
    (node,) = cluster.nodes
    assert {core for device in node.devices for core in device.cores} <= os.sched_getaffinity(0)
    status = cluster.wait_ready()[node.node_id]
    assert (status.threads, status.cuda_initialized) == (1, False)


def test_ranks_do_not_stand_back_for_other_programs(cluster: Cluster) -> None:
    """Ray's own workers do, by 15: the first thing seen in a comparison with torchrun on a busy machine."""
    (status,) = cluster.wait_ready().values()
    assert os.getpriority(os.PRIO_PROCESS, status.pid) == os.getpriority(os.PRIO_PROCESS, 0)


def test_the_clock_of_a_node_on_this_machine_is_this_clock(cluster: Cluster) -> None:
    cluster.wait_ready()
    wait_for(lambda: cluster.drain_power() is not None and len(cluster.clock_offsets()) > 0)
    (offset,) = cluster.clock_offsets().values()
    assert abs(offset.offset_ns) <= offset.error_ns < 1e9


def test_groups_run_at_once_on_devices_of_their_own(cluster: Cluster, model: str, tmp_path: Path) -> None:
    gangs = [cluster.acquire(model, 1) for _ in range(free_devices(cluster, model))]
    try:
        assert len({gang.devices[0].uuid for gang in gangs}) == len(gangs)
        for i, gang in enumerate(gangs):
            gang.start("tests.cluster.entries:echo", {}, tmp_path / str(i))
        for gang in gangs:
            wait_for_kind(gang, "ready")
        assert all(gang.state is GangState.RUNNING for gang in gangs), "all at the same time"
        for gang in gangs:
            gang._seats[0].handle.send({"kind": "go"})
            (echo,) = of_kind(finish(gang), "echo")
            assert echo["message"] == {"kind": "go"}
        with pytest.raises(ClusterError, match="not free now: 0 are"):
            cluster.acquire(model, 1)
    finally:
        for gang in gangs:
            cluster.release(gang)


def shape(events: list[Event]) -> list[tuple[int, list[Event]]]:
    """Per rank, the events in order without what differs from process to process."""
    drop = ("pid", "time_ns", "node", "group", "rank", "traceback")
    ranks = sorted({event["rank"] for event in events})
    return [
        (rank, [{k: v for k, v in event.items() if k not in drop} for event in events if event["rank"] == rank])
        for rank in ranks
    ]


@pytest.mark.parametrize(("entry", "payload"), [("tell", {"a": 1}), ("fail", {"failing": 0}), ("leave", {"code": 4})])
def test_events_and_failure_are_the_same_as_without_ray(
    cluster: Cluster, model: str, tmp_path: Path, entry: str, payload: dict[str, int]
) -> None:
    gang = cluster.acquire(model, free_devices(cluster, model))
    try:
        remote = run(gang, entry, payload, tmp_path)
        with ForkServer() as server:
            alone = LocalGang(server, gang.devices)
            local = run(alone, entry, payload, tmp_path)
        assert shape(remote) == shape(local)
        assert gang.state is alone.state
        assert sorted(gang.failure.split(" | ")) == sorted(alone.failure.split(" | "))
        assert {event["node"] for event in remote} == set(gang.node_ids)
    finally:
        cluster.release(gang)


def test_ranks_of_a_group_meet(cluster: Cluster, model: str, tmp_path: Path) -> None:
    gang = cluster.acquire(model, free_devices(cluster, model))
    try:
        events = run(gang, "all_reduce", {}, tmp_path)
        size = len(gang.devices)
        assert gang.state is GangState.DONE, gang.failure
        assert [event["value"][0] for event in of_kind(events, "sum")] == [size * (size + 1) / 2] * size
    finally:
        cluster.release(gang)


def test_groups_are_formed_and_dissolved_without_asking_ray(
    cluster: Cluster, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trial would pay for it; actors of devices that are held stay as they are."""
    (node,) = cluster.nodes
    cluster.wait_ready()
    actors = {each.actor for each in cluster._pool._nodes[node.node_id].held.values()}
    monkeypatch.setattr("ray.remote", None)
    monkeypatch.setattr("ray.get", None)
    monkeypatch.setattr("ray.kill", None)
    for count in (1, len(node.devices), 1):
        gang = cluster.acquire(model, count, nodes=[node.node_id])
        assert len(gang.devices) == count
        cluster.release(gang)
    assert {each.actor for each in cluster._pool._nodes[node.node_id].held.values()} == actors


def test_devices_of_earlier_tries_come_last(cluster: Cluster, model: str) -> None:
    (node,) = cluster.nodes
    for device in node.devices:
        gang = cluster.acquire(model, 1, avoid={other.uuid for other in node.devices if other is not device})
        assert gang.devices == (device,)
        cluster.release(gang)


def test_an_impossible_group_is_refused_at_once(cluster: Cluster, model: str) -> None:
    number = len(cluster.nodes[0].devices)
    with pytest.raises(InfeasibleGroupError, match=rf"asked for {number + 1} x .*the cluster has {number}"):
        cluster.acquire(model, number + 1)
    with pytest.raises(InfeasibleGroupError, match="the cluster has none; it has: "):
        cluster.acquire("NVIDIA H300", 1)


def test_devices_that_another_job_holds_are_taken_up_when_it_lets_them_go(cluster: Cluster, model: str) -> None:
    (node,) = cluster.nodes
    cluster.wait_ready()
    other = DevicePool(grant_s=0.3)
    other.add(node, cluster._roster.member(node.node_id).launcher, float(node.cpu_count), {})
    try:
        with pytest.raises(GroupTimeoutError, match=rf"no device for 0.3 s.*{len(node.devices)} on node"):
            wait_for(lambda: not other.advance() and not other.more_to_come())
        assert other.total_by_model() == {model: {node.node_id: 0}}, "what is not granted is not there"
        cluster.keep_only({})  # nothing waits for a device of this study
        cluster.refresh()
        assert cluster.total_by_model() == {model: {node.node_id: 0}}

        def granted() -> bool:
            other.advance()
            return other.free_by_model() == {model: {node.node_id: len(node.devices)}}

        wait_for(granted)
        cluster.keep_only({model: 1})
        cluster.refresh()
        assert cluster.more_to_come(), "asked for again"
    finally:
        other.close()
    wait_for(lambda: not cluster.refresh() and not cluster.more_to_come())
    assert free_devices(cluster, model) == len(node.devices)


def test_a_rank_whose_actor_dies_is_lost_and_its_process_too(cluster: Cluster, model: str, tmp_path: Path) -> None:
    gang = cluster.acquire(model, 1)
    gang.start("tests.cluster.entries:sleep", {}, tmp_path)
    wait_for_kind(gang, "ready")
    handle = gang._seats[0].handle
    assert isinstance(handle, RemoteRank)
    ray.kill(handle._actor)
    finish(gang)
    assert "was lost with its actor" in gang.failure
    assert gang.cause is Cause.RANK_CRASH
    wait_for(lambda: gone(gang.pids[0][1]))
    cluster.release(gang)
    whole = cluster.acquire(model, len(cluster.nodes[0].devices))  # waits for the device's new actor
    run(whole, "tell", {}, tmp_path)
    assert whole.state is GangState.DONE
    cluster.release(whole)


def test_an_actor_that_holds_a_device_ends_when_it_is_told_to(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a Ray that ends tells it: a worker waits for its calls before it goes."""
    monkeypatch.setattr(remote, "_HOLD_S", 0.5)

    class Host(RankHost):
        def pid(self) -> int:
            return os.getpid()

    actor = ray.remote(Host).options(num_cpus=0, max_concurrency=2).remote()
    pid = ray.get(actor.pid.remote())
    rank = RemoteRank(actor, NodeLink(None, lambda: None), lambda: None, {})
    held = [rank._hold]

    def held_again() -> bool:
        rank.look()
        held.extend([] if rank._hold is held[-1] else [rank._hold])
        return len(held) == 3

    wait_for(held_again)
    assert not rank.is_lost
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: gone(pid))
    wait_for(lambda: (rank.look(), rank.is_lost)[1])


def test_a_killed_fork_server_fails_one_trial_and_is_replaced(cluster: Cluster, model: str, tmp_path: Path) -> None:
    gang = cluster.acquire(model, 1)
    gang.start("tests.cluster.entries:sleep", {}, tmp_path)
    wait_for_kind(gang, "ready")
    os.kill(cluster.wait_ready()[cluster.nodes[0].node_id].pid, signal.SIGKILL)
    finish(gang)
    assert "was lost with its fork server" in gang.failure
    cluster.release(gang)
    gang = cluster.acquire(model, 1)
    run(gang, "tell", {}, tmp_path)
    assert gang.state is GangState.DONE, gang.failure
    cluster.release(gang)


def test_a_killed_launcher_takes_its_ranks_along_and_the_new_one_runs_others(
    cluster: Cluster, model: str, tmp_path: Path
) -> None:
    gang = cluster.acquire(model, 1)
    gang.start("tests.cluster.entries:sleep", {}, tmp_path)
    wait_for_kind(gang, "ready")
    os.kill(actor_pid("ray::Launcher"), signal.SIGKILL)
    finish(gang)
    assert "was lost with its fork server" in gang.failure
    assert gang.cause is Cause.RANK_CRASH
    wait_for(lambda: gone(gang.pids[0][1]))
    cluster.release(gang)
    gang = cluster.acquire(model, 1)
    run(gang, "tell", {}, tmp_path)
    assert gang.state is GangState.DONE, gang.failure
    cluster.release(gang)


def test_power_readings_of_every_device_come_once_and_follow_the_ranks(
    cluster: Cluster, model: str, tmp_path: Path
) -> None:
    (node,) = cluster.nodes
    assert cluster.meters[node.node_id].name == "cpu_time_estimate"
    gang = cluster.acquire(model, 1)
    uuid = gang.devices[0].uuid
    cluster.drain_power()
    readings: list[dict[str, Any]] = []

    def counters() -> list[float]:
        readings.extend(rows_of(cluster, node.node_id))
        mine = [each["energy_counter_j"] for each in readings if each["device_uuid"] == uuid]
        return [joules for joules in mine if joules is not None]

    try:
        gang.start("tests.cluster.entries:burn", {"cpu_s": 0.3}, tmp_path)
        wait_for_kind(gang, "ready")
        wait_for(lambda: cluster.watch(node.node_id, {uuid: [gang.pids[0][1]]}))
        wait_for(lambda: len(counters()) > 0)
        gang.tell({"kind": "go"})
        wait_for(lambda: counters()[-1] - counters()[0] >= 0.3 * 5.0)
        gang.tell({"kind": "leave"})
        finish(gang)
    finally:
        cluster.release(gang)
    assert counters()[-1] - counters()[0] == pytest.approx(0.3 * 5.0, rel=0.2), "0.3 s at 5 W, and little to wait"
    assert {reading["device_uuid"] for reading in readings} == {device.uuid for device in node.devices}
    mine = [reading["time_ns"] for reading in readings if reading["device_uuid"] == uuid]
    assert all(a < b for a, b in pairwise(mine))


def test_a_killed_sampler_is_noticed_and_the_new_one_knows_the_ranks(
    cluster: Cluster, model: str, tmp_path: Path
) -> None:
    (node,) = cluster.nodes
    assert cluster.meters[node.node_id].name == "cpu_time_estimate"
    gang = cluster.acquire(model, 1)
    try:
        gang.start("tests.cluster.entries:burn", {"cpu_s": 600}, tmp_path)
        wait_for_kind(gang, "ready")
        uuid, pid = gang.devices[0].uuid, gang.pids[0][1]
        wait_for(lambda: cluster.watch(node.node_id, {uuid: [pid]}))
        gang.tell({"kind": "go"})
        cluster.drain_power()
        before = cluster.meter_losses[node.node_id]
        os.kill(actor_pid("ray::SamplerHost"), signal.SIGKILL)
        joules: list[float] = []

        def burnt() -> bool:
            mine = [each for each in rows_of(cluster, node.node_id) if each["device_uuid"] == uuid]
            new = cluster.meter_losses[node.node_id] > before
            joules.extend(each["energy_counter_j"] for each in mine if new and each["energy_counter_j"] is not None)
            return len(joules) > 5

        wait_for(burnt)
        assert joules == sorted(joules)
        assert joules[-1] > joules[0]
        wait_for(lambda: cluster.meter_losses[node.node_id] == before + 1)
    finally:
        cluster.release(gang)


def rows_of(cluster: Cluster, node_id: str) -> list[dict[str, Any]]:
    """A node's new readings, if it has told any."""
    drained = cluster.drain_power().get(node_id)
    return drained.to_pylist() if drained is not None else []


def actor_pid(name: str) -> int:
    """Of this process's Ray: the session's cluster. The kernel keeps 15 letters of a name."""
    children = psutil.Process().children(recursive=True)
    (found,) = [process.pid for process in children if process.name().startswith(name[:15])]
    return found


def test_a_meter_that_is_not_there_is_the_users_mistake(cluster: Cluster) -> None:
    """On the same Ray: a second connection starts actors of its own, and ends only those."""
    with (
        Cluster.connect(meter_options=MeterOptions(kind="nvml")) as second,
        pytest.raises(InputError, match=r"meter.kind 'nvml'"),
    ):
        second.wait_ready()
    assert cluster.wait_ready()


def test_an_address_where_nobody_listens_is_told_at_once() -> None:
    script = "from joulelaw.cluster.cluster import Cluster; Cluster.connect('127.0.0.1:1')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment(), timeout=60)
    assert "cannot connect to Ray at 127.0.0.1:1: [Errno 111] Connection refused" in done.stderr
