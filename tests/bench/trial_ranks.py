"""Runs an entry function on forked CPU ranks for tests, and plays the launcher's part."""

import functools
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.configuration import Configuration, TrialSpec
from joulelaw.bench.preload import PRELOAD, environment
from joulelaw.bench.process_group import Group, join, set_network_environment
from joulelaw.bench.rank_state import claim_device
from joulelaw.bench.stepping import StepLoop
from joulelaw.bench.strategies import STRATEGIES
from joulelaw.bench.trial import make_epoch, prepare
from joulelaw.cluster.inventory import Device
from joulelaw.cluster.ranks import RankContext, RankProcess, RankSpec
from joulelaw.cluster.server import ForkServer

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
TIME_OUT_S = 120


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
    """One for this test process; it ends with it."""
    server = ForkServer(PRELOAD, environment("cpu"))
    server.start()
    server.wait_ready()
    return server


def cpu_device(index: int) -> Device:
    """A logical device without a core of its own, so that two ranks run on any machine."""
    return Device(f"CPU-test-{index}", TINY.gpu_model, index, "cpu", 2**32, (), None, "")


def run_ranks(folder: Path, entry: str, payload: dict[str, Any], world_size: int = 1) -> list[Outcome]:
    """The outcomes by rank, once all have ended."""
    ranks = [RankProcess() for _ in range(world_size)]
    outcomes = [Outcome() for _ in ranks]
    for index, process in enumerate(ranks):
        log = str(folder / f"rank{index}.log")
        place = {"rank": index, "world_size": world_size, "local_rank": index, "local_world_size": world_size}
        process.launch(
            fork_server().address, RankSpec(entry, payload, **place, device=cpu_device(index), env={}, log_path=log)
        )
    until = time.monotonic() + TIME_OUT_S
    while any(process.exit_status is None for process in ranks):
        assert time.monotonic() < until, outcomes
        for process, outcome in zip(ranks, outcomes, strict=True):
            for event in process.poll(0.02):
                outcome.events.append(event)
                if event["kind"] == "rendezvous":
                    for other in ranks[1:]:
                        other.send(event)
        if any(process.exit_status for process in ranks):
            for process in ranks:
                process.kill()
    for process, outcome in zip(ranks, outcomes, strict=True):
        outcome.exit_status = process.exit_status
    return outcomes


def run_trial(folder: Path, spec: TrialSpec) -> list[Outcome]:
    """A trial through its real entry, on as many ranks as its configuration says."""
    return run_ranks(folder, "joulelaw.bench.trial:run_rank", {"trial": spec.to_dict()}, spec.configuration.gpu_count)


def train_and_keep(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial's steps, then the whole parameters and the rank's next random number to a file."""
    spec = TrialSpec.from_dict(payload["trial"])
    set_network_environment(context)
    device = claim_device(context)
    needs_group = STRATEGIES[spec.configuration.strategy].needs_group
    group = join(context, device) if needs_group else Group(0, 1, device, None)
    stepper, _ = prepare(spec, group, device)
    draw = torch.rand(4)
    StepLoop(stepper, make_epoch(spec, group, device), group, device, context.emit).run(spec.window)
    parameters = stepper.full_parameters()
    torch.save({"parameters": parameters, "draw": draw}, Path(payload["folder"]) / f"rank{context.rank}.pt")
    group.close()
