"""What is seen at a terminal while a study runs."""

import io
from typing import Any

from rich.console import Console

from joulelaw.bench.study.progress import GroupView, StudyProgress


def row(**values: Any) -> dict[str, Any]:
    shown = {"status": "done", "verdict": "valid", "reasons": [], "energy_j": 3.0, "meter_kind": "measured"}
    return {**shown, "step_s_median": 0.01, "trial_s": 2.0, **values}


def test_every_group_is_shown_and_stays_plain_text_when_a_line_is_printed_above() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with StudyProgress(3, 30.0, 0, console) as progress:
        groups = [
            GroupView("1a2b3c: 0, 1", "bert [/x] fsdp", "step 7", 4.0),
            GroupView("9f: 2", "b", "setting up", 90.0),
        ]
        progress.show(groups)
        progress.finished(row(), "bert [L2]", 10.0)
        progress.show(groups)
    text = out.getvalue()
    assert "[dim]" not in text
    assert all(part in text for part in ("1a2b3c: 0, 1", "bert [/x] fsdp", "step 7", "4 s", "setting up", "1 min 30 s"))
    assert "[1/3] bert [L2]  10 ms a step, 3 J measured, 2.0 s" in text
    assert "left" in text


def test_a_reason_is_explained_the_first_time_that_it_is_met() -> None:
    out = io.StringIO()
    progress = StudyProgress(3, 30.0, 0, Console(file=out, width=200))
    for label in ("a", "b"):
        progress.finished(row(verdict="invalid", reasons=["window_too_short"]), label, 10.0)
    progress.finished(row(reasons=["power_capped"]), "c", 10.0)
    told = out.getvalue().splitlines()
    assert len(told) == 4
    assert told[0].endswith("INVALID: window_too_short")
    assert told[1].startswith("  window_too_short: the window is under 1 s")
