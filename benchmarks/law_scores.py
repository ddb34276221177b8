"""Every score of the laws on a table of measurements, beside the published ones.

    python benchmarks/law_scores.py PATH [--only cases,size] [--law roofline] [--out SCORES.md] [--json SCORES.json]

PATH is a measurement table (CSV or Parquet) or a data set of `joulelaw run` or `import`; a table goes through `import`
first, so that rows which import keeps as invalid are left out. Prints Markdown; aggregates only, never a row.
Published scores are in published_scores.csv. P1: the artifact of arXiv 2606.23546, 693 rows of four GPU models, most of
which are not public; first try: a fit from before this program, on 351 rows of two of them.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from few_shot import HEADER, shots
from measuring import machine, table

from joulelaw import InputError
from joulelaw.bench.cli import main as joulelaw
from joulelaw.bench.commands.law_tables import noise_notes
from joulelaw.bench.dataset.measurements import devices_files, read_measurements, with_full_texts
from joulelaw.bench.dataset.operation_timings import read_operations
from joulelaw.model.hardware import Catalogue
from joulelaw.model.metrics import Score
from joulelaw.model.noise import noise_floor
from joulelaw.model.validation import DEFAULT_LAWS, Validation, validate

PUBLISHED = Path(__file__).with_name("published_scores.csv")
TARGETS = ("energy", "duration")
SCORES = ["tested", "R2 log", "MAPE", "R2 per token", "bias", "slope", "worst group", "in 95 %", "x /", "published"]
MEDIANS, FOLDS = ["of", "splits", "law", *SCORES], ["fold", "law", "fitted", *SCORES]


@dataclass(frozen=True)
class Study:
    """The measured trials, what is known of their devices, and which laws are scored on them."""

    trials: pd.DataFrame
    catalogue: Catalogue
    operations: pd.DataFrame | None
    laws: tuple[str, ...]
    draws: int

    def subsets(self) -> dict[str, "Study"]:
        """All trials, and each model family alone where there are several."""
        families = sorted(set(self.trials["model_family"]))
        alone = {
            name: replace(self, trials=self.trials[self.trials["model_family"] == name])
            for name in (families if len(families) > 1 else [])
        }
        return {"all": self, **alone}

    def validate(self, hold_out: str) -> Validation:
        return validate(self.trials, self.catalogue, self.laws, hold_out, operations=self.operations, draws=self.draws)


@dataclass(frozen=True)
class Section:
    """One part of the table: Markdown, and the same as plain values."""

    markdown: str
    content: dict[str, Any]


def cases(study: Study) -> Section:
    """(a) Unseen cases: grouped 70/30 splits by case, medians over the splits; (e) intervals, over all of them."""
    results = {name: part.validate("case") for name, part in study.subsets().items()}
    parts = []
    for target in TARGETS:
        rows = []
        for name, result in results.items():
            for each in _sorted(result, target):
                said = [each.median.n, *_cells(each.median), _published("cases", name, "", each.law, target)]
                rows.append([name, each.folds, _name(each), *said])
        parts.append(f"{target}, medians over the splits\n\n{table(MEDIANS, rows)}")
    parts.append(f"95 % intervals on unseen cases\n\n{_intervals(results)}")
    parts += [f"{name}: {note}" for name, result in results.items() for note in result.notes]
    return Section("\n\n".join(parts), {name: result.to_dict() for name, result in results.items()})


def hold_outs(rule: str) -> Callable[[Study], Section]:
    """(b) to (d): every fold of a rule. A rule that these trials cannot follow is said to be so."""

    def section(study: Study) -> Section:
        parts, content = [], {}
        for name, part in study.subsets().items():
            try:
                result = part.validate(rule)
            except InputError as error:
                parts.append(f"{name}: not scored, {error}")
                continue
            content[name] = result.to_dict()
            tables = {target: table(FOLDS, _fold_rows(result, rule, name, target)) for target in TARGETS}
            parts += [f"{name}, {target}\n\n{text}" for target, text in tables.items()]
        return Section("\n\n".join(parts), content)

    return section


def noise(study: Study) -> Section:
    """(f) What no forecast of these rows can beat."""
    floors = {name: noise_floor(part.trials) for name, part in study.subsets().items()}
    lines = [f"{name}: {note}" for name, found in floors.items() for note in noise_notes(found)]
    content = {name: [vars(floor) for floor in found] for name, found in floors.items()}
    return Section("\n\n".join(lines), content)


def few_shot(study: Study) -> Section:
    """(g) The roofline before and after a few trials on a GPU model that it never saw."""
    found = sorted(shots(study.trials, study.catalogue), key=lambda shot: shot.target, reverse=True)
    if not found:
        return Section("one GPU model alone: nothing to leave out", {})
    return Section(table(HEADER, [shot.cells for shot in found]), {"shots": [asdict(shot) for shot in found]})


SECTIONS: dict[str, Callable[[Study], Section]] = {
    "cases": cases,
    "size": hold_outs("size"),
    "gpu_model": hold_outs("gpu_model"),
    "strategy": hold_outs("strategy"),
    "gpu_count": hold_outs("gpu_count"),
    "model_family": hold_outs("model_family"),
    "workload": hold_outs("workload"),
    "noise": noise,
    "few_shot": few_shot,
}
TITLES = {
    "cases": "Unseen cases: 70/30 splits by case",
    "size": "Small to large models, and back",
    "gpu_model": "One GPU model left out",
    "strategy": "One strategy left out",
    "gpu_count": "One GPU count left out",
    "model_family": "One model family left out",
    "workload": "Unseen workloads: 70/30 splits by workload, every split",
    "noise": "The rows' own noise",
    "few_shot": "Few-shot calibration for a GPU model left out",
}


def _fold_rows(result: Validation, rule: str, subset: str, target: str) -> list[list[Any]]:
    rows = []
    order = {each.law: place for place, each in enumerate(_sorted(result, target))}
    mine = [fold for fold in result.fold_scores if fold.target == target]
    for fold in sorted(mine, key=lambda fold: (fold.fold, order.get(fold.law, len(order)))):
        published = _published(rule, subset, fold.fold, fold.law, target)
        if fold.score is None:
            reason = fold.failure or "no forecast"
            rows.append([fold.fold, _name(fold), fold.n_fit, "", *[""] * 5, reason, "", "", published])
        else:
            rows.append([fold.fold, _name(fold), fold.n_fit, fold.score.n, *_cells(fold.score), published])
    return rows


def _intervals(results: dict[str, Validation]) -> str:
    rows = []
    for name, result in results.items():
        scored = [each for target in TARGETS for each in _sorted(result, target)]
        for each in (each for each in scored if each.pooled.coverage == each.pooled.coverage):
            mine = [fold for fold in result.fold_scores if (fold.law, fold.target) == (each.law, each.target)]
            worst = min(fold.score.coverage for fold in mine if fold.score is not None)
            width = _number(each.median.half_width_factor)
            rows.append([name, each.target, _name(each), _percent(each.pooled.coverage), _percent(worst), width])
    return table(["of", "target", "law", "pooled over the splits", "worst split", "half-width, x /"], rows)


def _sorted(result: Validation, target: str) -> list[Any]:
    """Forecasts first, the best on top; what needs the run's own results after them."""
    mine = [each for each in result.summaries if each.target == target]
    return sorted(mine, key=lambda each: (each.post_run, -each.median.r2_log))


def _cells(score: Score) -> list[str]:
    return [
        f"{score.r2_log:.4f}",
        _percent(score.mape),
        f"{score.r2_log_per_token:.4f}",
        _percent(score.bias),
        _number(score.calibration_slope),
        f"{score.worst_group} ({_percent(score.worst_group_mape)})",
        _percent(score.coverage),
        _number(score.half_width_factor),
    ]


def _published(section: str, subset: str, fold: str, law: str, target: str) -> str:
    """Published R2 and MAPE with their source; empty where there is none."""
    known = pd.read_csv(PUBLISHED, keep_default_na=False)
    same = (known["section"] == section) & (known["subset"] == subset) & (known["law"] == law)
    same &= known["target"] == target
    found = [each for each in known[same].to_dict("records") if each["fold"] in fold]
    scores = [(f"{each['r2_log']}", f"{100 * float(each['mape']):g} %" if each["mape"] else "", each) for each in found]
    return "; ".join(f"{r2}{', ' if mape else ''}{mape} ({each['source']})" for r2, mape, each in scores)


def _name(each: Any) -> str:
    return f"{each.law} (post-run)" if each.post_run else str(each.law)


def _percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f} %"


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def read(path: Path) -> tuple[pd.DataFrame, Catalogue, pd.DataFrame | None]:
    """The trials of a data set, or of a table by way of `joulelaw import`, as `joulelaw validate` takes them."""
    with tempfile.TemporaryDirectory() as home:
        folder = path
        if path.is_file():
            folder = Path(home) / "imported"
            with contextlib.redirect_stdout(io.StringIO()) as said:
                code = joulelaw(["import", str(path), "--into", str(folder)])
            if code not in (0, 3):
                raise SystemExit(f"{path} cannot be imported: {said.getvalue().splitlines()[-1]}")
        trials = with_full_texts(read_measurements([folder]))
        return trials, Catalogue.load(devices_files([folder])), read_operations([folder])


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--only", default=",".join(SECTIONS), help=f"sections, of {','.join(SECTIONS)}")
    parser.add_argument("--law", action="append", help="a law to score; repeat it for several")
    parser.add_argument("--draws", type=int, default=20, help="splits of a rule that is drawn")
    parser.add_argument("--out", type=Path, help="also write the Markdown here")
    parser.add_argument("--json", type=Path, help="also write every score and fold here")
    asked = parser.parse_args(arguments)
    trials, catalogue, operations = read(asked.path)
    study = Study(trials, catalogue, operations, tuple(asked.law or DEFAULT_LAWS), asked.draws)
    parts, content = [f"{len(trials)} trials; {machine()}"], {}
    print(parts[0], flush=True)
    for name in asked.only.split(","):
        began = time.perf_counter()
        section = SECTIONS[name](study)
        parts.append(f"## {TITLES[name]}\n\n{section.markdown}\n\n{time.perf_counter() - began:.0f} s")
        content[name] = section.content
        print("\n" + parts[-1], flush=True)
    if asked.out:
        asked.out.write_text("\n\n".join(parts) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
