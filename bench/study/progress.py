"""What the person at the terminal sees while a study runs: how far, how long still, what every group is doing."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from joulelaw.bench.console import duration
from joulelaw.bench.trial.checks import EXPLANATIONS


@dataclass(frozen=True)
class GroupView:
    """One line of the display: a group's devices, the trial on it and what the trial is doing."""

    devices: str
    trial: str
    phase: str
    elapsed_s: float


def time_left_s(expected_total_s: float, expected_done_s: float, elapsed_s: float) -> float | None:
    """Seconds still to go, from the share of the forecast device-seconds that is done. None before the first trial.

    The forecast only has to be right in proportion: if all trials take twice as long as forecast, so does the rest.
    """
    if expected_done_s <= 0:
        return None
    return elapsed_s * max(0.0, expected_total_s - expected_done_s) / expected_done_s


class StudyProgress:
    """A live display on a terminal, plain lines elsewhere. Everything goes to standard error."""

    def __init__(self, total: int, expected_total_s: float, already_done: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._expected_total_s = expected_total_s
        self._expected_done_s = 0.0
        self._count = already_done
        self._total = total
        self._explained: set[str] = set()
        self._began = time.monotonic()
        columns = (TextColumn("trials"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self._bar = Progress(*columns, console=self._console)
        self._task = self._bar.add_task("", total=total, completed=already_done, left="")
        self._live = Live(self._bar, console=self._console, refresh_per_second=2, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, groups: Iterable[GroupView]) -> None:
        if not self._console.is_terminal:
            return
        self._bar.update(self._task, completed=self._count, left=self._left())
        table = Table.grid(padding=(0, 2))
        for view in groups:
            # Texts, not markup: a line printed above without markup draws this once more, without markup.
            cells = (Text(view.devices, "dim"), Text(view.trial), Text(view.phase), Text(_clock(view.elapsed_s)))
            table.add_row(*cells)
        self._live.update(Group(self._bar, table))

    def finished(self, row: dict[str, Any], label: str, expected_s: float) -> None:
        """One trial's end: its line is printed, and the forecast of the time left learns from it."""
        self._count += row["status"] == "done"
        self._expected_done_s += expected_s
        self.tell(f"[{self._count}/{self._total}] {label}  {outcome(row)}")
        if (row["status"], row["verdict"]) == ("done", "invalid"):
            self._explain(row["reasons"] or ())

    def _explain(self, codes: Iterable[str]) -> None:
        """What each reason means, the first time that it is met."""
        for code in codes:
            if code in EXPLANATIONS and code not in self._explained:
                self._explained.add(code)
                self.tell(f"  {code}: {EXPLANATIONS[code]}")

    def again(self, label: str, why: str) -> None:
        """A trial that is run once more."""
        self.tell(f"{label}  once more: {why}")

    def tell(self, line: str) -> None:
        """What happens beside the trials."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _left(self) -> str:
        left = time_left_s(self._expected_total_s, self._expected_done_s, time.monotonic() - self._began)
        return "" if left is None else f"about {_clock(left)} left"


def _clock(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)


def outcome(row: dict[str, Any]) -> str:
    """A finished trial in a few words: its step time, its energy with the kind of meter, and what is wrong with it."""
    if row["status"] != "done":
        return f"FAILED: {row['failure']}"
    energy = "no energy" if row["energy_j"] is None else f"{row['energy_j']:.3g} J {row['meter_kind']}"
    codes = ", ".join(row["reasons"])
    trouble = f"  INVALID: {codes}" if row["verdict"] != "valid" else f"  ({codes})" if codes else ""
    return f"{row['step_s_median'] * 1e3:.3g} ms a step, {energy}, {row['trial_s']:.1f} s{trouble}"
