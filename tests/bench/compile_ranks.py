"""Ranks that tell what they compiled."""

from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from joulelaw.bench.training.rank import run_rank
from joulelaw.cluster.ranks.rank import RankContext


def run_and_tell(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial, then the graphs that were compiled, where they broke, and this rank's child processes.

    ``payload["backend"]`` names what compiles: inductor is the real one, aot_eager traces as much and needs no C++.
    """
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=payload["backend"])  # type: ignore
    run_rank(payload, context)
    graphs, breaks = counters["stats"]["unique_graphs"], dict(counters["graph_break"])
    context.emit({"kind": "compiled", "graphs": graphs, "breaks": breaks, "children": child_processes()})


def child_processes() -> list[str]:
    """Their numbers, of all of this process's threads; a thread may end meanwhile."""
    children = []
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):
            children += (task / "children").read_text().split()
    return children
