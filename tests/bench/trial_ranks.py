"""Runs an entry function on forked CPU ranks, for tests."""

import atexit
import functools
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.spec.configuration import Configuration, TrialSpec
from joulelaw.bench.strategies import load_strategy
from joulelaw.bench.training.preload import ENVIRONMENT, PRELOAD
from joulelaw.bench.training.rank import form_group, make_epoch, prepare
from joulelaw.bench.training.rank_state import claim_device
from joulelaw.bench.training.stepping import StepLoop
from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks.gang import GangState
from joulelaw.cluster.ranks.local import LocalGang
from joulelaw.cluster.ranks.rank import RankContext
from joulelaw.cluster.ranks.server import ForkServer

TINY = Configuration(
    gpu_model="Test device (1 core)",
    gpu_count=1,
    strategy="single",
    num_layers=2,
    hidden_size=32,
    num_heads=2,
    intermediate_size=64,
    vocab_size=256,
    sequence_length=16,
    micro_batch_size=4,
    learning_rate=1e-3,
)
TIME_OUT_S = 200  # before pytest's own 240, so that a failure shows what the ranks said


@dataclass
class Outcome:
    """What one rank said and how it ended."""

    events: list[dict[str, Any]] = field(default_factory=list)
    exit_status: int | None = None

    def one(self, kind: str) -> dict[str, Any]:
        """The event of this kind, which there must be one of."""
        found = [event for event in self.events if event["kind"] == kind]
        assert len(found) == 1, self.events
        return found[0]

    def steps(self) -> list[list[Any]]:
        """The rows of all `steps` events."""
        return [row for event in self.events if event["kind"] == "steps" for row in event["rows"]]

    def losses(self) -> list[float]:
        return [row[4] for row in self.steps()]


@functools.cache
def fork_server() -> ForkServer:
    """One for this test process; it ends with it.

    Its temporary folder too: what torch compiled for an earlier run, of other libraries or on another processor,
    is not what a test is to load.
    """
    temporary = tempfile.TemporaryDirectory(prefix="joulelaw-ranks-")
    atexit.register(temporary.cleanup)
    server = ForkServer(PRELOAD, {**ENVIRONMENT, "DS_ACCELERATOR": "cpu", "TMPDIR": temporary.name})
    atexit.register(server.close)
    server.start()
    server.wait_ready()
    return server


def cpu_device(index: int) -> Device:
    """A logical device without a core of its own, so that two ranks run on any machine."""
    return Device(f"CPU-test-{index}", TINY.gpu_model, index, "cpu", 2**32, (), None, "")


def run_ranks(folder: Path, entry: str, payload: dict[str, Any], world_size: int = 1) -> list[Outcome]:
    """The outcomes by rank, once all have ended; told to go once all are ready."""
    gang = LocalGang(fork_server(), [cpu_device(index) for index in range(world_size)])
    outcomes = [Outcome() for _ in range(world_size)]
    until = time.monotonic() + TIME_OUT_S
    gang.start(entry, payload, folder)
    try:
        while gang.state is GangState.RUNNING:
            assert time.monotonic() < until, outcomes
            for event in gang.poll():
                outcomes[event["rank"]].events.append(event)
                ready = [outcome for outcome in outcomes if any(each["kind"] == "ready" for each in outcome.events)]
                if event["kind"] == "ready" and len(ready) == world_size:
                    gang.tell({"kind": "go"})
            time.sleep(0.01)
    finally:
        gang.stop()
    for outcome in outcomes:
        outcome.exit_status = outcome.one("exit")["status"]
    return outcomes


def run_trial(folder: Path, spec: TrialSpec, root: Path = Path()) -> list[Outcome]:
    """A trial through its real entry, on as many ranks as its configuration says. Files are relative to `root`."""
    payload = {"trial": spec.to_dict(), "root": str(root)}
    return run_ranks(folder, "joulelaw.bench.training.rank:run_rank", payload, spec.configuration.gpu_count)


def almost_sgd(parameters: Iterable[torch.nn.Parameter], configuration: Configuration) -> torch.optim.AdamW:
    """AdamW with an epsilon far above any gradient: a step is proportional to the gradient, as AdamW's own is not."""
    return torch.optim.AdamW(parameters, lr=10.0, eps=10.0, weight_decay=0.0, fused=True)


def train_and_keep(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial's steps; to a file the whole parameters, and random numbers drawn before and after them."""
    spec = TrialSpec.from_dict(payload["trial"])
    if payload["scale_matters"]:
        sys.modules[load_strategy(spec.configuration.strategy).__name__].adamw = almost_sgd  # type: ignore[attr-defined]
    device = claim_device(context)
    group = form_group(spec, context, device)
    stepper, _ = prepare(spec, group, device, Path())
    draw = torch.rand(4)
    StepLoop(stepper, make_epoch(spec, group, device, Path()), group, device, context.emit).run(spec.window)
    kept = {"parameters": stepper.full_parameters(), "draw": draw, "draw_after": torch.rand(4)}
    torch.save(kept, Path(payload["folder"]) / f"rank{context.rank}.pt")
    group.close()
