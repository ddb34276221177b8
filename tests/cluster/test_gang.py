"""A gang: its ranks end together, and its failure names the rank, the cause and the log."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.inventory import Device, inspect_node
from joulelaw.cluster.ranks.gang import GangLimits, GangState, RankGang, Seat
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.server import ForkServer
from joulelaw.cluster.ranks.wire import LineBuffer, Message, encode
from tests.cluster.driving import finish, gone, of_kind, run, wait_for_kind


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        server.wait_ready()
        yield server


@pytest.fixture(scope="module")
def devices() -> tuple[Device, Device]:
    """Two, which may be the same: ranks can share a core."""
    first, *others = inspect_node().devices
    return first, (others or [first])[0]


def test_one_failing_rank_ends_all_with_cause_and_log(
    server: ForkServer, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    gang = LocalGang(server, devices, limits=GangLimits(grace_s=0.2))
    gang.start("tests.cluster.entries:fail", {"failing": 1}, tmp_path)
    wait_for_kind(gang, "error")
    pids = [pid for _, pid in gang.pids.values()]
    finish(gang)
    assert gang.state is GangState.FAILED
    assert gang.failure == f"rank 1 failed: MemoryError: no room for the optimizer; log {tmp_path}/rank1.log"
    assert gang.cause is Cause.OUT_OF_MEMORY
    assert "no room for the optimizer" in (tmp_path / "rank1.log").read_text()
    assert all(gone(pid) for pid in pids)
    run(gang, "tell", {}, tmp_path)
    assert (gang.state, gang.failure) == (GangState.DONE, ""), "the gang is as good as new"


def test_a_death_by_signal_is_told_before_the_errors_it_causes(
    server: ForkServer, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    gang = LocalGang(server, devices)
    run(gang, "die", {"failing": 1, "signal": int(signal.SIGSEGV)}, tmp_path)
    root, consequence = gang.failure.split(" | ")
    assert root == f"rank 1 killed by signal 11 (SIGSEGV); log {tmp_path}/rank1.log"
    assert consequence.startswith("rank 0 failed: ConnectionError: connection closed by peer")
    assert "Segmentation fault" in (tmp_path / "rank1.log").read_text(), "the stack of a crash is in the log"


def test_an_exit_code_is_a_failure_and_zero_is_none(
    server: ForkServer, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    gang = LocalGang(server, devices[:1])
    run(gang, "leave", {"code": 3}, tmp_path)
    assert (gang.state, gang.failures[0].what) == (GangState.FAILED, "left with exit code 3")
    run(gang, "leave", {"code": 0}, tmp_path)
    assert gang.state is GangState.DONE


def test_an_unknown_entry_is_an_error_of_the_rank(
    server: ForkServer, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    gang = LocalGang(server, devices[:1])
    run(gang, "no_such_entry", {}, tmp_path)
    assert "has no attribute 'no_such_entry'" in gang.failure


def test_a_log_that_cannot_be_written_is_an_error_of_the_rank(
    server: ForkServer, devices: tuple[Device, Device], tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    gang = LocalGang(server, devices[:1])
    run(gang, "tell", {}, tmp_path / "taken")
    assert "taken" in gang.failure


@pytest.mark.parametrize(
    ("entry", "limits", "cause", "what"),
    [
        ("never_ready", GangLimits(start_s=0.5), Cause.START_TIMEOUT, "was not ready within 0.5 s"),
        ("sleep", GangLimits(hang_s=0.5), Cause.HANG, "took no step and gave no other sign of life for 0.5 s"),
    ],
)
def test_a_gang_that_does_not_get_on_fails(
    server: ForkServer,
    devices: tuple[Device, Device],
    tmp_path: Path,
    entry: str,
    limits: GangLimits,
    cause: Cause,
    what: str,
) -> None:
    gang = LocalGang(server, devices, limits=limits)
    run(gang, entry, {}, tmp_path)
    assert gang.state is GangState.FAILED
    assert {failure.what for failure in gang.failures} == {what}
    assert gang.cause is cause


def test_stop_leaves_no_rank_and_says_so(server: ForkServer, devices: tuple[Device, Device], tmp_path: Path) -> None:
    gang = LocalGang(server, devices)
    gang.start("tests.cluster.entries:sleep", {}, tmp_path)
    wait_for_kind(gang, "ready", number=2)
    with pytest.raises(ClusterError, match="still runs"):
        gang.start("tests.cluster.entries:sleep", {}, tmp_path)
    pids = [pid for _, pid in gang.pids.values()]
    gang.stop()
    assert (gang.state, gang.failure, gang.cause) == (GangState.FAILED, "stopped", None)
    assert all(gone(pid) for pid in pids)
    assert len(of_kind(gang.poll(), "exit")) == 2, "the last events are still to be had"


class DeafHandle:
    """A rank that starts and then neither speaks nor dies, as on a node that was cut off."""

    def __init__(self) -> None:
        self.specs: list[RankSpec] = []
        self.sent: list[Message] = []
        self.events: list[Message] = []

    def launch(self, spec: RankSpec) -> None:
        self.specs.append(spec)

    def poll(self) -> list[Message]:
        events, self.events = self.events, []
        return events

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def kill(self) -> None: ...

    def flush(self) -> None: ...


def test_ranks_that_cannot_be_killed_make_the_gang_unfit(devices: tuple[Device, Device], tmp_path: Path) -> None:
    gang = RankGang([Seat(devices[0], "n", "10.0.0.1", DeafHandle())], GangLimits(stop_s=0.1))
    gang.start("m:f", {}, tmp_path)
    gang.stop()
    assert (gang.state, gang.healthy) == (GangState.FAILED, False)
    with pytest.raises(ClusterError, match="acquire another"):
        gang.start("m:f", {}, tmp_path)


def test_killing_does_not_wait_for_ranks_out_of_reach(devices: tuple[Device, Device], tmp_path: Path) -> None:
    gang = RankGang([Seat(devices[0], "n", "10.0.0.1", DeafHandle())], GangLimits(stop_s=0.1))
    gang.start("m:f", {}, tmp_path)
    gang.kill()
    gang.poll()
    assert gang.state is GangState.RUNNING
    time.sleep(0.1)
    gang.poll()
    assert gang.state is GangState.FAILED


def test_the_end_of_a_log_that_was_written_elsewhere_is_kept(devices: tuple[Device, Device], tmp_path: Path) -> None:
    handle = DeafHandle()
    gang = RankGang([Seat(devices[0], "n", "10.0.0.1", handle)])
    gang.start("m:f", {}, tmp_path)
    handle.events = [{"kind": "exit", "status": 1, "log": "its last words\n"}]
    gang.poll()
    assert (gang.state, gang.log_ends) == (GangState.FAILED, {0: "its last words\n"})


def test_over_two_nodes_ranks_count_per_node_and_meet_at_an_address(
    devices: tuple[Device, Device], tmp_path: Path
) -> None:
    handles = [DeafHandle() for _ in range(4)]
    hosts = ["10.0.0.1", "10.0.0.1", "10.0.0.2", "10.0.0.2"]
    gang = RankGang([Seat(devices[0], host, host, handle) for host, handle in zip(hosts, handles, strict=True)])
    gang.start("m:f", {}, tmp_path)
    specs = [handle.specs[0] for handle in handles]
    assert [(spec.rank, spec.local_rank, spec.local_world_size) for spec in specs] == [
        (0, 0, 2),
        (1, 1, 2),
        (2, 0, 2),
        (3, 1, 2),
    ]
    assert [spec.host for spec in specs] == hosts
    assert "GLOO_SOCKET_IFNAME" not in specs[0].env, "loopback reaches no other node"
    rendezvous = {"kind": "rendezvous", "address": "10.0.0.1:4242"}
    handles[0].events = [rendezvous]
    gang.poll()
    assert [handle.sent for handle in handles] == [[], [rendezvous], [rendezvous], [rendezvous]]


def test_messages_survive_any_cut_and_a_killed_writer() -> None:
    messages: list[Message] = [{"kind": "a", "text": "x\ny"}, {"kind": "b", "value": [1.5, None]}]
    data = b"".join(encode(message) for message in messages)
    for cut in range(len(data)):
        lines = LineBuffer()
        assert lines.messages(data[:cut]) + lines.messages(data[cut:]) == messages
    assert LineBuffer().messages(b'{"kind": "half' + b"\n" + data) == messages


def test_a_log_folder_named_from_here_is_found_by_a_server_that_works_elsewhere(
    devices: tuple[Device, Device], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster's nodes were started in some other folder than the driver, whose results may be named from there."""
    (tmp_path / "there").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    with ForkServer() as server:
        server.wait_ready()
        monkeypatch.chdir(tmp_path / "here")
        gang = LocalGang(server, devices[:1])
        run(gang, "fail", {"failing": 0}, Path("out/logs"))
    assert (tmp_path / "here/out/logs/rank0.log").is_file()
    assert gang.failure.endswith("log out/logs/rank0.log"), "results are published: no path of this machine in them"
