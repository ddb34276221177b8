"""A drawn figure: saved as PNG and SVG for papers, and put into the page as SVG in the page's own colours."""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
from matplotlib.figure import Figure

from joulelaw.bench.report.palette import FIGURE_STYLE, ROLES

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_VARIABLES = {light: f"var(--{role})" for role, (light, _) in ROLES.items()}
_COLOUR = re.compile("|".join(_VARIABLES))
_FONT = re.compile(r"font-family:[^;]*;?|font: *([\d.]+px)[^;]*")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


@dataclass(frozen=True)
class Marks:
    """The points of one artist (found by its gid): whose they are, and each one's trial, as its place in the table."""

    strategy: str
    trials: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A figure with a file name, a caption, what it shows in words, and what its marks stand for."""

    name: str
    figure: Figure
    caption: str
    alt: str
    marks: Mapping[str, Marks] = field(default_factory=dict)
    estimated: bool = False

    def save(self, folder: Path) -> None:
        """Write `<name>.png` and `<name>.svg`, in light colours, the same bytes for the same figure."""
        folder.mkdir(parents=True, exist_ok=True)
        with mpl.rc_context(FIGURE_STYLE):
            self.figure.savefig(folder / f"{self.name}.png", dpi=200, metadata={"Software": None})
            self.figure.savefig(folder / f"{self.name}.svg", metadata={"Date": None})

    def inline(self) -> str:
        """The SVG element for the page: colours as variables, no fonts, links or ids of its own to clash."""
        buffer = io.StringIO()
        with mpl.rc_context(FIGURE_STYLE):
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        root = ET.fromstring(buffer.getvalue())
        for parent in list(root.iter()):
            for child in list(parent):
                if child.tag in (f"{_SVG}style", f"{_SVG}metadata"):
                    parent.remove(child)
        self._tell_marks(root)
        for element in root.iter():
            self._make_local(element)
        view = root.get("viewBox", "")
        root.attrib.clear()
        root.attrib.update({"viewBox": view, "role": "img", "aria-label": self.alt, "class": "figure"})
        return ET.tostring(root, encoding="unicode", short_empty_elements=True)

    def _tell_marks(self, root: ET.Element) -> None:
        """Say of each group whose it is, and of each point which trial's."""
        for group in root.iter(f"{_SVG}g"):
            marks = self.marks.get(group.get("id", ""))
            if marks is None:
                continue
            group.set("data-strategy", marks.strategy)
            points = list(group.iter(f"{_SVG}use"))
            for point, trial in zip(points, marks.trials, strict=bool(marks.trials)):
                point.set("data-trial", str(trial))
                point.set("class", "point")

    def _make_local(self, element: ET.Element) -> None:
        element.tag = element.tag.removeprefix(_SVG)
        if element.tag == "use":
            for name in ("x", "y"):  # a hundredth of a point is finer than any screen
                element.set(name, f"{float(element.get(name, 0)):.2f}")
        if (link := element.attrib.pop(_LINK, None)) is not None:
            element.set("href", f"#{self.name}-{link[1:]}")
        if (own := element.get("id")) is not None:
            element.set("id", f"{self.name}-{own}")
        for name, value in element.attrib.items():
            local = _REFERENCE.sub(rf"url(#{self.name}-\1)", value)
            if name == "style":
                local = _FONT.sub(lambda found: f"font-size: {found[1]}" if found[1] else "", local)
                local = _COLOUR.sub(lambda found: _VARIABLES[found[0]], local)
            element.set(name, local)
