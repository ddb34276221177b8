"""The actor that holds a device, asked as a bad link asks: calls come twice, and answers are lost on the way."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks import rank_log
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.remote import RankHost
from joulelaw.cluster.ranks.server import ForkServer
from tests.cluster.driving import Event, of_kind, wait_for

DEVICE = Device("CPU-0", "CPU", 0, "cpu", 1 << 30, (), None, "")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ForkServer() as server:
        yield server.address


@pytest.fixture
def host(address: str) -> RankHost:
    host = RankHost(launcher=None)
    host._server = address
    return host


def spec(entry: str, folder: Path) -> RankSpec:
    return RankSpec(f"tests.cluster.entries:{entry}", {}, 0, 1, 0, 1, DEVICE, {}, str(folder / "rank0.log"))


def heard(host: RankHost, number: int, events: list[Event], kind: str) -> list[Event]:
    """Polls on from what was heard until a kind has come."""

    def enough() -> bool:
        events.extend(host.poll(number, len(events), 1.0))
        return bool(of_kind(events, kind))

    wait_for(enough)
    return events


def test_a_launch_that_is_repeated_starts_one_process(host: RankHost, tmp_path: Path) -> None:
    mark = rank_log.folder_mark(tmp_path)
    first = host.launch(0, spec("tell", tmp_path), mark, 10.0)
    again = host.launch(0, spec("tell", tmp_path), mark, 10.0)
    assert again[: len(first)] == first, "the answer that was lost, and perhaps more"
    events = heard(host, 0, again, "exit")
    assert len(of_kind(events, "started")) == len(of_kind(events, "told")) == 1


def test_events_are_kept_until_the_driver_asks_for_what_follows(host: RankHost, tmp_path: Path) -> None:
    host.launch(0, spec("tell", tmp_path), rank_log.folder_mark(tmp_path), 0.0)
    whole = heard(host, 0, [], "exit")
    kinds = [event["kind"] for event in whole]
    assert kinds == ["started", "ready", "told", "exit"]
    assert host.poll(0, len(whole) - 1, 0.0) == whole[-1:]
    assert host.poll(0, len(whole) - 1, 0.0) == whole[-1:], "its answer was lost"
    assert host.poll(0, len(whole), 0.0) == []


def test_messages_are_heard_once_and_in_order(host: RankHost, tmp_path: Path) -> None:
    host.launch(0, spec("listen", tmp_path), rank_log.folder_mark(tmp_path), 0.0)
    events = heard(host, 0, [], "ready")
    for order, word in ((0, "one"), (0, "one"), (2, "stop"), (1, "two"), (0, "one"), (2, "stop")):
        host.send(0, order, {"kind": word})
    heard(host, 0, events, "exit")
    assert [event["word"] for event in of_kind(events, "heard")] == ["one", "two", "stop"]


def test_what_is_late_for_an_earlier_rank_does_not_reach_the_next(host: RankHost, tmp_path: Path) -> None:
    mark = rank_log.folder_mark(tmp_path)
    host.launch(0, spec("tell", tmp_path), mark, 0.0)
    heard(host, 0, [], "exit")
    host.launch(1, spec("echo", tmp_path), mark, 0.0)
    events = heard(host, 1, [], "ready")
    host.kill(0)
    host.send(0, 5, {"kind": "late"})
    assert host.poll(0, 0, 0.0) == []
    host.send(1, 0, {"kind": "go"})
    (echo,) = of_kind(heard(host, 1, events, "exit"), "echo")
    assert echo["message"] == {"kind": "go"}


def test_a_log_that_is_not_in_the_studys_folder_is_taken_along_by_its_end(host: RankHost, tmp_path: Path) -> None:
    elsewhere = tmp_path / "not on this node"
    host.launch(0, spec("tell", elsewhere), 1, 0.0)
    assert heard(host, 0, [], "exit")[-1]["log"] == "said by rank 0\n"
    assert not elsewhere.exists()
    assert host._log is not None
    assert not host._log.exists(), "taken, and not left on the node"


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{i:9d}\n" for i in range(1000)))
    text = rank_log.taken(log, most_bytes=100)
    assert text.splitlines()[0] == "[the first 9,900 bytes were left on the node]"
    assert text.splitlines()[1:] == [f"{i:9d}" for i in range(990, 1000)]
    assert rank_log.taken(log) == "", "gone"


def test_a_poll_waits_for_news_and_no_longer(host: RankHost, tmp_path: Path) -> None:
    host.launch(0, spec("sleep", tmp_path), rank_log.folder_mark(tmp_path), 0.0)
    events = heard(host, 0, [], "ready")
    began_s = time.monotonic()
    assert host.poll(0, len(events), 0.2) == []
    assert time.monotonic() - began_s >= 0.2
    host.kill(0)
    assert heard(host, 0, events, "exit")[-1]["status"] == -9
