"""A group's links, probed on its own process group: within a node and between nodes, on one address only."""

import mmap
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from joulelaw.bench.spec.configuration import TrialSpec, Window
from joulelaw.bench.study.probed_links import NOTHING, LinkFacts, ProbedLinks
from joulelaw.bench.training import link_probe
from joulelaw.bench.training.link_probe import Ring, logged_nccl, own_transports, rings
from joulelaw.bench.training.process_group import interface_of
from joulelaw.bench.training.rank import form_group
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.cluster.nodes.topology import Link
from joulelaw.cluster.ranks.gang import GangState, RankGang, Seat
from joulelaw.cluster.ranks.local import LocalRank
from joulelaw.cluster.ranks.rank import RankContext
from tests.bench.trial_ranks import TIME_OUT_S, TINY, Outcome, cpu_device, fork_server, run_ranks

pytestmark = pytest.mark.xdist_group("ranks")

ENTRY = "tests.bench.test_link_probe:probe_and_listen"


def spec(ranks: int) -> dict[str, Any]:
    return TrialSpec(replace(TINY, strategy="ddp", gpu_count=ranks), window=Window(0, 1)).to_dict()


def probe_and_listen(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: the group as a trial forms it, and where this process then listens and is connected."""
    device = claim_device(context)
    began_s = time.perf_counter()
    before = _mapped_bytes()
    group = form_group(TrialSpec.from_dict(payload["trial"]), context, device, probe=payload["probe"])
    context.emit({"kind": "took", "seconds": time.perf_counter() - began_s, "bytes": _mapped_bytes() - before})
    group.barrier()
    found = psutil.Process().net_connections(kind="inet")
    listening = sorted({each.laddr.ip for each in found if each.status == psutil.CONN_LISTEN})
    context.emit({"kind": "network", "listening": listening})
    context.emit({"kind": "ready"})
    context.receive(60)
    group.close()


def _mapped_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def own_address() -> str | None:
    """An address of this machine beside loopback."""
    of_all = [each for its in psutil.net_if_addrs().values() for each in its if each.family == socket.AF_INET]
    return next((each.address for each in of_all if not each.address.startswith("127.")), None)


def across(nodes: int, folder: Path, ranks: int, host: str) -> list[Outcome]:
    """The ranks of a gang whose seats say that they are on so many nodes, each reached at `host`."""
    seats = [
        Seat(cpu_device(rank), f"node-{rank * nodes // ranks}", host, LocalRank(fork_server())) for rank in range(ranks)
    ]
    gang, outcomes = RankGang(seats), [Outcome() for _ in range(ranks)]
    until_s = time.monotonic() + TIME_OUT_S
    gang.start(ENTRY, {"trial": spec(ranks), "probe": True}, folder)
    try:
        while gang.state is GangState.RUNNING:
            assert time.monotonic() < until_s, outcomes
            for event in gang.poll():
                outcomes[event["rank"]].events.append(event)
            if sum(bool([e for e in outcome.events if e["kind"] == "ready"]) for outcome in outcomes) == ranks:
                gang.tell({"kind": "go"})
            time.sleep(0.01)
    finally:
        gang.stop()
    assert gang.state is GangState.DONE, gang.failure
    return outcomes


def loopback_bytes_per_s() -> float:
    """What plain sockets move between two threads' ends on this machine, in one direction."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    with sender, receiver:
        number = 64 * 2**20
        writer = threading.Thread(target=sender.sendall, args=(bytes(number),))
        began_s, left = time.perf_counter(), number
        writer.start()
        buffer = bytearray(2**20)
        while left:
            left -= receiver.recv_into(buffer)
        writer.join()
        return number / (time.perf_counter() - began_s)


def test_one_machines_links_are_probed_over_loopback_within_their_time(tmp_path: Path) -> None:
    first, second = run_ranks(tmp_path, ENTRY, {"trial": spec(2), "probe": True}, 2)
    links = first.one("links")
    assert (links["transport"], links["probed_network_bytes_per_s"]) == ("gloo", None)
    assert 1 / 30 < links["probed_link_bytes_per_s"] / loopback_bytes_per_s() < 3
    assert not [event for event in second.events if event["kind"] == "links"]
    for outcome in (first, second):
        assert outcome.one("network")["listening"] == ["127.0.0.1"], "torch's rendezvous and gloo both"
        assert outcome.one("took")["seconds"] < 10, "half a second on a machine with nothing else to do"
        assert outcome.one("took")["bytes"] < 2**25, "the buffers are given back"


def test_a_trial_that_is_not_asked_probes_nothing(tmp_path: Path) -> None:
    for outcome in run_ranks(tmp_path, ENTRY, {"trial": spec(2), "probe": False}, 2):
        assert not [event for event in outcome.events if event["kind"] == "links"]
        assert outcome.exit_status == 0
        assert outcome.one("network")["listening"] == ["127.0.0.1"]


def test_between_nodes_only_the_nodes_own_address_listens(tmp_path: Path) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but loopback")
    outcomes = across(2, tmp_path, 4, host)
    links = outcomes[0].one("links")
    assert links["probed_link_bytes_per_s"] > 1e6
    assert links["probed_network_bytes_per_s"] > 1e6
    assert {address for outcome in outcomes for address in outcome.one("network")["listening"]} == {host}


def test_nodes_with_one_device_each_have_no_link_within(tmp_path: Path) -> None:
    links = across(2, tmp_path, 2, "127.0.0.1")[0].one("links")
    assert links["probed_link_bytes_per_s"] is None
    assert links["probed_network_bytes_per_s"] > 1e6


class NoChannel:
    def emit(self, event: dict[str, Any]) -> None: ...
    def receive(self, timeout_s: float) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("nodes", "here"), [(1, 2), (1, 8), (2, 1), (3, 4)])
def test_every_rank_sends_to_the_one_that_receives_from_it(nodes: int, here: int) -> None:
    contexts = [
        RankContext(rank, nodes * here, rank % here, here, "cpu", "", 1, channel=NoChannel())
        for rank in range(nodes * here)
    ]
    within = {context.rank: rings(context)[0] for context in contexts}
    between = {context.rank: rings(context)[1] for context in contexts}
    assert (set(within.values()) == {None}) == (here == 1)
    assert (set(between.values()) == {None}) == (nodes == 1)
    for ring in (within, between):
        real = {rank: each for rank, each in ring.items() if each is not None}
        assert all(real[each.send_to].receive_from == rank for rank, each in real.items())
    assert all(each is None or each.send_to // here == rank // here for rank, each in within.items())
    assert all(each is None or each.send_to // here != rank // here for rank, each in between.items())
    if here > 1:
        steps, at = 0, 0
        while steps == 0 or at:
            at, steps = (within[at] or Ring(0, 0)).send_to, steps + 1
        assert steps == here, "one ring, not several"


def test_nccls_log_and_nvmls_links_tell_a_ranks_transports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ranks 3 to 5 are on this node, 3 and 4 joined by NVLink; 6 is on another."""
    properties = [SimpleNamespace(uuid=f"{i}-0") for i in range(3)]
    pair = [Link("GPU-0-0", "GPU-1-0", "nvlink", 4), Link("GPU-0-0", "GPU-2-0", "pcie", 16)]
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)
    monkeypatch.setattr(link_probe, "nvml_links", lambda: pair)
    rank = RankContext(3, 9, 0, 3, "cuda", "GPU-0-0", 1, channel=NoChannel())
    said = {
        "nvlink": "3[0] -> 4[1] via P2P/CUMEM",
        "pcie": "3[0] -> 5[2] via P2P/IPC",
        "shm": "3[0] -> 5[2] via SHM/direct/direct",
        "socket": "3[0] -> 6[0] [send] via NET/Socket/0",
    }
    for name, text in said.items():
        (tmp_path / "log").write_text(f"host:1:2 [0] NCCL INFO Channel 00/0 : {text}\n")
        assert own_transports(rank, tmp_path / "log") == [name]
    assert own_transports(rank, tmp_path / "none") == [], "NCCL wrote nothing"
    assert own_transports(rank, None) == ["gloo"]


def test_nccl_is_asked_to_log_only_where_it_is_used(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    for name in ("NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_FILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    with logged_nccl(torch.device("cpu")) as path:
        assert path is None
        assert "NCCL_DEBUG" not in os.environ
    with logged_nccl(torch.device("cuda", 0)) as path:
        assert path == Path(os.environ["NCCL_DEBUG_FILE"])
        assert os.environ["NCCL_DEBUG"] == "INFO"
        path.write_text("via P2P")
    assert not path.exists()
    assert capsys.readouterr().out == ""
    with logged_nccl(torch.device("cuda", 0)) as path:  # NCCL_DEBUG is set now
        assert path is not None
        path.write_text("via SHM")
    assert capsys.readouterr().out == "via SHM\n"


def test_an_interface_is_found_by_its_address() -> None:
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") is None, "an address for documentation: nobody's"
    if host := own_address():
        assert host in [each.address for each in psutil.net_if_addrs()[interface_of(host) or ""]]


def test_a_set_of_devices_is_probed_once() -> None:
    links = ProbedLinks()
    assert not links.missing(["a"])
    assert links.missing(["a", "b"])
    event = {
        "kind": "links",
        "rank": 0,
        "transport": "gloo",
        "probed_link_bytes_per_s": 2e9,
        "probed_network_bytes_per_s": None,
    }
    links.take(["b", "a"], event)
    assert not links.missing(["a", "b"])
    assert links.missing(["a", "b", "c"])
    assert links.of(["a", "b"]) == LinkFacts("gloo", 2e9, None)
    assert links.of(["a"]) == links.of(["a", "c"]) == NOTHING
