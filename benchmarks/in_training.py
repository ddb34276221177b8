"""What metering costs a training: its own processor time over that of the steps, in the Trainer on BERT-tiny.

    python benchmarks/in_training.py [--steps 1500]

One thread on one CPU. Own time is counted where it is spent: the hooks on the model, the callback at each step and
log line, and the threads that read the meter and take its readings in; not what comes before the first step and after
the last. The steps are short, so that the share is large. Beside it, independent of that count: the process's time per
step with the callback and without, in turns. Prints one JSON object.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from measuring import machine
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from joulelaw.bench.live.trainer import EnergyCallback

# Turc et al. 2019, on sequences of 64.
BERT_TINY = {"num_hidden_layers": 2, "hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 512}
LENGTH, BATCH = 64, 4
ROUNDS = 5


class Texts(torch.utils.data.Dataset[dict[str, Any]]):
    """Sequences of one length."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.ids, self.mask = torch.randint(5, 30_000, (LENGTH,)), torch.ones(LENGTH, dtype=torch.long)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"input_ids": self.ids, "attention_mask": self.mask, "labels": number % 2}


class Clock(TrainerCallback):
    """The process's time and the wall's from the first step's end to the last's."""

    def __init__(self) -> None:
        self.ends: list[tuple[float, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.ends.append((time.process_time(), time.monotonic()))

    @property
    def step_cpu_ms(self) -> float:
        return 1e3 * (self.ends[-1][0] - self.ends[0][0]) / (len(self.ends) - 1)

    @property
    def step_ms(self) -> float:
        return 1e3 * (self.ends[-1][1] - self.ends[0][1]) / (len(self.ends) - 1)


def train(steps: int, callbacks: list[TrainerCallback], out: str) -> Clock:
    clock = Clock()
    arguments = TrainingArguments(
        out, use_cpu=True, per_device_train_batch_size=BATCH, max_steps=steps, logging_steps=50, report_to="none",
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    model = BertForSequenceClassification(BertConfig(**BERT_TINY))
    Trainer(model, arguments, train_dataset=Texts(10**6), callbacks=[*callbacks, clock]).train()
    return clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500, help="of each run")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    found, bare, metered = machine(), [], []
    shares, hooks_us, threads = [], [], []
    with tempfile.TemporaryDirectory() as out:
        train(50, [], out)  # libraries warm up
        for _ in range(ROUNDS):
            bare.append(train(steps, [], out).step_cpu_ms)
            energy = EnergyCallback(cpu_w_per_core=10.0, meter="estimate")
            clock = train(steps, [energy], out)
            metered.append(clock.step_cpu_ms)
            assert energy.summary is not None
            shares.append(energy.summary.own_cpu_s / energy.summary.steps_cpu_s)
            hooks_us.append(1e6 * energy.summary.hooks_cpu_s / steps)
            threads.append((energy.summary.own_cpu_s - energy.summary.hooks_cpu_s) / energy.summary.training_s)
    difference = [100 * (one / other - 1) for one, other in zip(metered, bare, strict=True)]
    print(
        json.dumps(
            {
                "machine": found,
                "step_cpu_ms": statistics.median(bare),
                "own_share_percent": 100 * statistics.median(shares),
                "own_share_percent_worst": 100 * max(shares),
                "hooks_us_a_step": statistics.median(hooks_us),
                "threads_percent_of_a_core": 100 * statistics.median(threads),
                "with_against_without_percent": difference,
            }
        )
    )


if __name__ == "__main__":
    main()
