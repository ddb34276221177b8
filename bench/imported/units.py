"""Columns in another unit, or under another name, than the measurement table's: recognised and told, never converted.

A factor that a program guessed would be a wrong number that looks right; the table's owner knows what was written.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

# Words of a column's name that tell which quantity it is of.
_QUANTITIES = {
    "energy_j": {"energy", "joule", "joules", "kwh", "wh", "kj", "mj"},
    "duration_s": {"duration", "time", "runtime", "elapsed", "seconds", "sec", "walltime"},
}
# Columns that may be left out: a name that begins like theirs means them.
_OPTIONAL = {
    "energy_net": "energy_net_j",
    "energy_stderr": "energy_stderr_j",
    "power_limit": "power_limit_w",
    "link_b": "link_bytes_per_s",
    "link_g": "link_bytes_per_s",
    "network_b": "network_bytes_per_s",
    "network_g": "network_bytes_per_s",
}
_FACTORS = {
    "energy_j": {"kwh": "3.6e6", "wh": "3600", "kj": "1e3", "mj": "1e6 (MJ) or 1e-3 (mJ)", "mwh": "3.6e9 (MWh)"},
    "duration_s": {
        "ms": "1e-3",
        "us": "1e-6",
        "ns": "1e-9",
        "min": "60",
        "minutes": "60",
        "h": "3600",
        "hours": "3600",
    },
    "power_limit_w": {"kw": "1e3", "mw": "1e-3"},
}
_SAME = {
    "energy_j": {"joule", "joules", "j"},
    "duration_s": {"s", "sec", "second", "seconds"},
    "power_limit_w": {"watt", "watts", "w"},
}


def unit_problems(columns: Iterable[str], needed: Iterable[str], optional: Iterable[str]) -> list[str]:
    """What is to be said of missing columns, and of optional ones that are there in another unit."""
    there = [str(name) for name in columns]
    known = {*needed, *optional}
    unknown = [name for name in there if name not in known]
    problems = [f"column {name} is missing{_hint(name, unknown)}" for name in needed if name not in there]
    for name in unknown:
        wanted = next((column for begin, column in _OPTIONAL.items() if name.casefold().startswith(begin)), "")
        if wanted and wanted not in there:
            problems.append(f"column {name!r} is not understood: {_converted(wanted, name)}")
    return problems


def _hint(wanted: str, unknown: list[str]) -> str:
    """What among the other columns may be meant."""
    for name in unknown:
        if name.strip() == wanted or name.strip().casefold() == wanted:
            return f" (there is {name!r}: write it {wanted!r})"
    words = _QUANTITIES.get(wanted)
    if words:
        meant = [name for name in unknown if words & set(_words(name))]
        exact = [name for name in meant if _unit(wanted, name)] or meant
        return f" (there is {exact[0]!r}: {_converted(wanted, exact[0])})" if exact else ""
    close = difflib.get_close_matches(wanted, unknown, n=1, cutoff=0.6)
    return f" (there is {close[0]!r}: if that is it, rename it)" if close else ""


def _converted(wanted: str, name: str) -> str:
    factors: Mapping[str, str] = _FACTORS.get(wanted, {})
    unit = _unit(wanted, name)
    if unit in factors:
        return f"give it times {factors[unit]} as {wanted}"
    if unit:
        return f"rename it {wanted}"
    plain = {"j": "joules", "w": "watts", "s": "bytes per second, one direction"}[wanted[-1]]
    return f"its name has no unit known here; give {'seconds' if wanted == 'duration_s' else plain} as {wanted}"


def _unit(wanted: str, name: str) -> str:
    """The last word of a name that is a unit of the quantity; "" where none is."""
    units = {*_FACTORS.get(wanted, {}), *_SAME.get(wanted, ())}
    return next((word for word in reversed(_words(name)) if word in units), "")


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+", name.casefold())
