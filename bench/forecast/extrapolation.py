"""On which axes a run lies outside what a law was fitted on, and how far, in words and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from joulelaw.bench.console import number
from joulelaw.model.ranges import DETAIL_AXES, NAMED_AXES, Ranges

WORDS = {
    "flop_per_micro_step": "FLOPs of a micro-step on one GPU",
    "link_bytes_per_s": "link speed (bytes/s)",
    "power_limit_share": "power limit, of the default",
}


@dataclass(frozen=True)
class Extrapolation:
    """One axis. `factor`: how many times the nearest end of what was fitted; None for names."""

    axis: str
    value: float | str | None
    fitted: tuple[float | str, ...]
    """The lowest and the highest, or the names."""
    factor: float | None
    text: str


def extrapolations(told: str, row: Mapping[str, Any], ranges: Ranges) -> list[Extrapolation]:
    """What `extrapolates` (as `ranges.in_words` writes it) says of a row; what only the law knows stays as it is."""
    return [_of(part, row, ranges) for part in told.split("; ") if part]


def _of(part: str, row: Mapping[str, Any], ranges: Ranges) -> Extrapolation:
    axis, *rest = part.split(" ")
    if axis in NAMED_AXES and not rest and axis in ranges:
        name, known = str(row.get(axis, DETAIL_AXES.get(axis, ""))), tuple(map(str, ranges[axis]))
        return Extrapolation(axis, name, known, None, f"{axis} {name}: fitted on {', '.join(known)} alone")
    if axis in ranges and len(rest) == 3:
        value, (low, high) = float(rest[0]), (float(end) for end in ranges[axis])
        end, which = (low, "smallest") if rest[1] == "<" else (high, "largest")
        factor = value / end if end else None
        far = f": {number(factor)} x the {which}" if factor is not None else ""
        text = f"{WORDS.get(axis, axis)} {_shown(value)}, fitted on {_shown(low)} to {_shown(high)}{far}"
        return Extrapolation(axis, value, (low, high), factor, text)
    return Extrapolation("", None, (), None, part)


def _shown(value: float) -> str:
    return f"{value:,g}" if value == int(value) and abs(value) < 1e6 else number(value)
