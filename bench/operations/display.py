"""Timings of operations for people and for programs: their sum beside the whole micro-step."""

from typing import Any

from rich.console import Console

from joulelaw.bench.console import number, table
from joulelaw.bench.operations.operations import Outcome, Timed
from joulelaw.bench.operations.shapes import shape_label
from joulelaw.bench.operations.table import WHOLE, is_p2s

SUMS = ("P2's ms", "sum ms", "forward ms", "unexplained", "sum ms ", "micro-step ms", "unexplained ")


def show(outcome: Outcome, console: Console) -> None:
    """A line a shape; of a single shape every operation as well."""
    shown = table("Sum of the isolated operations beside the whole", ["shape", *SUMS], SUMS)
    for each in outcome.shapes:
        c = each.comparison
        forward = (_ms(c.p2_forward_s), _ms(c.forward_sum_s), _ms(c.forward_s), f"{c.forward_unexplained:+.0%}")
        both = (_ms(c.micro_step_sum_s), _ms(c.micro_step_s), f"{c.unexplained:+.0%}")
        shown.add_row(shape_label(each.configuration), *forward, *both)
    if len(outcome.shapes) == 1:
        _show_parts(outcome.shapes[0], console)
    console.print(shown)
    console.print(
        "P2: the published law's operations, forward. Unexplained: the share of the whole that the sum of all leaves; "
        "below 0 where isolated calls take longer."
    )
    for reason, count in outcome.skipped.items():
        console.print(f"{count} not timed: {reason}")


def as_json(outcome: Outcome) -> dict[str, Any]:
    """What the last line tells."""
    return {
        "folder": outcome.folder,
        "timed": len(outcome.shapes) - outcome.already_timed,
        "already_timed": outcome.already_timed,
        "skipped": outcome.skipped,
        "shapes": [
            {
                "configuration_id": each.configuration.configuration_id,
                "shape": shape_label(each.configuration),
                **vars(each.comparison),
                "forward_unexplained": each.comparison.forward_unexplained,
                "unexplained": each.comparison.unexplained,
            }
            for each in outcome.shapes
        ],
    }


def _show_parts(shape: Timed, console: Console) -> None:
    columns = ("calls", "ms a call", "ms a micro-step", "GFLOP/s")
    shown = table(shape_label(shape.configuration), ["operation", "phase", *columns], columns)
    for part in shape.parts:
        if part["operation"] != WHOLE:
            rate = part["flop"] / part["duration_s"] / 1e9
            seconds = part["duration_s"]
            told = (_ms(seconds), _ms(part["calls"] * seconds), number(rate))
            name = part["operation"] + (" (P2)" if is_p2s(part) else "")
            shown.add_row(name, part["phase"], str(part["calls"]), *told)
    console.print(shown)


def _ms(seconds: float) -> str:
    return number(1e3 * seconds)
