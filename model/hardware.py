"""The device catalogue: peaks, bandwidth, memory, power limit and link of each device, by name.

The figures live in `hardware.toml`, each with its source; a user's own or measured devices are further files of
the same form. A name that is not there raises and names the close ones: no device ever stands in for another.
"""

import datetime
import difflib
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from joulelaw import InputError

SHIPPED = Path(__file__).with_name("hardware.toml")
KINDS = ("cuda", "cpu")
OPTIONAL_TEXTS = ("architecture", "compute_capability", "note")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16", "fp8")
# How a logical CPU device is named, as in "AMD EPYC (1 core)"; no GPU is.
CPU_NAME = re.compile(r"\(\d+ cores?\)$")
# How NVML names a part of a GPU, as in "NVIDIA A100-SXM4-40GB MIG 1g.5gb".
MIG = re.compile(r"\bMIG\b")


class UnknownDevice(InputError):  # noqa: N818 (its name says what is wrong)
    """A device name that is in no catalogue file.

    >>> print(UnknownDevice("unknown device 'NVIDIA A100'", remedy="did you mean 'NVIDIA A100-SXM4-40GB'?"))
    unknown device 'NVIDIA A100'; did you mean 'NVIDIA A100-SXM4-40GB'?
    """


class TextFile(Protocol):
    """A file that can be read and named in messages: a path, wherever it leads."""

    def read_bytes(self) -> bytes: ...


@dataclass(frozen=True)
class DeviceSpec:
    """One device model as its data sheet, or a measurement, has it."""

    name: str
    """As NVML names it, or the CPU's name and cores of a logical device."""
    peak_flop_per_s: Mapping[str, float]
    """Dense peak per supported precision, accumulating in FP32."""
    bandwidth_bytes_per_s: float
    memory_bytes: int
    link: str
    """Kind of link to the other devices of a node."""
    link_bytes_per_s: float
    """One direction, per device."""
    source: str
    date: datetime.date
    power_limit_w: float | None = None
    """Default enforced limit; None where it is unknown, as for a logical CPU device."""
    aliases: tuple[str, ...] = ()
    architecture: str = ""
    compute_capability: str = ""
    checked: bool = False
    """A second source agrees."""
    note: str = ""
    kind: str = "cuda"
    """Or "cpu": a logical device of processor cores. A file's entry that does not say is taken by its name."""

    def peak(self, precision: str) -> float:
        """Peak FLOP/s in a precision.

        Raises:
            InputError: the hardware does not support it (bf16 on a T4), or there is no such precision.
        """
        if precision not in self.peak_flop_per_s:
            remedy = f"one of {', '.join(self.peak_flop_per_s)}"
            raise InputError(f"{self.name} does not support {precision!r}", where="precision", remedy=remedy)
        return self.peak_flop_per_s[precision]


@dataclass(frozen=True)
class Catalogue:
    """Every known device, by name."""

    devices: Mapping[str, DeviceSpec]

    @classmethod
    def load(cls, extra: Sequence[TextFile] = ()) -> "Catalogue":
        """The shipped catalogue and further files; a later entry replaces the device that its name refers to.

        Raises:
            InputError: a file that cannot be read, an unknown or missing key, a bad value, a name given twice.
        """
        devices: dict[str, DeviceSpec] = {}
        for path in (SHIPPED, *extra):
            added = read_devices(path)
            known = _index(devices.values())
            for spec in added:
                if spec.name.casefold() in known:
                    devices.pop(known[spec.name.casefold()].name, None)
            devices.update({spec.name: spec for spec in added})
            _index(devices.values(), where=str(path))
        return cls(devices)

    def names(self) -> tuple[str, ...]:
        """Names of all devices, without their aliases."""
        return tuple(self.devices)

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """The catalogue's own name for each name or alias.

        Raises:
            UnknownDevice: as `get`.
        """
        return {name: self.get(str(name)).name for name in names}

    def get(self, name: str) -> DeviceSpec:
        """The device of this name or alias; capital and small letters are the same, and nothing else is.

        Raises:
            UnknownDevice: there is none; the message names the close ones and how to add one.
        """
        found = self._index.get(name.casefold())
        if found is not None:
            return found
        if MIG.search(name):
            meant = "a MIG instance has a part of its GPU's peaks and no power reading of its own: "
        else:
            close = _closest(name, self._index)
            meant = f"{'leave out the spaces around it; ' if name != name.strip() else ''}"
            meant += f"close ones are {', '.join(close)}; or " if close else ""
        remedy = f"{meant}add it in a file of your own (--devices), which `joulelaw devices --draft` begins"
        raise UnknownDevice(f"unknown device {name!r}", where="gpu_model", remedy=remedy)

    @cached_property
    def _index(self) -> dict[str, DeviceSpec]:
        return _index(self.devices.values())


def to_toml(spec: DeviceSpec) -> str:
    """A catalogue entry for this device, to be written to a file that `Catalogue.load` takes."""
    lines = ["[[device]]"]
    for field in fields(spec):
        value = getattr(spec, field.name)
        if value is not None and (value != field.default or field.name == "kind"):
            lines.append(f"{field.name} = {_literal(value)}")
    return "\n".join(lines) + "\n"


def _index(specs: Any, where: str = "") -> dict[str, DeviceSpec]:
    """Every name and alias, with small letters."""
    index: dict[str, DeviceSpec] = {}
    for spec in specs:
        for name in (spec.name, *spec.aliases):
            if index.setdefault(name.casefold(), spec) is not spec:
                raise InputError(f"the name {name!r} is given twice", where=where, remedy="keep one of the entries")
    return index


def _closest(name: str, index: Mapping[str, DeviceSpec]) -> list[str]:
    """At most four device names that the user may have meant: those that contain it, then those spelt alike."""
    wanted = name.strip().casefold()
    folded = {candidate: spec.name for candidate, spec in index.items()}
    containing = [known for candidate, known in folded.items() if wanted in candidate]
    alike = [folded[match] for match in difflib.get_close_matches(wanted, folded, n=4, cutoff=0.5)]
    return list(dict.fromkeys([*containing, *alike]))[:4]


def read_devices(path: TextFile) -> list[DeviceSpec]:
    """The entries of one file. Raises InputError as `Catalogue.load` does."""
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"cannot read the device file: {error.strerror}", where=str(path)) from error
    except ValueError as error:  # bad TOML, or not UTF-8
        raise InputError(f"not a TOML file: {error}", where=str(path)) from error
    entries = content.pop("device", None)
    if content or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = f"unknown key {next(iter(content))!r}" if content else "no list of devices"
        raise InputError(found, where=str(path), remedy="every device is a [[device]] table")
    specs = [_spec(entry, f"{path} device[{number}]") for number, entry in enumerate(entries)]
    _index(specs, where=str(path))
    return specs


def _spec(entry: dict[str, Any], where: str) -> DeviceSpec:
    kinds = {field.name: field for field in fields(DeviceSpec)}
    if isinstance(entry.get("name"), str):
        where = f"{where} ({entry['name']})"
    for key in entry:
        if key not in kinds:
            close = difflib.get_close_matches(key, kinds, n=1)
            remedy = f"did you mean {close[0]!r}?" if close else f"one of {', '.join(kinds)}"
            raise InputError(f"unknown key {key!r}", where=where, remedy=remedy)
    required = list(kinds)[: list(kinds).index("power_limit_w")]
    missing = [key for key in required if key not in entry]
    if missing:
        raise InputError(f"missing key {missing[0]!r}", where=where)
    values = {key: _value(key, value, f"{where}.{key}") for key, value in entry.items()}
    return DeviceSpec(**{"kind": "cpu" if CPU_NAME.search(values["name"]) else "cuda", **values})


def _value(key: str, value: Any, where: str) -> Any:
    """Checked and converted by what the key's name says it is."""
    if key == "peak_flop_per_s":
        return _peaks(value, where)
    if key == "memory_bytes":
        return int(_positive(value, where))
    if key.endswith(("_per_s", "_w")):
        return _positive(value, where)
    if key == "kind" and value not in KINDS:
        raise InputError(f"{value!r} is not a kind of device", where=where, remedy=f"one of {', '.join(KINDS)}")
    if key == "aliases":
        if not isinstance(value, list) or not all(isinstance(alias, str) and alias for alias in value):
            raise InputError(f"{value!r} is not a list of names", where=where)
        return tuple(value)
    kind = {"date": datetime.date, "checked": bool}.get(key, str)
    if type(value) is not kind or (value == "" and key not in OPTIONAL_TEXTS):
        wanted = _WANTED.get(key, "a text")
        raise InputError(f"{value!r} is not {wanted}", where=where)
    return value


_WANTED = {
    "date": "a date, such as 2026-11-21",
    "checked": "true or false",
    "source": "a text that says where the figures come from",
}


def _peaks(value: Any, where: str) -> dict[str, float]:
    if not isinstance(value, dict) or not value:
        raise InputError(f"{value!r} is not a table of precisions", where=where, remedy="{ fp32 = 19.5e12, ... }")
    for precision in value:
        if precision not in PRECISIONS:
            remedy = f"one of {', '.join(PRECISIONS)}"
            raise InputError(f"unknown precision {precision!r}", where=where, remedy=remedy)
    return {precision: _positive(peak, f"{where}.{precision}") for precision, peak in value.items()}


def _positive(value: Any, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value <= 0:
        raise InputError(f"{value!r} is not a positive number", where=where, remedy="SI units, such as 900e9")
    return float(value)


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_literal(item)}" for key, item in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float) and value >= 1e6:
        return str(np.format_float_scientific(value, trim="-"))  # all its digits
    return repr(value)
