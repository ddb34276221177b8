"""A model in training, as a trial has it and as plain PyTorch has it, for parts that compare steps."""

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForSequenceClassification

from joulelaw.bench.data.batches import Batch, mixed_seed
from joulelaw.bench.spec.configuration import Configuration, TrialSpec
from joulelaw.bench.training.precision import autocast
from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.rank import make_epoch, prepare
from joulelaw.bench.training.rank_state import synchronize
from joulelaw.bench.training.step_clock import step_clock
from joulelaw.bench.training.stepping import AHEAD
from joulelaw.bench.workloads.config_keys import CONFIG_KEYS

SEED = 5


class Ours:
    """Steps as a trial makes them: its strategy, its data, its clock, and as far ahead of the device."""

    def __init__(self, asked: Configuration, device: torch.device) -> None:
        spec, group = TrialSpec(asked, seed=SEED), Group(0, 1, device, None)
        self._device = device
        self._stepper, self.num_parameters = prepare(spec, group, device, Path())
        self._epoch = make_epoch(spec, group, device, Path())
        self._clock = step_clock(device)
        self._step = 0

    def run(self, count: int) -> None:
        """So many steps, with the device idle before and after."""
        self._clock.start()
        for _ in range(count):
            loss = self._stepper.micro_step(self._epoch.step(self._step)[0], last=True)
            self._stepper.optimizer_step()
            self._clock.end(self._step, True, loss)
            self._clock.wait(AHEAD)
            self._step += 1
        synchronize(self._device)
        self.losses = [row.loss for row in self._clock.finished()]


class Plain:
    """The loop that one would write by hand: the library's BERT with SDPA, autocast, fused AdamW, nothing else.

    In fp16 with torch's own loss scaling, which does nothing in other precisions.
    """

    def __init__(self, asked: Configuration, device: torch.device) -> None:
        settings: dict[str, Any] = dict(CONFIG_KEYS["bert"].config(vars(asked), asked.sequence_length))
        config: Any = BertConfig.from_dict(
            {**settings, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        )
        config._attn_implementation = "sdpa"
        torch.manual_seed(mixed_seed(SEED))
        model: Any = BertForSequenceClassification(config)
        self._device = device
        self._model = model.to(device).train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=asked.learning_rate, fused=True)
        self._autocast = autocast(asked.precision, device)
        self._scaler = torch.amp.GradScaler(device.type, enabled=asked.precision == "fp16")
        # The same data, which is no part of the comparison.
        epoch = make_epoch(TrialSpec(asked, seed=SEED), Group(0, 1, device, None), device, Path())
        self._batches: Iterator[Batch] = cycle([epoch.step(step)[0] for step in range(16)])

    def run(self, count: int) -> None:
        """So many steps, with the device idle after them."""
        for _ in range(count):
            batch = next(self._batches)
            with self._autocast:
                loss = self._model(**batch).loss
            self._scaler.scale(loss).backward()
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self._optimizer.zero_grad(set_to_none=True)
        synchronize(self._device)
        self.loss = float(loss.detach())
