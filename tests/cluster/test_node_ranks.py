"""The ranks of a node over a bad link: orders come twice and out of turn, answers are lost on the way."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from joulelaw.cluster.failures import ForkServerError
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks import node_ranks, rank_log
from joulelaw.cluster.ranks.node_ranks import NodeRanks, Order
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.server import ForkServer
from tests.cluster.driving import Event, of_kind, wait_for

DEVICE = Device("CPU-0", "CPU", 0, "cpu", 1 << 30, (), None, "")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ForkServer() as server:
        yield server.address


@pytest.fixture
def ranks(address: str) -> NodeRanks:
    return NodeRanks(lambda: address)


def launch(number: int, entry: str, folder: Path, mark: int | None = None, rank: int = 0, size: int = 1) -> Order:
    mark = rank_log.folder_mark(folder) if mark is None else mark
    log = str(folder / f"rank{rank}.log")
    spec = RankSpec(f"tests.cluster.entries:{entry}", {}, rank, size, rank, size, DEVICE, {}, log)
    return Order(number, launch=spec, log_mark=mark)


def heard(ranks: NodeRanks, kind: str, events: list[tuple[int, Event]] | None = None) -> list[Event]:
    """Listens on from what was heard until a kind has come; what was heard by then."""
    events = [] if events is None else events

    def enough() -> bool:
        events.extend(ranks.listen(ranks.life, len(events), 1.0).events)
        return any(event["kind"] == kind for _, event in events)

    wait_for(enough)
    return [event for _, event in events]


def test_an_order_that_comes_again_starts_one_process(ranks: NodeRanks, tmp_path: Path) -> None:
    for _ in range(2):
        ranks.obey(ranks.life, 0, [launch(0, "tell", tmp_path)])
    events = heard(ranks, "exit")
    assert len(of_kind(events, "started")) == len(of_kind(events, "told")) == 1


def test_events_are_kept_until_the_driver_asks_for_what_follows(ranks: NodeRanks, tmp_path: Path) -> None:
    ranks.obey(ranks.life, 0, [launch(0, "tell", tmp_path)])
    whole = heard(ranks, "exit")
    assert [event["kind"] for event in whole] == ["started", "ready", "told", "exit"]
    last = ranks.listen(ranks.life, len(whole) - 1, 9.0).events
    assert last == [(0, whole[-1])]
    assert ranks.listen(ranks.life, len(whole) - 1, 9.0).events == last, "its answer was lost"
    assert ranks.listen(ranks.life, len(whole), 0.0).events == []


def test_messages_are_heard_once_and_in_order(ranks: NodeRanks, tmp_path: Path) -> None:
    one, two, stop = (Order(0, message={"kind": word}) for word in ("one", "two", "stop"))
    for first, orders in (
        (1, [one]),
        (0, [launch(0, "listen", tmp_path), one]),
        (3, [stop]),
        (1, [one, two]),
        (1, [one]),
    ):
        ranks.obey(ranks.life, first, orders)
    assert [event["word"] for event in of_kind(heard(ranks, "exit"), "heard")] == ["one", "two", "stop"]


def test_what_is_late_for_an_earlier_rank_does_not_reach_the_next(ranks: NodeRanks, tmp_path: Path) -> None:
    ranks.obey(ranks.life, 0, [launch(0, "tell", tmp_path)])
    heard(ranks, "exit")
    late = [Order(0), Order(0, message={"kind": "late"})]
    ranks.obey(ranks.life, 1, [launch(1, "echo", tmp_path), *late, Order(1, message={"kind": "go"})])
    events: list[tuple[int, Event]] = []
    (echo,) = of_kind(heard(ranks, "echo", events), "echo")
    assert echo["message"] == {"kind": "go"}
    assert {number for number, event in events if event["kind"] == "echo"} == {1}


def test_another_lifes_orders_and_events_are_not_its_own(ranks: NodeRanks, tmp_path: Path) -> None:
    ranks.obey("an earlier launcher's", 0, [launch(0, "tell", tmp_path)])
    assert ranks.listen(ranks.life, 0, 0.1).events == []
    begun_s = time.monotonic()
    assert ranks.listen("an earlier launcher's", 7, 9.0) == (ranks.life, [], 0)
    assert time.monotonic() - begun_s < 5, "told at once"


def test_a_log_that_is_not_in_the_studys_folder_is_taken_along_by_its_end(ranks: NodeRanks, tmp_path: Path) -> None:
    elsewhere = tmp_path / "not on this node"
    ranks.obey(ranks.life, 0, [launch(0, "tell", elsewhere, mark=1)])
    assert heard(ranks, "exit")[-1]["log"] == "said by rank 0\n"
    assert not elsewhere.exists()
    assert not list(Path(ranks._address()).parent.glob("rank*.log")), "taken, and not left on the node"


def test_of_a_long_log_the_end_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{i:9d}\n" for i in range(1000)))
    text = rank_log.taken(log, most_bytes=100)
    assert text.splitlines()[0] == "[the first 9,900 bytes were left on the node]"
    assert text.splitlines()[1:] == [f"{i:9d}" for i in range(990, 1000)]
    assert rank_log.taken(log) == "", "gone"


def test_the_driver_waits_for_news_and_no_longer(ranks: NodeRanks, tmp_path: Path) -> None:
    ranks.obey(ranks.life, 0, [launch(0, "sleep", tmp_path)])
    events: list[tuple[int, Event]] = []
    heard(ranks, "ready", events)
    began_s = time.monotonic()
    assert ranks.listen(ranks.life, len(events), 0.2).events == []
    assert time.monotonic() - began_s >= 0.2
    ranks.obey(ranks.life, 1, [Order(0)])
    assert heard(ranks, "exit", events)[-1]["status"] == -9


def test_a_group_that_gets_ready_is_one_piece_of_news(
    ranks: NodeRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_ranks, "MAY_WAIT_S", 1e9)
    orders = [launch(rank, "sleep", tmp_path, rank=rank, size=3) for rank in range(3)]
    ranks.obey(ranks.life, 0, orders)
    events = ranks.listen(ranks.life, 0, 60.0).events
    assert sorted(number for number, event in events if event["kind"] == "ready") == [0, 1, 2]
    ranks.obey(ranks.life, 3, [Order(number) for number in range(3)])


def test_where_no_fork_server_starts_its_ranks_have_ended(tmp_path: Path) -> None:
    def none() -> str:
        raise ForkServerError("the fork server cannot import 'deepspeed'")

    ranks = NodeRanks(none)
    ranks.obey(ranks.life, 0, [launch(0, "tell", tmp_path)])
    (end,) = heard(ranks, "exit")
    assert end["lost"] == "could not be started (ForkServerError: the fork server cannot import 'deepspeed')"


def test_ranks_may_be_launched_while_others_tell_their_news(
    ranks: NodeRanks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the group of a rank is looked at, another thread launches one more."""
    numbers = iter(range(1, 4))

    def obey(number: int) -> None:
        ranks.obey(ranks.life, number, [launch(number, "sleep", tmp_path)])

    def group(rank: node_ranks._Rank) -> Path:
        if (number := next(numbers, None)) is not None:
            launching = threading.Thread(target=obey, args=(number,))
            launching.start()
            launching.join(0.1)
        return Path(rank.spec.log_path).parent

    monkeypatch.setattr(node_ranks._Rank, "group", property(group))
    ranks.obey(ranks.life, 0, [launch(0, "sleep", tmp_path)])
    events: list[tuple[int, Event]] = []
    wait_for(lambda: sum(event["kind"] == "ready" for event in heard(ranks, "ready", events)) == 4)
    ranks.obey(ranks.life, 4, [Order(number) for number in range(4)])


def test_an_order_that_cannot_be_carried_out_stops_none_after_it(address: str, tmp_path: Path) -> None:
    addresses = [OSError("no space left on device"), address]

    def told() -> str:
        found = addresses.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    ranks = NodeRanks(told)
    ranks.obey(ranks.life, 0, [launch(0, "tell", tmp_path), launch(1, "tell", tmp_path)])
    events: list[tuple[int, Event]] = []
    wait_for(lambda: sum(event["kind"] == "exit" for event in heard(ranks, "exit", events)) == 2)
    ends = {number: event["lost"] for number, event in events if event["kind"] == "exit"}
    assert ends == {0: "could not be started (OSError: no space left on device)", 1: ""}
