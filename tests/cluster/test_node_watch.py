"""Why a node is dead: Ray says the same of one that crashed and one that is cut off, so its machine is asked."""

import errno
import socket
import threading
from typing import Any

import pytest

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.nodes import node_watch
from joulelaw.cluster.nodes.node_watch import NodeWatch, answers, death_of

MISSED = "health check failed due to missing too many heartbeats"


def entry(port: int, reason: int = 2, said: str = MISSED) -> dict[str, Any]:
    return {
        "NodeManagerAddress": "127.0.0.1",
        "NodeManagerPort": port,
        "DeathReason": reason,
        "DeathReasonMessage": said,
    }


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_machine_that_refuses_is_there() -> None:
    cause, text = death_of(entry(free_port()))
    assert cause is Cause.NODE_LOST
    assert text == f"its Ray died: the machine answers, the raylet does not ({MISSED})"


@pytest.mark.parametrize("silence", [TimeoutError(), OSError(errno.EHOSTUNREACH, ""), OSError(errno.ENETUNREACH, "")])
def test_a_machine_that_does_not_answer_is_cut_off(silence: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: Any, **__: Any) -> None:
        raise silence

    monkeypatch.setattr(socket, "create_connection", silent)
    cause, text = death_of(entry(1))
    assert cause is Cause.NETWORK_CUT
    assert text == f"it does not answer: its network is cut, or the machine is off ({MISSED})"


def test_a_node_that_ray_ended_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", None)
    assert death_of(entry(1, reason=1, said="received SIGTERM")) == (
        Cause.NODE_LOST,
        "Ray ended there (received SIGTERM)",
    )


def test_a_raylet_that_hangs_still_has_a_machine() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert answers("127.0.0.1", server.getsockname()[1])


def test_nodes_that_die_together_are_asked_together_and_old_deaths_are_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def row(name: str, alive: bool) -> dict[str, Any]:
        more = {"NodeID": name, "Alive": alive, "Resources": {"GPU": 1.0}, "NodeManagerHostname": name}
        return {**entry(1), **more}

    table = [row("old", alive=False), *(row(f"n{i}", alive=True) for i in range(12))]
    monkeypatch.setattr(node_watch.ray, "nodes", lambda: table)
    monkeypatch.setattr(node_watch, "LOOK_EVERY_S", 1e9)
    together = threading.Barrier(12, timeout=60)  # broken, and so an error, unless all knock at once
    monkeypatch.setattr(node_watch, "answers", lambda *_: together.wait() >= 0)
    watch = NodeWatch()
    try:
        old = watch.nodes["old"].death
        table[1:] = [row(f"n{i}", alive=False) for i in range(12)]
        found = watch._look()
    finally:
        watch.close()
    assert old is not None
    assert "before this study" in old[1]
    assert all(each.death and "the machine answers" in each.death[1] for name, each in found.items() if name != "old")
