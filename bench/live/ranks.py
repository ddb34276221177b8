"""The processes of one training: which share a node, and what they tell each other before and after it.

Through the process group's store, never through a collective: no device is asked for anything, and a process that
does not take part costs a time-out, not the training. What is heard may name this program's own records only: anybody
who reaches the store could else have code run here.
"""

import io
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from joulelaw.cluster.nodes.inventory import hostname_hash

# The slowest process may still be building its model; and after the training, saving it.
PATIENCE_S = 120.0


class _OwnRecords(pickle.Unpickler):
    """Takes dataclasses and named tuples of this program: no other class, and no function.

    A module also has what it imports, and a name may have dots: what counts is where the class was defined.
    """

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name) if module.startswith("joulelaw.") else None
        if isinstance(found, type) and found.__module__ == module and (is_dataclass(found) or issubclass(found, tuple)):
            return found
        raise pickle.UnpicklingError(f"{module}.{name} is none of this program's records")


def _heard(said: bytes) -> Any:
    return _OwnRecords(io.BytesIO(said)).load()


class AbsentError(Exception):
    """Processes of the training that did not say a word.

    >>> str(AbsentError("meet", [1, 3]))
    'ranks 1, 3 did not answer (meet)'
    """

    def __init__(self, what: str, ranks: Sequence[int]) -> None:
        super().__init__(f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))} did not answer ({what})")


@dataclass(frozen=True)
class Member:
    """One process of the training. `device` is the index and UUID of its GPU as torch has it; None on a CPU."""

    rank: int
    host: str
    pid: int
    threads: int
    device: tuple[int, str] | None


class Ranks:
    """This process among the others; with `store` None it is alone."""

    def __init__(self, rank: int, size: int, store: Any = None, host: str = "") -> None:
        self.rank, self.size = rank, size
        self.host = host or hostname_hash()
        self._store = store

    @classmethod
    def of_this_training(cls) -> "Ranks":
        """By the default process group, where there is one. All its processes meter their trainings equally often."""
        if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
            return cls(0, 1)
        rank, store = dist.get_rank(), PrefixStore("joulelaw", dist.distributed_c10d._get_default_store())
        training = store.add(f"trainings/{rank}", 1)  # what was said in an earlier one is still there
        return cls(rank, dist.get_world_size(), PrefixStore(str(training), store))

    @property
    def backend(self) -> str:
        """gloo, nccl, or empty for one process without a group."""
        return "" if self._store is None else str(dist.get_backend())

    def member(self, device: torch.device) -> Member:
        """This process, as the others are to know it."""
        gpu = None
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            gpu = (index, str(torch.cuda.get_device_properties(index).uuid))
        return Member(self.rank, self.host, os.getpid(), torch.get_num_threads(), gpu)

    def say(self, what: str, value: Any) -> None:
        """To whoever asks: the value is kept in the store."""
        if self._store is not None:
            self._store.set(f"{what}/{self.rank}", pickle.dumps(value))

    def hear(self, what: str, ranks: Sequence[int], patience_s: float = PATIENCE_S) -> list[Any]:
        """What these others have said. Raises AbsentError where one has not within the time, in seconds."""
        keys = _keys(what, ranks)
        try:
            self._store.wait(keys, timedelta(seconds=patience_s))
            said = [self._store.get(key) for key in keys]
        except Exception as error:  # a store's time-out, or its end with the process that holds it
            silent = [rank for rank in ranks if not self._has(f"{what}/{rank}")]
            raise AbsentError(what, silent or ranks) from error
        return [_heard(each) for each in said]

    def exchange(self, what: str, value: Any, patience_s: float = PATIENCE_S) -> list[Any]:
        """Everybody's value, by rank."""
        if self._store is None:
            return [value]
        self.say(what, value)
        return self.hear(what, range(self.size), patience_s)

    def latest(self, what: str, ranks: Sequence[int]) -> list[Any]:
        """What these have said last, without waiting; of those that have said nothing None."""
        return [_heard(self._store.get(key)) if self._has(key) else None for key in _keys(what, ranks)]

    def _has(self, key: str) -> bool:
        try:
            return bool(self._store.check([key]))
        except Exception:  # the store is gone
            return False


def _keys(what: str, ranks: Sequence[int]) -> list[str]:
    return [f"{what}/{rank}" for rank in ranks]


@dataclass(frozen=True)
class Company:
    """All processes of the training, and this one's part among them."""

    members: Sequence[Member]
    rank: int

    @property
    def own(self) -> Member:
        return self.members[self.rank]

    @property
    def local(self) -> list[Member]:
        """Those of this node, by rank."""
        return self.on(self.own.host)

    @property
    def hosts(self) -> list[str]:
        """In the order of their first ranks."""
        return list(dict.fromkeys(member.host for member in self.members))

    def on(self, host: str) -> list[Member]:
        return [member for member in self.members if member.host == host]

    @property
    def leaders(self) -> list[int]:
        """The first rank of each node: it alone meters."""
        return [self.on(host)[0].rank for host in self.hosts]

    @property
    def leads(self) -> bool:
        return self.rank in self.leaders
