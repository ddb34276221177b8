"""Ranks of a real trial to which something happens: entries in the place of `trial.run_rank`."""

import dataclasses
import os
import resource
import signal
import threading
from pathlib import Path
from typing import Any

import torch

from joulelaw.bench.training.rank import run_rank
from joulelaw.cluster.ranks.rank import RankContext
from joulelaw.cluster.ranks.wire import Message

ROOM_BYTES = 2**29


class Overheard:
    """A channel that calls `happen` once a kind of event was told."""

    def __init__(self, context: RankContext, kind: str, happen: Any) -> None:
        self._channel, self._kind, self._happen = context.channel, kind, happen

    def emit(self, event: Message) -> None:
        self._channel.emit(event)
        if event["kind"] == self._kind:
            self._happen()

    def receive(self, timeout_s: float) -> Message:
        return self._channel.receive(timeout_s)


def after_ready(payload: dict[str, Any], context: RankContext, happen: Any) -> None:
    run_rank(payload, dataclasses.replace(context, channel=Overheard(context, "ready", happen)))


def too_large(payload: dict[str, Any], context: RankContext) -> None:
    """May have half a gigabyte more than it has: the trial asks for more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    after_ready(payload, context, lambda: torch.ones(ROOM_BYTES, dtype=torch.uint8))


def crash(payload: dict[str, Any], context: RankContext) -> None:
    after_ready(payload, context, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def stop(payload: dict[str, Any], context: RankContext) -> None:
    """Stopped from outside in the middle of its steps."""
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGSTOP))
    after_ready(payload, context, timer.start)


def leave(payload: dict[str, Any], context: RankContext) -> None:
    after_ready(payload, context, lambda: os._exit(7))
