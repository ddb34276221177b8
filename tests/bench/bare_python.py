"""A Python that has all libraries of this one but some, for tests of what runs without them."""

import sys
import sysconfig
import venv
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def python_without(libraries: Collection[str], folder: Path) -> Path:
    """The interpreter of a new virtual environment, whose libraries are links to ours; joulelaw is the checkout's."""
    venv.create(folder, symlinks=True)
    here = Path(sysconfig.get_path("purelib"))
    there = folder / here.relative_to(sys.prefix)
    left_out = {"joulelaw", *libraries}
    for each in here.iterdir():
        name = each.name.split("-")[0].lstrip("_").lower()
        if name not in left_out and not name.startswith("editable"):
            (there / each.name).symlink_to(each)
    (there / "joulelaw-checkout.pth").write_text(f"{ROOT}\n")
    return folder / "bin" / "python"
