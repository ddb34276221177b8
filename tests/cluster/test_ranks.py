"""The handle on one rank, used again for the next: nothing of the last rank reaches into it."""

import contextlib
import json
import socket
import threading
from pathlib import Path
from typing import Any

from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks.rank import RankProcess, RankSpec
from joulelaw.cluster.ranks.wire import Message
from tests.cluster.driving import wait_for

DEVICE = Device("CPU-test-0", "Test (1 core)", 0, "cpu", 2**30, (), None, "")
SPEC = RankSpec("tests.cluster.entries:tell", {}, 0, 1, 0, 1, DEVICE, {}, "unused.log")


class SlowReader(RankProcess):
    """Its reading thread is held up right after it has told of an exit, as a busy machine may do."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def _append(self, messages: list[Message]) -> None:
        super()._append(messages)
        if any(message["kind"] == "exit" for message in messages):
            self.go_on.wait(10)


def test_a_rank_launched_at_the_news_of_the_lasts_exit_can_be_spoken_to(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    address = str(tmp_path / "s")
    listener.bind(address)
    listener.listen()
    process = SlowReader()
    with contextlib.closing(listener):
        process.launch(address, SPEC)
        (reader,) = [thread for thread in threading.enumerate() if thread.name == "rank0-reader"]
        first, _ = listener.accept()
        first.sendall(b'{"kind": "exit", "status": 0}\n')
        seen: list[dict[str, Any]] = []
        wait_for(lambda: bool(seen.extend(process.poll()) or seen))
        process.launch(address, SPEC)
        second, _ = listener.accept()
        process.go_on.set()
        reader.join(10)
        process.send({"kind": "go"})
        second.settimeout(10)
        with second.makefile("rb") as lines:
            assert json.loads(lines.readline())["entry"] == SPEC.entry
            assert json.loads(lines.readline()) == {"kind": "go"}
        first.close()
        second.close()


class LosingItsRank(RankProcess):
    """Its rank ends whenever it has been looked for: the reading thread takes the connection away."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name == "_connection":
            self._connection = None
        return found


def test_a_rank_that_ends_while_it_is_spoken_to_is_no_error() -> None:
    here, there = socket.socketpair()
    with here, there:
        for speak in (lambda process: process.send({"kind": "go"}), RankProcess.kill):
            process = LosingItsRank()
            process._connection = here
            speak(process)
        assert there.recv(1024) == b'{"kind":"go"}\n'
