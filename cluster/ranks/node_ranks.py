"""All ranks of one node, in its launcher: they are told in order what to do, and heard together.

The driver's orders to a node are numbered, and so are its ranks' events. A link that drops for a while loses nothing:
an order that comes again does not count, one that overtook another waits, and events are kept until the driver asks for
what follows them.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks import rank_log
from joulelaw.cluster.ranks.rank import RankProcess, RankSpec
from joulelaw.cluster.ranks.wire import Message

# What a rank tells of its work is told on within this time, with all else that came meanwhile; other news at once.
MAY_WAIT = frozenset({"started", "links", "steps", "window", "done"})
MAY_WAIT_S = 0.5
# Ranks of a group say the same within milliseconds.
_TOGETHER_S = 0.003


class Order(NamedTuple):
    """To the rank of a launch, by its number: to be launched, to take a message, or, without either, to be killed."""

    number: int
    launch: RankSpec | None = None
    log_mark: int = 0
    message: Message | None = None


class Heard(NamedTuple):
    """`events` of the ranks of a launcher's `life`, each with the number of its rank's launch. `obeyed`: how many
    orders it has, none missing."""

    life: str
    events: list[tuple[int, Message]]
    obeyed: int


@dataclass
class _Rank:
    spec: RankSpec
    process: RankProcess
    log: Path | None = None
    is_ready: bool = False

    @property
    def group(self) -> Path:
        return Path(self.spec.log_path).parent


class NodeRanks:
    """`address` tells where the node's fork server listens, and starts one where there is none. Several threads may
    call: `listen` waits inside for news, without using the processor."""

    def __init__(self, address: Callable[[], str]) -> None:
        self.life = f"{os.getpid()}-{time.monotonic_ns()}"
        self._address = address
        self._ranks: dict[int, _Rank] = {}
        self._next = 0
        self._early: dict[int, Order] = {}
        self._kept: list[tuple[int, Message]] = []  # that the driver may not have yet; the first is number `_first`
        self._first = self._answered = 0
        self._due_s = float("inf")  # when what has not been told yet is to be told at the latest
        self._is_obeying = False
        self._listeners = 0  # so far
        self._ordering, self._news = threading.Lock(), threading.Condition()

    def obey(self, life: str, first: int, orders: Sequence[Order]) -> None:
        """Does what it is told, each thing once and in order. `first` is the number of the first order."""
        with self._ordering:
            if life != self.life:
                return
            self._early |= {number: each for number, each in enumerate(orders, first) if number >= self._next}
            if self._is_obeying:  # in another call, which goes on with these: a slow order holds up but one
                return
            self._is_obeying = True
        try:
            while (order := self._next_order()) is not None:
                self._carry_out(order)
        except BaseException:
            self._is_obeying = False  # the next call goes on
            raise

    def _next_order(self) -> Order | None:
        with self._ordering:
            order = self._early.pop(self._next, None)
            self._is_obeying = order is not None
            self._next += order is not None
            return order

    def listen(self, life: str, first: int, wait_s: float) -> Heard:
        """The events from number `first` on; those before are not asked for again. Another life's are not there.

        It ends at once when it is called again: of a call that is repeated nobody waits for the first.
        """
        with self._news:
            self._listeners += 1
            mine = self._listeners
            self._news.notify_all()
            if life == self.life:
                del self._kept[: max(0, first - self._first)]
                self._first = max(first, self._first)
                deadline_s = time.monotonic() + wait_s
                # What was answered and is asked for again was lost on its way.
                while (
                    mine == self._listeners
                    and first >= self._answered
                    and (left_s := min(deadline_s, self._due_s) - time.monotonic()) > 0
                ):
                    self._news.wait(left_s)
                self._due_s, self._answered = float("inf"), self._first + len(self._kept)
                self._news.notify_all()
            return Heard(self.life, list(self._kept) if life == self.life else [], self._next)

    def _carry_out(self, order: Order) -> None:
        if order.launch is not None:
            self._launch(order.number, order.launch, order.log_mark)
        elif (rank := self._ranks.get(order.number)) is None:
            return  # it is gone
        elif order.message is not None:
            rank.process.send(order.message)
        else:
            rank.process.kill()

    def _launch(self, number: int, spec: RankSpec, log_mark: int) -> None:
        process = RankProcess(on_news=partial(self._hear, number))
        self._add(number, rank := _Rank(spec, process))
        try:
            server = self._address()
            placed, rank.log = rank_log.placed(spec, log_mark, Path(server).parent, number)
            process.launch(server, placed)
        except Exception as error:  # whatever it is, nobody but the driver can be told of it
            process.kill()
            what = f"could not be started ({type(error).__name__}: {error})"
            self._keep(number, [{"kind": "exit", "status": 255, "lost": what, "cause": Cause.RANK_CRASH}])

    def _add(self, number: int, rank: _Rank) -> None:
        with self._news:  # readers of other ranks look through all of them
            self._ranks[number] = rank

    def _hear(self, number: int) -> None:
        """In the thread of the rank's reader."""
        if (rank := self._ranks.get(number)) is not None:
            self._keep(number, rank.process.poll())

    def _keep(self, number: int, events: Sequence[Message]) -> None:
        with self._news:
            for event in events:
                rank = self._ranks[number]  # its exit comes last
                rank.is_ready = rank.is_ready or event["kind"] == "ready"
                self._due_s = min(self._due_s, time.monotonic() + self._patience_s(rank, event["kind"]))
                self._kept.append((number, event if event["kind"] != "exit" else self._ended(number, event)))
            self._news.notify_all()

    def _patience_s(self, rank: _Rank, kind: str) -> float:
        peers = [each for each in self._ranks.values() if each.group == rank.group]
        if kind in MAY_WAIT or (kind == "ready" and not all(each.is_ready for each in peers)):
            return MAY_WAIT_S
        return _TOGETHER_S if len(peers) > 1 else 0.0

    def _ended(self, number: int, event: Message) -> Message:
        """The exit of a rank, with the end of its log where the study's folder is not on this node."""
        rank = self._ranks.pop(number)
        return event if rank.log is None else {**event, "log": rank_log.taken(rank.log)}
