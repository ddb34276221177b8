"""NVIDIA's power sensors: what is stated of them by the card's name, and how their numbers are seen to move.

Averaging times are those of Yang, Adamek and Armour, "Part-time power measurements" (arXiv 2312.02741), who watched
more than 70 cards beside an inline meter; of a 1 s average NVML's own header says so.
"""

import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

# Relative error of a card's sensor, the same in all its readings. NVIDIA states +-5 %, and for Fermi and Kepler only
# (NVML's text on nvmlDeviceGetPowerUsage); the paper above found -8 % to +13 % between cards. The wider one is taken,
# as it was measured: the counter sums the same sensor. One bound for every class, none for cards of no known class.
GAIN_BOUND = 0.13
AVERAGE_S = 1.0  # NVML_FI_DEV_POWER_AVERAGE: "GPU power averaged over 1 sec interval"
# The first that is found in a card's name. GA100's other boards before the rest of Ampere.
CLASSES: Mapping[str, str] = {
    "a100": r"\bA(100X?|800|30X?)\b",
    "v100": r"\bG?V100|TITAN V\b",
    "h100": r"\bG?H(100|200|800|20)\b",
    "turing": r"RTX 20[5-9]0|GTX 16\d\d|Quadro RTX|TITAN RTX|\bT4\b",
    "ampere": r"RTX 30[5-9]0|RTX A\d|\bA(2|10|16|40)G?\b",
    "ada": r"RTX 40[5-9]0|Ada\b|\bL(4|20|40S?)\b",
    "blackwell": r"\bG?B[123]00\b|RTX 50[5-9]0|Blackwell",
}
AVERAGED_S: Mapping[str, float] = {"a100": 0.025, "v100": 0.010, "h100": 0.025, "turing": 0.100}
AVERAGED_BY_THE_OLDER_CALL = ("h100", "ampere", "ada", "blackwell")  # "Ampere (except GA100) or newer"

POLL_NS = 1_000_000
ENOUGH_CHANGES = 7
# Moved at nearly every look: faster than we look, or always.
ALWAYS_SHARE = 0.4


def sensor_class(name: str) -> str:
    """The class of sensor that cards of this name have; "" for one that nobody has told of.

    >>> sensor_class("NVIDIA A100-SXM4-40GB"), sensor_class("Tesla V100-SXM2-16GB"), sensor_class("NVIDIA H200")
    ('a100', 'v100', 'h100')
    >>> sensor_class("NVIDIA A10G"), sensor_class("NVIDIA GeForce RTX 2080 Ti"), sensor_class("Tesla K80")
    ('ampere', 'turing', '')
    """
    return next((known for known, pattern in CLASSES.items() if re.search(pattern, name)), "")


def averaged_s(power_source: str, of_class: str) -> float | None:
    """Over how long this call or field averages on a card of this class; None where nobody has told."""
    if power_source == "NVML_FI_DEV_POWER_AVERAGE":
        return AVERAGE_S
    if power_source == "nvmlDeviceGetPowerUsage" and of_class in AVERAGED_BY_THE_OLDER_CALL:
        return AVERAGE_S
    return AVERAGED_S.get(of_class) if power_source else None


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
