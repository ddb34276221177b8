"""A made-up /sys with RAPL counters and cores."""

from pathlib import Path


class Machine:
    """A /sys with RAPL zones and cores."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def zone(self, folder: str, name: str, energy_uj: int, range_uj: int = 1_000_000) -> None:
        place = self.root / "class/powercap" / folder
        place.mkdir(parents=True, exist_ok=True)
        (place / "name").write_text(name + "\n")
        (place / "max_energy_range_uj").write_text(f"{range_uj}\n")
        (place / "energy_uj").write_text(f"{energy_uj}\n")

    def cores(self, packages: list[int]) -> None:
        for core, package in enumerate(packages):
            place = self.root / f"devices/system/cpu/cpu{core}/topology"
            place.mkdir(parents=True)
            (place / "physical_package_id").write_text(f"{package}\n")
