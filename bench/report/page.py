"""The page: figures as data, tables and facts put into one HTML file that needs nothing beside itself."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from joulelaw import __version__
from joulelaw.bench.report import facts, tables
from joulelaw.bench.report.charts import Bars, Chart
from joulelaw.bench.report.citation import citation, commands, fingerprints
from joulelaw.bench.report.law_words import symbol, with_numbers
from joulelaw.bench.report.names import short_device
from joulelaw.bench.report.palette import ROLES, in_order, mark, role_of
from joulelaw.bench.report.quantity import percent
from joulelaw.bench.report.study import ESTIMATED, Study
from joulelaw.bench.report.tables import Table
from joulelaw.bench.report.traces import plain_traces
from joulelaw.bench.report.trial_figure import chosen_trial

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = ("base.js", "scatter.js", "bars.js", "trace.js", "page.js")


@dataclass(frozen=True)
class Section:
    """One target: its figures and scores. `charts` that are no forecasts need no law."""

    target: str
    estimated: bool
    charts: tuple[Chart, ...]
    bars: Bars | None
    scores: Table | None

    @property
    def forecasts(self) -> bool:
        return any(chart.square for chart in self.charts)


def render(study: Study, sections: Sequence[Section], rooflines: Sequence[Chart], shipped: bool) -> str:
    """The whole page as text. Everything that comes from data is escaped.

    `shipped`: the law is the one called default.
    """
    loader = FileSystemLoader(_ASSETS)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
                              lstrip_blocks=True)  # fmt: skip
    return environment.get_template("page.html.j2").render(
        study=study,
        estimated=ESTIMATED,
        facts=facts,
        sections=sections,
        rooflines=rooflines,
        contents=_contents(study, sections, rooflines),
        validity=tables.validity(study),
        trials=tables.trial_table(study),
        coefficients=tables.coefficients(study),
        history=tables.history(study),
        strategies=[(name, role_of(name)) for name in in_order(set(study.trials["strategy"]))],
        devices=[(name, short_device(name)) for name in sorted(set(study.trials["gpu_model"]))],
        roles=ROLES,
        css=Markup(_asset("page.css")),
        scripts=[Markup(_asset(name)) for name in _SCRIPTS],
        data=_script_json(_data(study, sections, rooflines)),
        has_trace=chosen_trial(study) is not None,
        with_numbers=with_numbers,
        symbol=symbol,
        percent=percent,
        cite=citation(study),
        commands=commands(study, shipped),
        fingerprints=fingerprints(study),
        version=__version__,
    )


def _data(study: Study, sections: Sequence[Section], rooflines: Sequence[Chart]) -> dict[str, object]:
    """What the page's script draws."""
    strategies = in_order(set(study.trials["strategy"]))
    models = sorted(set(study.trials["gpu_model"]))
    charts = [chart for section in sections for chart in section.charts]
    chosen = chosen_trial(study)
    listed = [int(place) for place in study.valid.index]
    return {
        "estimated": study.estimated,
        "strategies": [{"name": name, "role": role_of(name), "mark": mark(name)} for name in strategies],
        "gpus": models,
        "short": {model: short_device(model) for model in models},
        "trials": {
            "strategy": [strategies.index(name) for name in study.trials["strategy"]],
            "gpu": [models.index(name) for name in study.trials["gpu_model"]],
        },
        "charts": [chart.plain() for chart in (*charts, *rooflines)],
        "bars": [section.bars.plain() for section in sections if section.bars],
        "traces": plain_traces(study),
        "listed": listed,
        "chosen": chosen["place"] if chosen else listed[0] if listed else None,
    }


def _contents(study: Study, sections: Sequence[Section], rooflines: Sequence[Chart]) -> list[tuple[str, str]]:
    parts = [(section.target, section.target.capitalize()) for section in sections]
    parts += [("rooflines", "Rooflines")] if rooflines else []
    parts += [("one-trial", "One trial")]
    parts += [("law", "The law")] if study.law else []
    return [*parts, ("validity", "Validity"), ("trials", "Trials"), ("environment", "Environment"),
            ("reproduce", "Cite and reproduce")]  # fmt: skip


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


def _script_json(values: object) -> Markup:
    """JSON that cannot end the script element that it is in."""
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))
