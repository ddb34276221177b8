"""The page: figures, tables and facts put into one HTML file that needs nothing beside itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from joulelaw import __version__
from joulelaw.bench.report import facts, tables
from joulelaw.bench.report.drawing import Drawing
from joulelaw.bench.report.palette import ROLES, in_order, role_of
from joulelaw.bench.report.quantity import percent, quantity
from joulelaw.bench.report.study import ESTIMATED, Study
from joulelaw.bench.report.tables import Table
from joulelaw.bench.report.trial_figure import describe

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """One target: its figures, scores and coefficients."""

    target: str
    estimated: bool
    figures: tuple[Drawing, ...]
    scores: Table | None
    coefficients: Table | None


def render(study: Study, sections: Sequence[Section], others: Sequence[Drawing]) -> str:
    """The whole page as text. Everything that comes from data is escaped."""
    loader = FileSystemLoader(_HERE)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    strategies = in_order(set(study.trials["strategy"]))
    return environment.get_template("page.html.j2").render(
        study=study,
        estimated=ESTIMATED,
        facts=facts,
        headline=facts.headline(study),
        sections=sections,
        others=others,
        validity=tables.validity(study),
        trials=tables.trial_table(study),
        strategies=[(name, role_of(name)) for name in strategies],
        row_strategies=list(study.trials["strategy"]),
        roles=ROLES,
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup((_HERE / "page.js").read_text(encoding="utf-8")),
        tips=_script_json([tip(row, study.estimated) for row in study.trials.to_dict("records")]),
        inline=lambda drawing: Markup(drawing.inline()),
        version=__version__,
    )


def tip(row: dict[Any, Any], estimated: bool) -> list[str]:
    """What a pointer on a trial's mark shows, line by line."""
    split = "held out" if row["split"] == "hold_out" else "fitted"
    lines = [f"{row['trial_id']}, {split}", describe(row)]
    for what, name, unit in (("duration", "duration_s", "s"), ("energy", "energy_j", "J")):
        error = tables.off(row, name)
        seen = "estimated" if estimated and what == "energy" else "measured"
        forecast = (
            ""
            if error is None
            else (f", forecast {quantity(row[f'predicted_{name}'], unit)} ({percent(error, signed=True)})")
        )
        lines.append(f"{what} {seen} {quantity(row[name], unit)}{forecast}")
    return lines


def _script_json(values: object) -> Markup:
    """JSON that cannot end the script element that it is in."""
    return Markup(json.dumps(values, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"))
