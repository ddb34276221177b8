"""The driver's way to the ranks of one node: its launcher is told what to do, and asked for news.

One call to each launcher is always under way that ends when there is news, and what is to be said goes out together: a
turn of the study's loop asks little of Ray, however many ranks a node has. Orders are kept until the launcher's answers
say that they came: whatever is lost on a link, and be it without an error of Ray's, is said again.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from joulelaw.cluster.failures import Cause
from joulelaw.cluster.ranks.node_ranks import Heard, Order
from joulelaw.cluster.ranks.rank import RankSpec
from joulelaw.cluster.ranks.wire import Message
from joulelaw.cluster.raycalls import Call, first_line

_LONG_POLL_S = 10.0
# After an error, so that one that comes at once is not answered by another question at once.
_AGAIN_S = 0.5
# An answer that is so late, or orders that no answer of this time knows of, were lost on their way.
_PATIENCE_S = 20.0
# An actor that went with its node: so long the driver waits for what Ray's node table says of it.
_VERDICT_S = 8.0


class NodeLink:
    """The driver's way to the ranks of one node. `on_news` is called when there is any, in a thread of Ray's."""

    def __init__(self, launcher: Any, on_news: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._launcher, self._on_news, self._clock = launcher, on_news, clock
        self._life = ""  # of the launcher; empty before it has told it
        self._launches = 0
        self._orders: list[Order] = []  # that it may not have yet; the first is number `_obeyed`, `_told` are told
        self._obeyed = self._told = 0
        self._waiting_s = float("-inf")  # since when what was told is waited for
        self._heard = 0
        self._ranks: dict[int, list[Message]] = {}  # what came of those that have not ended, by their launch's number
        self._call: Call | None = None
        self._asked_s = float("-inf")
        self._not_before_s = float("-inf")
        self._dead_s: float | None = None
        self._problem = ""

    def launch(self, spec: RankSpec, log_mark: int, inbox: list[Message]) -> int:
        """The number of the launch. The rank's events will come into `inbox`."""
        number, self._launches = self._launches, self._launches + 1
        self._ranks[number] = inbox
        self.order(Order(number, launch=spec, log_mark=log_mark))
        return number

    def order(self, order: Order) -> None:
        """To be told with the next `flush`; not to ranks that have ended."""
        if order.number in self._ranks:
            self._orders.append(order)

    def flush(self) -> None:
        """Tells the node what is to be told, and asks it for news as long as it has ranks."""
        now_s = self._clock()
        if self._call is None and self._ranks and now_s >= self._not_before_s:
            answer = self._launcher.listen.remote(self._life, self._heard, _LONG_POLL_S)
            self._call, self._asked_s = Call(answer, "a node's ranks", self._on_news), now_s
        if self._told < len(self._orders) and self._life:
            self._waiting_s = self._waiting_s if self._told else now_s
            self._launcher.obey.remote(self._life, self._obeyed + self._told, self._orders[self._told :])
            self._told = len(self._orders)

    def advance(self) -> None:
        """Takes what has come. Waits for nothing."""
        if self._call is not None and self._call.done:
            call, self._call = self._call, None
            try:
                self._take(call.raw())
            except RayActorError as error:  # out of reach for now, or gone
                self._not_before_s = self._clock() + _AGAIN_S
                if not isinstance(error, ActorUnavailableError):
                    self._end_of(error)
            except RayError:
                self._not_before_s = self._clock() + _AGAIN_S
        elif self._clock() - self._asked_s > _LONG_POLL_S + _PATIENCE_S:
            self._call = None
        self.flush()

    @property
    def problem(self) -> str:
        """Why its launcher is gone for good; empty while it is there, or may come again."""
        return self._problem

    def _take(self, heard: Heard) -> None:
        self._dead_s, self._problem = None, ""
        if heard.life != self._life:
            if self._life:
                self._begin_anew()
            self._life, self._obeyed, self._told, self._heard = heard.life, 0, 0, 0
        self._note_obeyed(heard.obeyed - self._obeyed)
        self._heard += len(heard.events)
        for number, event in heard.events:
            if number in self._ranks:
                self._ranks[number].append(event)
                if event["kind"] == "exit":
                    del self._ranks[number]

    def _note_obeyed(self, more: int) -> None:
        """What the launcher has by now needs not be told again; what it still lacks after a while has to be."""
        del self._orders[:more]
        self._obeyed, self._told = self._obeyed + more, self._told - more
        if more:
            self._waiting_s = self._clock()
        elif self._clock() - self._waiting_s > _PATIENCE_S:
            self._told = 0

    def _end_of(self, error: RayActorError) -> None:
        """A launcher starts anew unless its node has died, of which the node table says more in a moment."""
        self._dead_s = self._dead_s or self._clock()
        if self._clock() - self._dead_s >= _VERDICT_S:
            self._problem = first_line(error)
            self._lose(list(self._ranks), f"was lost with its node ({self._problem})", Cause.NODE_LOST)
            del self._orders[self._told :]

    def _begin_anew(self) -> None:
        """Another launcher: the former's ranks ended with it; what that one may not have been told is said again."""
        to_launch = {order.number for order in self._orders if order.launch is not None}
        self._orders = [order for order in self._orders if order.number in to_launch]
        ended = [number for number in self._ranks if number not in to_launch]
        self._lose(ended, "was lost with its fork server", Cause.RANK_CRASH)

    def _lose(self, numbers: Sequence[int], what: str, cause: Cause) -> None:
        for number in numbers:
            self._ranks.pop(number).append(lost(what, cause))


def lost(what: str, cause: Cause) -> Message:
    """The exit of a rank whose end nobody saw; status 255, which no rank uses."""
    return {"kind": "exit", "status": 255, "lost": what, "cause": cause}
