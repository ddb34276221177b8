"""The unit that an energy, a time or a mass is best read in: the same in every command that tells one."""

UNITS = {
    "time": {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0},
    "energy": {"J": 1.0, "Wh": 3.6e3, "kWh": 3.6e6, "MWh": 3.6e9},
    "co2e": {"g": 1e-3, "kg": 1.0, "t": 1e3},
}
"""By quantity, the units, the largest last, each in s, J or kg."""


def unit_of(name: str, value: float) -> tuple[str, float]:
    """The largest unit of which there are two at least, and what it is; of anything else than UNITS none, and 1.

    >>> unit_of("energy", 9e6), unit_of("cost", 5.0)
    (('kWh', 3600000.0), ('', 1.0))
    """
    units = list(UNITS.get(name, {"": 1.0}).items())
    return next((each for each in reversed(units) if value >= 2 * each[1]), units[0])
