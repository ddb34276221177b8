"""One rank of a trial, from a fresh process to its last event.

    set-up    join the group and, where asked, probe what joins it                      -> links
              build and shard the model, make the data on the device                   -> ready
    go        the launcher's word, once the meters know every rank of the trial
    warm-up   steps that are timed but not measured; until told warm, where a rule asks  -> steps
    edge      device synchronized, all ranks here
    window    steps and nothing else: no collective but the strategy's own, no waiting
              for the device; until told enough, where a tolerance asks                 -> steps
    edge      device synchronized, all ranks here                                       -> window
    after     on CPU one step more, for its peak of memory                              -> done

Knows torch, not Ray: whoever forks the process passes a context to talk through.
"""

import os
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.data.batches import Epoch, mixed_seed
from joulelaw.bench.data.source import make_source
from joulelaw.bench.spec.configuration import TrialSpec
from joulelaw.bench.strategies import STRATEGIES, Setup, Stepper, load_strategy
from joulelaw.bench.training.compilation import check_compiled, compile_blocks
from joulelaw.bench.training.link_probe import logged_nccl, probe_links
from joulelaw.bench.training.precision import check_precision, set_matmul_precision
from joulelaw.bench.training.process_group import Group, join, set_network_environment
from joulelaw.bench.training.rank_state import (
    claim_device,
    collector_off,
    memory_bytes,
    peak_memory_bytes,
    reset_peak_memory,
)
from joulelaw.bench.training.stepping import Measured, StepLoop, words
from joulelaw.bench.workloads import load_workload
from joulelaw.cluster.ranks.rank import RankContext

# The launcher may be opening another group meanwhile.
GO_TIMEOUT_S = 300.0


def run_rank(payload: dict[str, Any], context: RankContext) -> None:
    """Runs this rank's part of the trial ``payload["trial"]`` (`TrialSpec.to_dict`) and emits its events.

    ``payload["root"]`` is the folder that the configuration's files are relative to: the sweep's; where it has a
    ``"sensor_update_s"``, a power sensor sees only part of each such interval. With ``"probe"`` true the group's links
    are measured first and told in a `links` event of rank 0, if there are several ranks: see `link_probe.probe_links`.

    Raises:
        InputError: a precision, strategy or shape that cannot be trained on this device.
    """
    spec, root = TrialSpec.from_dict(payload["trial"]), Path(payload["root"])
    check_precision(spec.configuration.precision, context.device_kind)
    check_compiled(spec.configuration)
    device = claim_device(context)
    base_bytes = memory_bytes(device)
    group = form_group(spec, context, device, probe=payload.get("probe", False))
    stepper, num_parameters = prepare(spec, group, device, root)
    epoch = make_epoch(spec, group, device, root)
    context.emit({"kind": "ready", "pid": os.getpid(), "device_uuid": context.device_uuid})
    context.receive(GO_TIMEOUT_S)
    with collector_off():
        reset_peak_memory(device)
        loop = StepLoop(stepper, epoch, group, device, context.emit, words(context.receive))
        measured = loop.run(spec.window, payload.get("sensor_update_s"))
        context.emit(window_event(measured))
        peak_bytes = peak_memory_bytes(device, loop.one_more_step)
    memory = {"peak_memory_bytes": peak_bytes, "base_memory_bytes": base_bytes}
    backend = {"threads": torch.get_num_threads(), "backend": group.backend}
    context.emit({**done_event(spec, measured, epoch), **memory, "num_parameters": num_parameters, **backend})
    group.close()


def form_group(spec: TrialSpec, context: RankContext, device: torch.device, probe: bool = False) -> Group:
    """The ranks together, or, where the strategy does not communicate, this rank alone."""
    if not STRATEGIES[spec.configuration.strategy].needs_group:
        return Group(context.rank, context.world_size, device, None)
    set_network_environment(context)
    if not probe or context.world_size == 1:
        return join(context, device)
    with logged_nccl(device) as nccl_log:
        group = join(context, device)
        probe_links(group, context, device, nccl_log)
    return group


def prepare(spec: TrialSpec, group: Group, device: torch.device, root: Path) -> tuple[Stepper, int]:
    """The model in its strategy's hands, and its number of parameters.

    All ranks draw the same initial weights. After that each data-parallel rank draws its own dropout masks;
    tensor-parallel ranks draw equal ones, or what they hold in common would drift apart.
    """
    configuration = spec.configuration
    set_matmul_precision(configuration.precision)
    torch.manual_seed(mixed_seed(spec.seed))
    training = load_workload(configuration.model_family).build(configuration, device, root)
    num_parameters = sum(parameter.numel() for parameter in training.module.parameters())
    if configuration.torch_compile:
        compile_blocks(training, configuration)
    setup = Setup(training, configuration, device, group.size)
    stepper = load_strategy(configuration.strategy).prepare(setup)
    torch.manual_seed(mixed_seed(spec.seed, group.rank // configuration.tensor_parallel))
    return stepper, num_parameters


def make_epoch(spec: TrialSpec, group: Group, device: torch.device, root: Path) -> Epoch:
    """This rank's data, on the device: tensor-parallel ranks have the same."""
    configuration = spec.configuration
    source = make_source(configuration, spec.seed, device, root)
    data_rank = group.rank // configuration.tensor_parallel
    return Epoch(source, data_rank, configuration.data_parallel, configuration.grad_accumulation)


def window_event(measured: Measured) -> dict[str, Any]:
    """When the window began and ended on this rank, and its steps."""
    return {
        "kind": "window",
        "begin_ns": measured.begin_ns,
        "end_ns": measured.end_ns,
        "measured_steps": measured.measured_steps,
        "warmup_steps": measured.warmup_steps,
        "warmup_s": measured.warmup_s,
        "jitter_s": measured.jitter_s,
        "slept_ns": measured.slept_ns,
    }


def done_event(spec: TrialSpec, measured: Measured, epoch: Epoch) -> dict[str, Any]:
    """What this rank did in the window, and the losses of the whole trial."""
    tokens, padded_tokens = epoch.tokens(measured.warmup_steps, measured.measured_steps)
    return {
        "kind": "done",
        "tokens": tokens,
        "padded_tokens": padded_tokens,
        "skipped_steps": measured.skipped_steps,
        "micro_steps": measured.measured_steps * spec.configuration.grad_accumulation,
        "loss_first": measured.loss_first,
        "loss_last": measured.loss_last,
    }
