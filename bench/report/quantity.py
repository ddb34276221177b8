"""Numbers for people: three significant digits, a prefix that fits, a dash for what is missing."""

import math

MISSING = "–"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"),
             (1e-9, "n"), (1e-12, "p"), (1e-15, "f"))  # fmt: skip
# Nobody says kiloseconds.
_LARGEST = {"s": 1.0}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None, digits: int = 3) -> str:
    """A plain number to this many significant digits.

    >>> [number(x) for x in (0.98765, 12345.6, 1.5e-7, -0.04, 3, None)]
    ['0.988', '12,300', '1.50 × 10⁻⁷', '−0.0400', '3.00', '–']
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = math.floor(math.log10(abs(rounded)))
    if not -4 <= exponent < 7:
        mantissa = f"{rounded / 10.0**exponent:.{digits - 1}f}"
        return f"{mantissa} × 10{str(exponent).translate(_SUPERSCRIPT)}".replace("-", "−", 1)
    return f"{rounded:,.{max(digits - 1 - exponent, 0)}f}".replace("-", "−")


def quantity(value: float | None, unit: str, digits: int = 3) -> str:
    """A number with its unit, prefixed so that it lies between 1 and 1000 where a prefix helps.

    >>> [quantity(*x) for x in ((0.0123, "s"), (4321.0, "s"), (1234.5, "J"), (2.5e12, "FLOP/s"), (3e-12, "J/FLOP"))]
    ['12.3 ms', '4,320 s', '1.23 kJ', '2.50 TFLOP/s', '3.00 pJ/FLOP']
    >>> quantity(0.31, "1")
    '0.310'
    """
    if unit in ("1", ""):
        return number(value, digits)
    if value is None or not math.isfinite(value):
        return MISSING
    rounded = float(f"{value:.{digits - 1}e}")
    for scale, prefix in _PREFIXES:
        if scale <= _LARGEST.get(unit, math.inf) and abs(rounded) >= scale:
            return f"{number(value / scale, digits)} {prefix}{unit}"
    return f"{number(value, digits)} {unit}"


def tick(value: float, unit: str) -> str:
    """A short label for an axis.

    >>> [tick(0.02, "s"), tick(5000.0, "J"), tick(0.5, "s")]
    ['20 ms', '5 kJ', '0.5 s']
    """
    if unit == "s" and 0.1 <= value < 1:
        return f"{value:g} s"
    text, _, rest = quantity(value, unit).partition(" ")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return f"{text} {rest}".strip()


def percent(ratio: float | None, *, signed: bool = False) -> str:
    """A ratio as per cent: two digits that count below 10 %, whole numbers above.

    >>> [percent(0.0823), percent(0.2345), percent(-0.051, signed=True), percent(0.12, signed=True)]
    ['8.2 %', '23 %', '−5.1 %', '+12 %']
    """
    if ratio is None or not math.isfinite(ratio):
        return MISSING
    value = 100 * ratio
    if abs(value) < 0.05:
        return "0.0 %"
    text = f"{value:{'+' if signed else ''}.{1 if abs(value) < 9.95 else 0}f} %"
    return text.replace("-", "−")


def interval(low: float | None, high: float | None, unit: str) -> str:
    """Both ends of an interval, or a dash.

    >>> interval(0.001, 0.002, "s")
    '1.00 ms to 2.00 ms'
    """
    ends = (quantity(low, unit), quantity(high, unit))
    return MISSING if MISSING in ends else " to ".join(ends)
