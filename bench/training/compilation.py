"""torch.compile: one block at a time, in warm-up only, for every strategy that it works with.

Blocks of equal shape share one graph, compiled at the first use. With the user's texts it takes any length; whether a
batch has padding at all makes a second graph. What torch cannot compile raises: by default it would go on without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from joulelaw import InputError
from joulelaw.bench.spec.configuration import Configuration

if TYPE_CHECKING:  # the sweep's checks need no torch
    from joulelaw.bench.workloads import TrainingModel

REMEDY = "false, or another strategy"


def why_not_compiled(asked: Configuration) -> str | None:
    """Why torch cannot compile this configuration, as seen on torch 2.13 and DeepSpeed 0.19.8; None where it can."""
    if not asked.torch_compile:
        return None
    if asked.strategy == "zero3":
        return "DeepSpeed gathers parameters inside each layer with zero3, and torch cannot compile that"
    if asked.strategy in ("tp", "fsdp_tp") and (asked.activation_checkpointing or asked.data):
        what = "activation checkpointing" if asked.activation_checkpointing else "texts of different lengths"
        return f"torch cannot compile {what} together with {asked.strategy}"
    return None


def check_compiled(asked: Configuration) -> None:
    """Raises InputError where a configuration asks for torch.compile and cannot have it."""
    if reason := why_not_compiled(asked):
        raise InputError(reason, where="torch_compile", remedy=REMEDY)


def compile_blocks(training: "TrainingModel", configuration: Configuration) -> None:
    """Has every block compiled at its first use, in place: names and hooks stay."""
    import torch

    torch._dynamo.config.fail_on_recompile_limit_hit = True
    for block in training.blocks:
        block.compile(dynamic=configuration.data is not None)


@contextmanager
def nothing_compiles() -> Iterator[None]:
    """Inside, a step that would have to compile raises: it would take seconds, and be measured.

    Raises:
        InputError: it would have to.
    """
    import torch

    try:
        with torch.compiler.set_stance("fail_on_recompile"):
            yield
    except RuntimeError as error:
        if "fail_on_recompile" not in str(error):
            raise
        what = "a measured step was the first of its kind, with padding or without, and torch would have compiled it"
        raise InputError(what, where="window.warmup_steps", remedy="more, or torch_compile: false") from error
