"""One part's process on the device: it says when it measures, and at last what it found."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from joulelaw.bench.gpu_check.parts import RANK_MODULE
from joulelaw.bench.training.rank_state import collector_off
from joulelaw.cluster.ranks.rank import RankContext

ANSWER_S = 60.0


class Teller:
    """What a part says while it runs."""

    def __init__(self, context: RankContext) -> None:
        self._context = context

    @contextmanager
    def window(self, name: str) -> Iterator[None]:
        """A stretch whose joules are wanted. The device must have nothing left to do at either end."""
        begin_ns = time.monotonic_ns()
        yield
        self._context.emit({"kind": "stretch", "name": name, "begin_ns": begin_ns, "end_ns": time.monotonic_ns()})

    def sampling(self, on: bool) -> None:
        """Has the meter read, or left alone, from now on."""
        self._context.emit({"kind": "sampling", "on": on})
        self._context.receive(ANSWER_S)


Measure = Callable[..., dict[str, Any]]


def run(payload: dict[str, Any], context: RankContext) -> None:
    """Calls ``payload["function"]`` with the context, a Teller and ``payload["arguments"]``; emits what it returns."""
    context.emit({"kind": "ready", "pid": os.getpid(), "device_uuid": context.device_uuid})
    context.receive(ANSWER_S)
    module, _, name = payload["function"].partition(":")
    measure: Measure = getattr(import_module(f"{RANK_MODULE}.{module}"), name)
    with collector_off():
        values = measure(context, Teller(context), **payload["arguments"])
    context.emit({"kind": "values", "values": values})
