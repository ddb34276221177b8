"""Linux's RAPL counters (/sys/class/powercap), Intel's and AMD's: packages and DRAM, in µJ, unwrapped.

A counter wraps at `max_energy_range_uj` (minutes at full load); it is unwrapped here, so that readings only rise.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from joulelaw.cluster.power.meter import Reading, Surrounding

SYS = Path("/sys")
# A package of several dies has a zone a die; the same zones come once more under the older MMIO interface.
PACKAGE = re.compile(r"package-(\d+)(-die-\d+)?")
OLDER_INTERFACE = "intel-rapl-mmio"
TICK_S = 1e-3  # "updated every ~1 ms" (Intel SDM, volume 3, 16.10)

# A fall of the counter is a wrap where that means a power a package can draw, and a reset (suspend) otherwise.
MAX_PACKAGE_W = 5000.0
SLACK_J = 1.0  # for readings so close together that the counter's own update interval, 1 ms, counts


@dataclass
class Zone:
    """One counter and what it has counted since it was opened, or since it was reset."""

    path: Path
    range_uj: int
    last_uj: int
    last_ns: int
    counted_uj: int = 0

    def advance(self, now_ns: int) -> int:
        now_uj = int(self.path.read_text())
        # The range is the largest value shown, so a wrap passes range + 1 values.
        used_uj = (now_uj - self.last_uj) % (self.range_uj + 1)
        possible_uj = 1e6 * SLACK_J + MAX_PACKAGE_W * (now_ns - self.last_ns) / 1e3
        is_reset = now_uj < self.last_uj and used_uj > possible_uj
        self.counted_uj = 0 if is_reset else self.counted_uj + used_uj  # the fall to 0 tells the reader of a reset
        self.last_uj, self.last_ns = now_uj, now_ns
        return self.counted_uj


def open_zone(folder: Path) -> Zone:
    """Raises OSError or ValueError where it cannot be read, PermissionError where it may not be."""
    counter = folder / "energy_uj"
    range_uj = int((folder / "max_energy_range_uj").read_text())
    return Zone(counter, range_uj, int(counter.read_text()), time.monotonic_ns())


def package_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Each zone that is a package or a die of one, by the package's domain."""
    for folder in _folders(root):
        if package := _package(folder):
            yield f"package-{package}", folder


def dram_folders(root: Path) -> Iterator[tuple[str, Path]]:
    """Each DRAM zone, by the domain of its package's memory; it lies outside the package's own counter."""
    for folder in _folders(root):
        package = _package(folder.parent / folder.name.rpartition(":")[0])
        if package and _name(folder) == "dram":
            yield f"dram-{package}", folder


def _folders(root: Path) -> list[Path]:
    folders = sorted((root / "class/powercap").glob("*rapl*:*"))
    return [each for each in folders if not each.name.startswith(OLDER_INTERFACE) and (each / "energy_uj").exists()]


def _name(folder: Path) -> str:
    try:
        return (folder / "name").read_text().strip()
    except OSError:
        return ""


def _package(folder: Path) -> str:
    """The number of the package whose zone this is; "" for cores, the whole platform and what else there is."""
    match = PACKAGE.fullmatch(_name(folder))
    return match[1] if match else ""


def read_zones(domain: str, zones: list[Zone]) -> Reading:
    begin_ns = time.monotonic_ns()
    try:
        counter_j = sum(zone.advance(begin_ns) for zone in zones) / 1e6
    except (OSError, ValueError) as error:
        return Reading(domain, time.monotonic_ns(), error=f"energy counter: {error}")
    return Reading(domain, (begin_ns + time.monotonic_ns()) // 2, energy_counter_j=counter_j)


def describe_zones(zones: list[Zone]) -> str:
    return "energy: " + " + ".join(str(zone.path) for zone in zones)


class Host:
    """Packages and DRAM read beside a meter of something else."""

    def __init__(self, zones: Mapping[str, list[Zone]]) -> None:
        self.kinds: dict[str, Surrounding] = {d: "dram" if d.startswith("dram") else "cpu" for d in zones}
        self.description = {domain: describe_zones(parts) for domain, parts in zones.items()}
        self._zones = zones

    def read(self) -> list[Reading]:
        return [read_zones(domain, zones) for domain, zones in self._zones.items()]


def open_host(root: Path | None = None, without: frozenset[str] = frozenset()) -> Host:
    """All packages and DRAM that can be read here, less the domains `without`; none is no mistake."""
    zones: dict[str, list[Zone]] = {}
    unreadable = set(without)
    for domain, folder in [*package_folders(root or SYS), *dram_folders(root or SYS)]:
        try:
            zones.setdefault(domain, []).append(open_zone(folder))
        except (OSError, ValueError):
            unreadable.add(domain)  # a package without one of its dies would be less than it is
    return Host({domain: parts for domain, parts in zones.items() if domain not in unreadable})
