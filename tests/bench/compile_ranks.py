"""Ranks that tell what they compiled."""

from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.utils import counters

from joulelaw.bench.trial import run_rank
from joulelaw.cluster.ranks import RankContext


def run_and_tell(payload: dict[str, Any], context: RankContext) -> None:
    """An entry: a trial, then the graphs that were compiled, where they broke, and this rank's child processes.

    ``payload["backend"]`` names what compiles: inductor is the real one, aot_eager traces as much and needs no C++.
    """
    torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=payload["backend"])  # type: ignore
    run_rank(payload, context)
    graphs, breaks = counters["stats"]["unique_graphs"], dict(counters["graph_break"])
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    context.emit({"kind": "compiled", "graphs": graphs, "breaks": breaks, "children": children})
