"""What the numbers of a law file must be: finite, of a sign and shape that its law can have.

A file made by another program has a right checksum and may still hold what would forecast nan, or intervals that are
too narrow, without a word.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from joulelaw.model import history
from joulelaw.model.intervals import POWER, TARGETS
from joulelaw.model.laws.base import Law
from joulelaw.model.laws.roofline_power import SCALE
from joulelaw.model.ranges import NAMED_AXES, NUMBER_AXES, TEXT_AXES

# What rounding may leave: against the two variances of an entry, and against the largest, of which a calibration
# leaves differences.
ASYMMETRY, ROUNDING = 1e-6, 1e-9


def faults(law: Law, content: dict[str, Any]) -> Iterator[str]:
    """What is wrong, in words that follow "its". TypeError, KeyError or ValueError where a part is no table at all."""
    for name, value in content["parameters"].items():
        if not _is_number(value) or (law.logarithmic and value <= 0):
            yield f"parameter {name} is {value!r}, which is no number that it can be"
    yield from _of_widths(content["widths"])
    yield from _of_covariance(law, content)
    yield from _of_ranges(content["provenance"]["ranges"])
    for each in content["coefficients"]:
        if not _is_number(each["value"]) or not all(
            each[end] is None or _is_number(each[end]) for end in ("low", "high")
        ):
            yield f"coefficient {each['name']} is {each['value']!r} ({each['low']!r} to {each['high']!r})"
    for name in ("calibrated", "notes"):
        if not isinstance(content[name], list) or not all(isinstance(each, str) for each in content[name]):
            yield f"{name} are no list of texts"
    if not isinstance(content["history"], list):
        yield "history is no list"
    for number, event in enumerate(content["history"]):
        if wrong := history.fault(event):
            yield f"history's entry {number} {wrong}"


def finite(text: str) -> float:
    """A JSON number as Python has it. ValueError where it is larger than any number that can be calculated with."""
    value = int(text) if text.removeprefix("-").isdigit() else float(text)
    if abs(value) > 1e300:
        raise ValueError(f"{text if len(text) < 20 else text[:20] + '...'} is too large a number")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _of_widths(widths: dict[str, Any]) -> Iterator[str]:
    """Half-widths of all axes or of none; null stands for one that was not found."""
    half, ratios = widths["half"], widths["ratios"]
    if half and set(half) - {"size"} != {"case", *TEXT_AXES}:
        yield f"widths are of {', '.join(half)}, not of case, {', '.join(TEXT_AXES)}"
    for axis, by_target in half.items():
        if set(by_target) - {POWER} != set(TARGETS) or by_target.keys() != half["case"].keys():
            yield f"widths of {axis} are of {', '.join(by_target)}, not of {', '.join(TARGETS)}"
        for target, value in by_target.items():
            if value is not None and not (_is_number(value) and value >= 0):
                yield f"width of {target}, {axis} is {value!r}, which is no width"
    if set(ratios) != set(half.get("case", {})) or not all(ratios.values()):
        yield f"widths by group are of {', '.join(ratios) or 'nothing'}, not of {', '.join(half.get('case', {}))}"
    for target, by_group in ratios.items():
        for group, value in by_group.items():
            if not (_is_number(value) and value > 0):
                yield f"width of {target}, {group} is {value!r} times that of all, which is no ratio"
    for name in ("aimed", "achieved"):
        if widths[name] is not None and not (_is_number(widths[name]) and 0 < widths[name] < 1):
            yield f"level {name} is {widths[name]!r}, which is no share"


def _of_covariance(law: Law, content: dict[str, Any]) -> Iterator[str]:
    """Of every parameter but watts taken from the rows; a law that is not logarithmic has none without draws."""
    varying = sum(not name.startswith(SCALE.partition("[")[0]) for name in content["parameters"])
    written = content["covariance"]
    if not written and not law.logarithmic:
        return
    if len(written) != varying or any(len(row) != varying for row in written):
        yield f"covariance is no table of {varying} x {varying} numbers, one for each pair of parameters"
        return
    if not all(_is_number(value) for row in written for value in row):
        yield "covariance has entries that are no numbers"
        return
    values = np.array(written, dtype=float)
    variances = np.diag(values)
    rounding = ROUNDING * np.abs(variances).max()
    sizes = np.sqrt(np.maximum(variances, 0.0))
    if (variances < -rounding).any():
        yield "covariance has negative variances"
    elif (np.abs(values - values.T) > ASYMMETRY * np.outer(sizes, sizes) + rounding).any():
        yield "covariance is not symmetric"


def _of_ranges(ranges: dict[str, Any]) -> Iterator[str]:
    for axis, covered in ranges.items():
        if axis in NAMED_AXES:
            right = isinstance(covered, list) and all(isinstance(each, str) for each in covered)
        else:
            right = axis in NUMBER_AXES and len(covered) == 2 and all(map(_is_number, covered))
            right = right and covered[0] <= covered[1]
        if not right:
            yield f"range of {axis} is {covered!r}, which is no range"
