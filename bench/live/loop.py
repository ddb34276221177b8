"""A `with` for plain training loops: states the forecast, meters, and keeps the row.

from joulelaw.bench.live.loop import metered_training

with metered_training(model, optimizer, law="default", into="results/mine", steps=len(loader)) as run:
    for batch in loader:
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        run.step()
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.live.configuration import Trained
from joulelaw.bench.live.options import LiveOptions
from joulelaw.bench.live.run import TrainingRun
from joulelaw.bench.live.strategy import strategy_of_loop, unwrapped
from joulelaw.bench.live.told import Summary


class LoopRun:
    """Made by `metered_training`. `summary` is there after the with block, on the first process."""

    def __init__(self, run: TrainingRun) -> None:
        self._run = run
        self.summary: Summary | None = None

    def step(self, *, skipped: bool = False) -> None:
        """After each optimizer step. `skipped`: a gradient scaler left its update out."""
        self._run.step_ends(skipped=skipped)

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Around what is no training, such as an evaluation or a checkpoint: it is metered, but not in the window."""
        self._run.interrupt()
        try:
            yield
        finally:
            self._run.step_begins()

    def progress(self) -> dict[str, float | str]:
        """energy_j and energy_to_go_j (J), power_w (W), and energy_meter: the meter, and what kind of number."""
        return self._run.progress()


@contextmanager
def metered_training(
    model: torch.nn.Module,
    optimizer: Any,
    *,
    law: str | None = None,
    into: str | Path | None = None,
    steps: int | None = None,
    **options: Any,
) -> Iterator[LoopRun]:
    """Meters the training in the with block. `model` and `optimizer` are as the loop uses them: wrapped by DDP, say.

    `law` is a law file or `default`, `into` the dataset folder that gets the row; `steps` are the optimizer steps to
    come. Every process of the training must be in such a block; further `options` are those of `LiveOptions`. A block
    that is left by an exception leaves no row.

    Raises:
        InputError: before the block, where law, folder or meter cannot be used.
    """
    inner = unwrapped(model)
    device = next(inner.parameters()).device
    size = torch.distributed.get_world_size() if _has_group() else 1

    def trained() -> Trained:
        compiled = getattr(model, "_orig_mod", None) is not None
        return Trained(inner, strategy_of_loop(model, size), optimizer, device, compiled=compiled)

    run = TrainingRun(LiveOptions(law, into, **options), inner, device, trained, steps)
    run.begin()
    told = LoopRun(run)
    try:
        run.step_begins()
        yield told
    except BaseException:
        run.abort()
        raise
    told.summary = run.end()


def _has_group() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
