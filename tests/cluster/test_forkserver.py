"""The fork server: fresh ranks from a single-threaded state without CUDA, and none that outlives who asked for it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from joulelaw.cluster.failures import ForkServerError
from joulelaw.cluster.nodes.inventory import Device, inspect_node
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.server import ForkServer
from tests.cluster.driving import finish, gone, of_kind, run, wait_for, wait_for_kind

ROOT = Path(__file__).resolve().parent.parent.parent
LIBRARIES = ("torch", "torch.distributed.fsdp", "transformers.models.bert.modeling_bert", "deepspeed")


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer() as server:
        yield server


@pytest.fixture(scope="module")
def heavy() -> Iterator[ForkServer]:
    """One for the tests that need the real libraries; --dist loadgroup keeps them on one worker."""
    with ForkServer(LIBRARIES, {"DS_ACCELERATOR": "cpu"}) as server:
        yield server


@pytest.fixture(scope="module")
def device() -> Device:
    return inspect_node().devices[0]


heavy_server = pytest.mark.xdist_group("heavy_server")


@heavy_server
def test_with_all_libraries_loaded_it_has_one_thread_and_no_cuda(
    heavy: ForkServer, device: Device, tmp_path: Path
) -> None:
    status = heavy.wait_ready()
    assert (status.threads, status.cuda_initialized) == (1, False)
    (found,) = of_kind(run(LocalGang(heavy, [device]), "flags", {}, tmp_path), "found")
    assert found["cuda_initialized"] is False
    assert len(list(Path(f"/proc/{heavy.pid}/task").iterdir())) == 1, "forking starts no thread either"
    loaded = Path(f"/proc/{heavy.pid}/maps").read_text()
    assert "libtorch_cpu" in loaded
    assert "libcuda.so" not in loaded


@heavy_server
def test_no_rank_inherits_another_ranks_torch_flags(heavy: ForkServer, device: Device, tmp_path: Path) -> None:
    gang = LocalGang(heavy, [device])
    (first,) = of_kind(run(gang, "flags", {}, tmp_path), "found")
    (second,) = of_kind(run(gang, "flags", {}, tmp_path), "found")
    assert (first["tf32"], first["math_sdp"], first["grad"]) == (False, True, True)
    assert {**second, "pid": 0} == {**first, "pid": 0}


@heavy_server
def test_ranks_meet_in_a_process_group(heavy: ForkServer, device: Device, tmp_path: Path) -> None:
    gang = LocalGang(heavy, [device, device])
    events = run(gang, "all_reduce", {}, tmp_path)
    assert gang.state is GangState.DONE, gang.failure
    assert [event["value"] for event in of_kind(events, "sum")] == [[3.0] * 4] * 2


def test_every_rank_is_a_fresh_process(server: ForkServer, device: Device, tmp_path: Path) -> None:
    gang = LocalGang(server, [device])
    events = run(gang, "paint", {"colour": "red"}, tmp_path) + run(gang, "paint", {"colour": "blue"}, tmp_path)
    assert [event["colour"] for event in of_kind(events, "found")] == ["white", "white"]
    assert len({event["pid"] for event in of_kind(events, "started")}) == 2


def test_a_rank_is_pinned_and_told_who_it_is(server: ForkServer, tmp_path: Path) -> None:
    devices = inspect_node().devices[:2]
    events = run(LocalGang(server, devices), "tell", {"batch": 4}, tmp_path, env={"EXTRA": "yes"})
    for event in of_kind(events, "told"):
        rank = event["rank"]
        assert event["rank_seen"] == event["local_rank"] == rank
        assert event["world_size"] == len(devices)
        assert event["payload"] == {"batch": 4}
        assert event["cores"] == list(devices[rank].cores)
        assert event["threads"] == len(devices[rank].cores)
        env = {"OMP_NUM_THREADS": str(event["threads"]), "CUDA_VISIBLE_DEVICES": "", "EXTRA": "yes"}
        assert event["env"] == env
        assert (tmp_path / f"rank{rank}.log").read_text() == f"said by rank {rank}\n"


def test_ranks_of_gpus_see_their_groups_gpus_and_keep_all_cores(server: ForkServer, tmp_path: Path) -> None:
    gpus = [Device(f"GPU-{i}", "A100", i, "cuda", 80 << 30, (), 400.0, "580") for i in (2, 5)]
    for event in of_kind(run(LocalGang(server, gpus), "tell", {}, tmp_path), "told"):
        assert event["env"]["CUDA_VISIBLE_DEVICES"] == "GPU-2,GPU-5"
        assert event["cores"] == sorted(os.sched_getaffinity(0))


def test_a_message_sent_right_after_the_launch_arrives(server: ForkServer, device: Device, tmp_path: Path) -> None:
    gang = LocalGang(server, [device])
    gang.start("tests.cluster.entries:echo", {}, tmp_path)
    gang._seats[0].handle.send({"kind": "hello", "text": "two\nlines, \u00b5"})
    (echo,) = of_kind(finish(gang), "echo")
    assert echo["message"] == {"kind": "hello", "text": "two\nlines, \u00b5"}


def test_what_a_rank_started_dies_with_it(server: ForkServer, device: Device, tmp_path: Path) -> None:
    gang = LocalGang(server, [device])
    gang.start("tests.cluster.entries:sleep_with_child", {}, tmp_path)
    (ready,) = wait_for_kind(gang, "ready")
    os.kill(gang.pids[0][1], signal.SIGKILL)
    finish(gang)
    wait_for(lambda: gone(ready["grandchild"]))


LAUNCHER = """
import sys, time
from pathlib import Path
from joulelaw.cluster.nodes.inventory import inspect_node
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.server import ForkServer

server = ForkServer()
gang = LocalGang(server, inspect_node().devices[:1])
if len(sys.argv) > 2:  # ranks from another's server
    type(server).address = property(lambda self: sys.argv[2])
gang.start("tests.cluster.entries:sleep", {}, Path(sys.argv[1]))
while not any(event["kind"] == "ready" for event in gang.poll()):
    time.sleep(0.01)
print(gang.pids[0][1], server.pid or 0, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("own_server", [True, False])
def test_a_killed_launcher_leaves_no_process(server: ForkServer, tmp_path: Path, own_server: bool) -> None:
    """SIGKILL, so that nothing in the launcher can clean up. Another's server lives on."""
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path)] + ([] if own_server else [server.address])
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as it:
        assert it.stdout is not None
        rank_pid, server_pid = map(int, it.stdout.readline().split())
        assert not gone(rank_pid)
        it.kill()
    wait_for(lambda: gone(rank_pid))
    if own_server:
        wait_for(lambda: gone(server_pid))
    else:
        assert not gone(server.wait_ready().pid)


def test_ranks_die_with_a_killed_server_and_the_next_start_finds_a_new_one(device: Device, tmp_path: Path) -> None:
    with ForkServer() as server:
        gang = LocalGang(server, [device])
        gang.start("tests.cluster.entries:sleep", {}, tmp_path)
        wait_for_kind(gang, "ready")
        pid = gang.pids[0][1]
        os.kill(server.pid or 0, signal.SIGKILL)
        finish(gang)
        assert gang.failure == f"rank 0 was lost with its fork server; log {tmp_path}/rank0.log"
        wait_for(lambda: gone(pid))
        run(gang, "tell", {}, tmp_path)
        assert gang.state is GangState.DONE


def test_closing_and_terminating_end_the_server_and_its_ranks(device: Device, tmp_path: Path) -> None:
    def terminate(server: ForkServer) -> None:
        os.kill(server.pid or 0, signal.SIGTERM)

    for end in (ForkServer.close, terminate):
        server = ForkServer()
        gang = LocalGang(server, [device])
        gang.start("tests.cluster.entries:sleep", {}, tmp_path)
        wait_for_kind(gang, "ready")
        pids = [gang.pids[0][1], server.pid or 0]
        socket_path = Path(server.address)
        end(server)
        for pid in pids:
            wait_for(partial(gone, pid))
        server.close()
        assert not socket_path.parent.exists()


def test_only_its_user_can_reach_it(server: ForkServer) -> None:
    assert Path(server.address).parent.stat().st_mode & 0o077 == 0


def test_a_library_that_cannot_be_imported_is_named() -> None:
    server = ForkServer(["json", "no_such_library"])
    server.start()
    with pytest.raises(ForkServerError, match="cannot import 'no_such_library'"):
        server.wait_ready()
    assert server.pid is None


def test_a_library_that_starts_a_thread_is_refused() -> None:
    server = ForkServer(["tests.cluster.starts_a_thread"])
    server.start()
    with pytest.raises(ForkServerError, match=r"starts_a_thread left the fork server unfit to fork.*threads=2"):
        server.wait_ready()
    assert server.pid is None
