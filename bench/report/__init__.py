"""The report of a study: one HTML page, and its figures as PNG and SVG. Loads neither torch nor Ray."""

from pathlib import Path

from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import storage_errors, write_text
from joulelaw.bench.report import paper, tables
from joulelaw.bench.report.charts import Chart
from joulelaw.bench.report.forecast_charts import measured_against_predicted, residuals
from joulelaw.bench.report.page import Section, render
from joulelaw.bench.report.parts_chart import where_it_goes
from joulelaw.bench.report.roofline_charts import energy_roofline, roofline
from joulelaw.bench.report.scaling_chart import scaling
from joulelaw.bench.report.study import Study
from joulelaw.bench.report.trial_figure import one_trial
from joulelaw.model.laws.base import FittedLaw

__all__ = ["write_report"]


def write_report(
    dataset_dir: Place,
    law: FittedLaw | None,
    validation_path: Path | None,
    out: Path,
    *,
    law_file: Path | None = None,
    shipped: bool = False,
) -> Path:
    """Write the report of a dataset to `out`, and its figures to `figures/` beside it; returns `out`.

    A law (`law_file` is where it was read from, `shipped` that it is the one called default) adds the forecasts and its
    coefficients, a validation (the JSON of `joulelaw validate`) the held-out scores. Where joules are estimated, the
    duration comes first and everything on energy is grey and says why. Raises InputError for files that are missing or
    broken, and for a law that does not know the dataset's devices.
    """
    study = Study.load(dataset_dir, law, validation_path, law_file)
    sections = [_section(study, target) for target in study.targets]
    rooflines = [chart for chart in (roofline(study), energy_roofline(study)) if chart]
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _save_figures(study, sections, rooflines, out.parent / "figures")
    write_text(out, render(study, sections, rooflines, shipped))
    return out


def _section(study: Study, target: str) -> Section:
    charts: list[Chart | None] = []
    if study.can_forecast(target):
        charts = [measured_against_predicted(study, target), residuals(study, target)]
    charts.append(scaling(study, target))
    return Section(
        target=target,
        estimated=target == "energy" and study.estimated,
        charts=tuple(chart for chart in charts if chart),
        bars=where_it_goes(study, target),
        scores=tables.scores(study, target),
    )


def _save_figures(study: Study, sections: list[Section], rooflines: list[Chart], folder: Path) -> None:
    for chart in (*(each for section in sections for each in section.charts), *rooflines):
        paper.save(paper.drawn(chart), folder, chart.name)
    for section in sections:
        if section.bars:
            paper.save(paper.stacked(section.bars), folder, section.bars.name)
    trial = one_trial(study)
    if trial:
        paper.save(trial, folder, "one-trial")
