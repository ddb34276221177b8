"""The trials of a plan as a table for people: a row each, or where they are many a row for those that run alike."""

from collections.abc import Sequence

from rich.table import Table

from joulelaw.bench.console import duration, number, table
from joulelaw.bench.plan.plan import Plan, PlannedTrial
from joulelaw.bench.spec.configuration import Configuration

# Rows that a person still reads.
MOST_ROWS = 100
LEGEND = (
    "n devices, L layers, h width, s tokens a sequence, B sequences a micro-batch, k micro-steps a step; "
    "GFLOP a step, GiB of memory a device; + a baseline that the plan adds"
)

_LEFT = ("trial", "family", "device", "strategy", "precision", "also", "split")
_SIZES = ("L", "h", "s", "B", "k")
_ALIKE = ("family", "device", "n", "strategy", "precision", "also")
_ROW = (
    *("trial", "family", "device", "n", "strategy", *_SIZES, "precision", "also", "split"),
    *("GFLOP", "GiB", "step", "trial time"),
)
_SUMMARY = (*_ALIKE, *_SIZES, "trials", "held out", "GiB", "device time")
# Left out where all rows have the same: one device model is named with the groups.
_DISTINCT = ("family", "device", "also")

Cells = dict[str, str]


def is_long(plan: Plan) -> bool:
    """Whether its trials are summed up for people."""
    return len(plan.trials) > MOST_ROWS


def trial_table(plan: Plan) -> Table:
    """Every trial, or a summary of a long plan."""
    if is_long(plan):
        return _table(f"Plan of {plan.name}, trials that differ in their sizes summed up", _SUMMARY, _summary(plan))
    return _table(f"Plan of {plan.name}", _ROW, [_cells(trial) for trial in plan.trials])


def total_s(trials: Sequence[PlannedTrial]) -> float | None:
    """Seconds of all of them, one after the other; None where one is not known."""
    seconds = [trial.price.trial_s for trial in trials]
    return sum(each for each in seconds if each is not None) if None not in seconds else None


def _table(title: str, names: Sequence[str], rows: Sequence[Cells]) -> Table:
    columns = [name for name in names if name not in _DISTINCT or len({row[name] for row in rows}) > 1]
    shown = table(title, columns, [name for name in columns if name not in _LEFT])
    shown.padding = (0, 1, 0, 0)  # many columns, narrow terminals
    shown.columns[0].no_wrap = True  # an id is copied whole
    for row in rows:
        shown.add_row(*(row[name] for name in columns))
    return shown


def _cells(trial: PlannedTrial) -> dict[str, str]:
    c, price = trial.spec.configuration, trial.price
    return {
        "trial": trial.trial_id + (" +" if trial.baseline else ""),
        "family": c.model_family,
        "device": c.gpu_model,
        "n": str(c.gpu_count),
        "strategy": c.strategy,
        "L": str(c.num_layers),
        "h": str(c.hidden_size),
        "s": str(c.sequence_length),
        "B": str(c.micro_batch_size),
        "k": str(c.grad_accumulation),
        "precision": c.precision,
        "also": _also(c),
        "split": trial.split.replace("_", " "),
        "GFLOP": number(price.flop_per_step / 1e9),
        "GiB": number(price.memory_bytes_per_device / 2**30, 2),
        "step": _step(price.step_s),
        "trial time": duration(price.trial_s),
    }


def _also(c: Configuration) -> str:
    """What is not as most trials have it, in a word each."""
    unusual = {
        f"tp {c.tensor_parallel}": c.strategy == "fsdp_tp",
        "eager": c.attention == "eager",
        "language model": c.head == "language_model",
        "checkpointing": c.activation_checkpointing,
        "compiled": c.torch_compile,
        f"dropout {c.dropout:g}": c.dropout > 0,
    }
    return ", ".join(word for word, holds in unusual.items() if holds)


def _summary(plan: Plan) -> list[Cells]:
    alike: dict[tuple[str, ...], list[PlannedTrial]] = {}
    for trial in plan.trials:
        cells = _cells(trial)
        alike.setdefault(tuple(cells[name] for name in _ALIKE), []).append(trial)
    return [dict(zip(_ALIKE, key, strict=True)) | _summed(trials) for key, trials in alike.items()]


def _summed(trials: Sequence[PlannedTrial]) -> Cells:
    every = [_cells(trial) for trial in trials]
    ranges = {name: _range([int(cells[name]) for cells in every]) for name in _SIZES}
    largest = max(trial.price.memory_bytes_per_device for trial in trials)
    return ranges | {
        "trials": str(len(trials)),
        "held out": str(sum(trial.split == "hold_out" for trial in trials)),
        "GiB": f"to {number(largest / 2**30, 2)}",
        "device time": duration(total_s(trials)),
    }


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low}" if low == high else f"{low} to {high}"


def _step(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{number(1000 * seconds)} ms" if seconds < 1 else f"{number(seconds)} s"
