"""A callback for the Hugging Face Trainer: states the forecast, shows joules as the training goes, and keeps its row.

from joulelaw.bench.live.trainer import EnergyCallback

trainer = Trainer(model, arguments, callbacks=[EnergyCallback(law="default", into="results/mine")], ...)
trainer.train()
"""

from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from joulelaw.bench.live.configuration import Trained
from joulelaw.bench.live.options import LiveOptions
from joulelaw.bench.live.run import TrainingRun
from joulelaw.bench.live.strategy import strategy_of_trainer, unwrapped
from joulelaw.bench.live.told import Summary


class EnergyCallback(TrainerCallback):
    """`law` is a law file or `default`, `into` the dataset folder that gets the row; each may be left out.

    Every process of the training needs the callback; further `options` are those of `LiveOptions`. Log lines get
    energy_j and energy_to_go_j (J), power_w (W) and energy_meter, which says what kind of number they are; `summary`
    is there when the training is over, on the first process.

    Raises:
        InputError: at the training's begin, where law, folder or meter cannot be used.
    """

    def __init__(self, law: str | None = None, into: str | Path | None = None, **options: Any) -> None:
        self.options = LiveOptions(law, into, **options)
        self.summary: Summary | None = None
        self._run: TrainingRun | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._run is not None:
            self._run.abort()  # an earlier training of this object broke off
        model: torch.nn.Module = kwargs["model"]
        inner = unwrapped(model)

        def trained() -> Trained:
            strategy = strategy_of_trainer(model, args)
            return Trained(inner, strategy, kwargs.get("optimizer"), args.device, compiled=bool(args.torch_compile))

        run = TrainingRun(self.options, inner, args.device, trained, state.max_steps - state.global_step)
        run.begin()
        self._run, self.summary = run, None

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._run is not None:
            self._run.step_begins()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._run is not None:
            self._run.step_ends(skipped=bool(getattr(kwargs.get("optimizer"), "step_was_skipped", False)))

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._interrupt()

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        self._interrupt()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._interrupt()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Adds to the line that is printed after this, and to the history."""
        if self._run is None:
            return
        told = self._run.progress()
        if logs is not None and "loss" in logs:
            logs.update(told)
            if state.log_history:
                state.log_history[-1].update(told)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        run, self._run = self._run, None
        if run is not None:
            self.summary = run.end()

    def _interrupt(self) -> None:
        if self._run is not None:
            self._run.interrupt()
