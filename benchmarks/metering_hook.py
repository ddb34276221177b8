"""What the measuring costs inside the training loop: its own processor time over that of the steps, on BERT-tiny.

    python benchmarks/metering_hook.py [--seconds 10]

The steps of a real trial on one CPU rank, with a clock around each of the hook's three parts: `StepClock.end` after
every step, collecting what is over, and sending it. The steps are short, so that the share is large. Prints one JSON
object.
"""

import argparse
import json
import threading
import time
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.spec.configuration import Configuration, TrialSpec, Window
from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.rank import make_epoch, prepare
from joulelaw.bench.training.stepping import StepLoop

BERT_TINY = Configuration(  # Turc et al. 2019, on short sequences
    gpu_model="CPU", gpu_count=1, strategy="single", num_layers=2, hidden_size=128, num_heads=2, intermediate_size=512,
    vocab_size=30522, sequence_length=32, micro_batch_size=4,
)  # fmt: skip


class Timed:
    """Calls a function and adds up what its thread spent of the processor."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.cpu_s = 0.0

    def __call__(self, *arguments: Any, **more: Any) -> Any:
        begin_s = time.thread_time()
        try:
            return self.function(*arguments, **more)
        finally:
            self.cpu_s += time.thread_time() - begin_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    torch.set_num_threads(1)
    device, events, reader = torch.device("cpu"), *Pipe()
    threading.Thread(target=drain, args=(reader,), daemon=True).start()
    spec = TrialSpec(BERT_TINY, seed=7, window=Window(warmup_steps=20, min_steps=1, min_s=seconds, max_s=2 * seconds))
    group = Group(0, 1, device, None)
    stepper, _ = prepare(spec, group, device, Path())
    loop: Any = StepLoop(stepper, make_epoch(spec, group, device, Path()), group, device, events.send)
    step, end = Timed(loop._one_step), Timed(loop._clock.end)
    collect, send = Timed(loop._collect), Timed(loop._send)
    loop._one_step, loop._clock.end, loop._collect, loop._send = step, end, collect, send
    measured = loop.run(spec.window)
    empty = Timed(lambda: None)
    for _ in range(1000):
        empty()
    steps = measured.measured_steps + spec.window.warmup_steps
    clock_s = empty.cpu_s / 1000  # what reading the clock itself takes
    hook_s = end.cpu_s + collect.cpu_s + send.cpu_s - clock_s * steps
    found = {
        "steps": steps,
        "step_ms": 1e3 * (measured.end_ns - measured.begin_ns) / 1e9 / measured.measured_steps,
        "hook_us": 1e6 * hook_s / steps,
        "hook_share": hook_s / step.cpu_s,
    }
    print(json.dumps(found))


def drain(reader: Any) -> None:
    while True:
        reader.recv()


if __name__ == "__main__":
    main()
