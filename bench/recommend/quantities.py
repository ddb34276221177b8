"""What people type for times, energies, masses, ranges and lists, in SI units."""

import math
import re
from collections.abc import Mapping, Sequence

from joulelaw import InputError

SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
JOULES = {"J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "Wh": 3.6e3, "kWh": 3.6e6, "MWh": 3.6e9}
KILOGRAMS = {"g": 1e-3, "kg": 1.0, "t": 1e3}
MULTIPLES = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_NUMBER = r"[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?"


def quantity(text: str, units: Mapping[str, float], where: str) -> float:
    """A positive number with its unit, such as "2h" or "1.5 kWh"; several add up ("1h 30min").

    Raises:
        InputError: no number, no unit, or another than those.
    """
    parts = re.findall(rf"({_NUMBER})\s*([A-Za-z]+)", text)
    read = "".join(number + unit for number, unit in parts)
    if not parts or read != re.sub(r"\s+", "", text) or any(unit not in units for _, unit in parts):
        remedy = f"a number with a unit of {', '.join(units)}, such as 2{list(units)[-2]}"
        raise InputError(f"{text!r} cannot be read", where=where, remedy=remedy)
    return _positive(sum(float(number) * units[unit] for number, unit in parts), text, where)


def span(text: str, where: str) -> tuple[float, float]:
    """The two ends of "50M..150M" or "1e17..2e18". Raises InputError where they cannot be."""
    found = re.fullmatch(rf"\s*({_NUMBER})\s*([kMBGT]?)\s*\.\.\s*({_NUMBER})\s*([kMBGT]?)\s*", text)
    if found is None:
        raise InputError(f"{text!r} is no range", where=where, remedy="write its ends as in 50e6..150e6 or 50M..150M")
    first, last = (_positive(float(found[k]) * MULTIPLES[found[k + 1]], text, where) for k in (1, 3))
    if first > last:
        raise InputError(f"{text!r} ends before it begins", where=where, remedy="write the smaller end first")
    return first, last


def words(text: str, where: str, known: Sequence[str] = ()) -> list[str]:
    """A list by comma. Raises InputError where it is empty, has one twice or one that is not known."""
    found = [each.strip() for each in text.split(",")]
    if not all(found):
        raise InputError(f"{text!r} has an empty place", where=where, remedy="write values with commas between them")
    for each in found:
        if found.count(each) > 1:
            raise InputError(f"{each!r} is there twice", where=where, remedy="write each once")
        if known and each not in known:
            raise InputError(f"unknown value {each!r}", where=where, remedy=f"some of {', '.join(known)}")
    return found


def whole_numbers(text: str, where: str) -> list[int]:
    """A list by comma of whole numbers from 1 on. Raises InputError for anything else."""
    found = words(text, where)
    for each in found:
        if not re.fullmatch(r"[0-9]{1,9}", each) or int(each) < 1:
            remedy = "whole numbers from 1 on with commas between them"
            raise InputError(f"{each!r} is no count", where=where, remedy=remedy)
    return [int(each) for each in found]


def _positive(value: float, text: str, where: str) -> float:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{text!r} is out of range", where=where, remedy="more than 0")
    return value
