"""The steps of one piece of a live training, as columns: a million records would keep the garbage collector busy."""

import math
from array import array
from collections.abc import Iterator
from typing import NamedTuple


class Micro(NamedTuple):
    """What the micro-batches of one step were: sequences and tokens each, and whether all were alike."""

    steps: int
    batch: int
    length: int
    padded: int
    """Tokens that were computed, of all of them."""
    alike: bool


class StepRecord(NamedTuple):
    """One optimizer step of one process; times in ns of its node's CLOCK_MONOTONIC."""

    step: int
    begin_ns: int
    end_ns: int
    loss: float | None
    micro: Micro
    skipped: bool
    """Its update was left out: fp16 gradients overflowed."""
    wait_ns: int
    """From the end of the step before, as the host has it, to the first forward: loading data, logging and the like."""


class Piece:
    """Successive steps that nothing came between."""

    def __init__(self) -> None:
        self._numbers = {name: array("q") for name in ("step", "begin_ns", "end_ns", "micro", "skipped", "wait_ns")}
        self._losses = array("d")  # NaN where there was none, or none that is finite: `_told` says which
        self._told = array("b")
        self._micros: dict[Micro, int] = {}

    def __len__(self) -> int:
        return len(self._told)

    def add(self, record: StepRecord) -> None:
        numbers = self._numbers
        numbers["step"].append(record.step)
        numbers["begin_ns"].append(record.begin_ns)
        numbers["end_ns"].append(record.end_ns)
        numbers["micro"].append(self._micros.setdefault(record.micro, len(self._micros)))
        numbers["skipped"].append(record.skipped)
        numbers["wait_ns"].append(record.wait_ns)
        self._losses.append(math.nan if record.loss is None else record.loss)
        self._told.append(record.loss is not None)

    @property
    def begin_ns(self) -> int:
        return self._numbers["begin_ns"][0]

    @property
    def end_ns(self) -> int:
        return self._numbers["end_ns"][-1]

    @property
    def seconds(self) -> float:
        return 1e-9 * (self.end_ns - self.begin_ns) if len(self) else 0.0

    def records(self) -> Iterator[StepRecord]:
        micros, n = list(self._micros), self._numbers
        for at in range(len(self)):
            yield StepRecord(
                n["step"][at],
                n["begin_ns"][at],
                n["end_ns"][at],
                self._losses[at] if self._told[at] else None,
                micros[n["micro"][at]],
                bool(n["skipped"][at]),
                n["wait_ns"][at],
            )
