"""The report of a study: one HTML page, and its figures as PNG and SVG. Loads neither torch nor Ray."""

from pathlib import Path

from joulelaw.bench.dataset.storage import Place
from joulelaw.bench.files import storage_errors, write_text
from joulelaw.bench.report import tables
from joulelaw.bench.report.drawing import Drawing
from joulelaw.bench.report.forecast_figures import measured_against_predicted, residuals
from joulelaw.bench.report.page import Section, render
from joulelaw.bench.report.roofline_figure import roofline
from joulelaw.bench.report.study import Study
from joulelaw.bench.report.trial_figure import one_trial

__all__ = ["write_report"]


def write_report(dataset_dir: Place, law_path: Path | None, validation_path: Path | None, out: Path) -> Path:
    """Write the report of a dataset to `out`, and its figures to `figures/` beside it; returns `out`.

    A law adds the forecasts and its coefficients, a validation (the JSON of `joulelaw validate`) the held-out scores.
    Where joules are estimated, the duration comes first and everything on energy is grey and says why.
    Raises InputError for files that are missing or broken, and for a law that does not know the dataset's devices.
    """
    study = Study.load(dataset_dir, law_path, validation_path)
    sections = [_section(study, target) for target in study.targets]
    others = [drawing for drawing in (roofline(study), one_trial(study)) if drawing]
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        for drawing in (*(each for section in sections for each in section.figures), *others):
            drawing.save(out.parent / "figures")
    write_text(out, render(study, sections, others))
    return out


def _section(study: Study, target: str) -> Section:
    figures: tuple[Drawing, ...] = ()
    if study.can_forecast(target):
        figures = (measured_against_predicted(study, target), residuals(study, target))
    return Section(
        target=target,
        estimated=target == "energy" and study.estimated,
        figures=figures,
        scores=tables.scores(study, target),
        coefficients=tables.coefficients(study, target),
    )
