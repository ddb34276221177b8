"""What the summary makes of results: cells of its tables, joules a step, scores of the law, spread of repeats."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from joulelaw.bench.console import number
from joulelaw.bench.gpu_check.cases import configuration
from joulelaw.bench.plan.price import counted
from joulelaw.model.hardware import Catalogue


class Cell:
    """Numbers as cells; a dash for what is not known."""

    @staticmethod
    def number(value: float | None) -> str:
        return number(value)

    @staticmethod
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{number(1e3 * value, 4)} ms"

    @staticmethod
    def percent(value: float | None, *, signed: bool = False) -> str:
        return "-" if value is None else f"{100 * value:{'+' if signed else ''}.2f} %"

    @staticmethod
    def small(value: float | None) -> str:
        return "-" if value is None else f"{value:.1e}"


def row(*cells: str) -> str:
    """A line of a table."""
    return f"| {' | '.join(cells)} |"


def of_arms(part: Mapping[str, Any]) -> dict[str, float | None]:
    """Joules of a step, ours and plain PyTorch's: of all turns together; None where one has no joules."""
    found: dict[str, float | None] = {}
    for arm in ("ours", "plain"):
        turns = [each["energy_j"] for name, each in part["stretches"].items() if name.split()[0] == arm]
        known = [each for each in turns if each is not None]
        found[arm] = sum(known) / len(known) / part["steps_a_turn"] if turns and len(known) == len(turns) else None
    return found


def flop_of_step(model: Mapping[str, Any], gpu_model: str, catalogue: Catalogue) -> float:
    """Counted FLOPs of a step of one micro-batch: forward and backward."""
    return float(counted([configuration(dict(model), gpu_model)], catalogue)[0]["flop_per_micro_step"])


def scores(validation: Path) -> list[str]:
    """The held-out scores of each law, as lines; none where there is no such file."""
    if not validation.is_file():
        return []
    content = json.loads(validation.read_text(encoding="utf-8"))
    lines = [
        f"- {each['law']}, {each['target']}{' (post-run)' if each['post_run'] else ''}: mean error "
        f"{Cell.percent(each['median'].get('mape'))}, R2 of logarithms {number(each['median'].get('r2_log'))}, "
        f"n {each['median'].get('n')}"
        for each in content["summaries"]
    ]
    return [f"Held out ({content['hold_out']}):", "\n".join(lines)]


def spread(folder: Path) -> list[str]:
    """How far repeats of a configuration lie apart, in seconds and joules a micro-step; none where there are none."""
    if not any((folder / "trials").glob("*.parquet")):
        return []
    trials = pd.read_parquet(folder / "trials")
    valid = trials[(trials["status"] == "done") & (trials["verdict"] == "valid")]
    lines = []
    for column, words in (("duration_s", "seconds"), ("energy_j", "joules")):
        each = valid[column] / valid["micro_steps"]
        groups = each.groupby(valid["configuration_id"])
        relative = (groups.std() / groups.mean()).dropna()
        if len(relative):
            lines.append(
                f"Repeats: {words} a micro-step of {len(relative)} configurations vary by "
                f"{Cell.percent(relative.median())} (median of relative standard deviations), at most "
                f"{Cell.percent(relative.max())}."
            )
    return lines
