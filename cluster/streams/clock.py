"""A node's clock against the driver's, compared now and again without waiting for anyone."""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from joulelaw.cluster.streams.metering import ClockOffset

# A round trip between processes takes half a millisecond; now and then one takes ten times as long.
ASKS = 7
# Quartz drifts by some 20 us a second: 12 ms until the clocks are compared again.
AGAIN_S = 600.0
# An answer so late was lost with its link. Should it come all the same, its round trip is long and counts for little.
PATIENCE_S = 10.0


@dataclass
class _Ask:
    asked_ns: int
    heard_ns: int | None = None


class ClockComparison:
    """`offset` is the best of the latest comparison, None before the first is through; move it on with `advance`.

    `ask` sends a question whose answer is the node's clock; the moment of the answer is noted as it comes, in whatever
    thread, so that it does not matter when anyone looks.
    """

    def __init__(
        self, ask: Callable[[], "Future[int]"], own_ns: Callable[[], int] = time.monotonic_ns, asks: int = ASKS
    ) -> None:
        self.offset: ClockOffset | None = None
        self._ask, self._own_ns, self._asks = ask, own_ns, asks
        self._begin_ns = own_ns()
        self._found: list[ClockOffset] = []
        self._pending: tuple[_Ask, Future[int]] | None = None

    def advance(self) -> None:
        """Takes an answer that has come, and asks again as long as there is more to ask."""
        now_ns = self._own_ns()
        if self._pending is not None:
            ask, answer = self._pending
            if ask.heard_ns is None and now_ns - ask.asked_ns < 1e9 * PATIENCE_S:
                return
            self._pending = None
            if ask.heard_ns is not None and not answer.exception():
                self._found.append(offset_of(ask.asked_ns, answer.result(), ask.heard_ns))
        if len(self._found) >= self._asks:
            self.offset = min(self._found, key=lambda each: each.error_ns)
            self._found, self._begin_ns = [], now_ns + round(1e9 * AGAIN_S)
        if now_ns >= self._begin_ns:
            self._send()

    def _send(self) -> None:
        ask = _Ask(self._own_ns())
        answer = self._ask()
        self._pending = ask, answer

        def note(_: "Future[int]") -> None:
            ask.heard_ns = self._own_ns()

        answer.add_done_callback(note)


def offset_of(asked_ns: int, node_ns: int, heard_ns: int) -> ClockOffset:
    """From one round trip (Cristian 1989): the node's clock was read somewhere within, so the middle is off by at most
    half of it.

    >>> offset_of(1000, 5300, 1400)
    ClockOffset(offset_ns=4100, error_ns=200)
    """
    return ClockOffset(node_ns - (asked_ns + heard_ns) // 2, (heard_ns - asked_ns + 1) // 2)
