"""How often a number of a meter moves, seen by looking at it again and again."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

POLL_NS = 1_000_000
ENOUGH_CHANGES = 7
# Moved at nearly every look: faster than we look, or always.
ALWAYS_SHARE = 0.4


@dataclass
class Moves:
    """When a number that is looked at again and again was seen to move."""

    look: Callable[[], float]
    looks: int = 0
    moved_ns: list[int] = field(default_factory=list)
    failed: bool = False
    _last: tuple[int, float] | None = None

    def take(self) -> None:
        """One look. What it raises ends the looking: nothing is known then."""
        if self.failed:
            return
        try:
            value, now_ns = self.look(), time.monotonic_ns()
        except Exception:  # a vendor's library: the readings will tell
            self.failed = True
            return
        self.looks += 1
        if self._last is not None and value != self._last[1]:
            self.moved_ns.append((self._last[0] + now_ns) // 2)
        self._last = (now_ns, value)

    @property
    def is_done(self) -> bool:
        return self.failed or len(self.moved_ns) >= ENOUGH_CHANGES

    def every_s(self) -> float | None:
        """How often it moves: 0 at nearly every look, None where that was not seen.

        Where the machine kept us from looking, several moves pass for one: gaps are counted in whole multiples.
        """
        if self.failed or len(self.moved_ns) < 2:
            return None
        if len(self.moved_ns) > ALWAYS_SHARE * self.looks:
            return 0.0
        gaps = [after - before for before, after in pairwise(self.moved_ns)]
        usual = statistics.median_low(gaps)
        moves = sum(max(1, round(gap / usual)) for gap in gaps)
        return sum(gaps) / moves / 1e9


def watch_moves(watched: Sequence[Moves], seconds: float) -> None:
    """Looks at all of them about every millisecond, until enough is seen or the time is over."""
    begin_ns = due_ns = time.monotonic_ns()
    while due_ns - begin_ns < seconds * 1e9 and not all(each.is_done for each in watched):
        for each in watched:
            each.take()
        now_ns = time.monotonic_ns()
        due_ns = max(due_ns + POLL_NS, now_ns)
        time.sleep((due_ns - now_ns) / 1e9)
