"""The torch process group of a trial: gloo on CPU, NCCL on CUDA, met through a store that rank 0 hosts."""

import os
import socket
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from joulelaw.cluster.ranks.rank import RankContext

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
# A rank that dies is noticed by the launcher, which kills the others; this only bounds what it could miss.
TIMEOUT = timedelta(minutes=10)


class Group:
    """The ranks of one trial. With `store` None there is one rank and no process group."""

    def __init__(self, rank: int, size: int, device: torch.device, store: Store | None) -> None:
        self.rank = rank
        self.size = size
        self._device = device
        self._store = store
        self._agreed = 0
        self._gathered = 0

    @property
    def backend(self) -> str:
        """gloo, nccl, or empty for one process without a group."""
        return BACKENDS[self._device.type] if self._store is not None else ""

    def barrier(self) -> None:
        """Waits until every rank is here."""
        if self._store is not None:
            device_ids = [self._device.index] if self._device.type == "cuda" else None
            dist.barrier(device_ids=device_ids)

    def agree(self, value: int) -> int:
        """Rank 0's value, on every rank: through the store, so that no device is asked to wait."""
        if self._store is None:
            return value
        self._agreed += 1
        key = f"agree/{self._agreed}"
        if self.rank == 0:
            self._store.set(key, str(value))
            return value
        return int(self._store.get(key))

    def gather(self, value: str) -> list[str]:
        """Every rank's value, by rank, on rank 0; on the others nothing. Through the store, as `agree`."""
        if self._store is None:
            return [value]
        self._gathered += 1
        keys = [f"gather/{self._gathered}/{rank}" for rank in range(self.size)]
        self._store.set(keys[self.rank], value)
        return [self._store.get(key).decode() for key in keys] if self.rank == 0 else []

    def close(self) -> None:
        """Waits until every rank is through with the group; the process is to end then.

        NCCL's is taken down. gloo's stays: its end joins a thread that may wait for the interpreter's lock, and DDP's
        reducer, which would be the last to hold the group, lets go of it with the lock held (torch 2.13: of twelve
        runs on a busy machine one never ended).
        """
        if self._store is not None:
            self.barrier()
            if self._device.type == "cuda":
                dist.destroy_process_group()


def join(context: RankContext, device: torch.device) -> Group:
    """Brings the ranks together: rank 0 opens a store on a free port and tells the launcher, who tells the rest."""
    if context.rank == 0:
        store = _open_store(context)
    else:
        host, _, port = context.receive(TIMEOUT.total_seconds())["address"].rpartition(":")
        store = TCPStore(host, int(port), timeout=TIMEOUT)
    dist.init_process_group(
        BACKENDS[device.type],
        store=PrefixStore("group", store),
        rank=context.rank,
        world_size=context.world_size,
        timeout=TIMEOUT,
        device_id=device if device.type == "cuda" else None,
    )
    return Group(context.rank, context.world_size, device, PrefixStore("trial", store))


def _open_store(context: RankContext) -> TCPStore:
    """A store that listens on this rank's own address only: by itself it would answer every network."""
    family = socket.AF_INET6 if ":" in context.host else socket.AF_INET
    listener = socket.create_server((context.host, 0), family=family)
    port = listener.getsockname()[1]
    store = TCPStore(
        context.host,
        port,
        is_master=True,
        timeout=TIMEOUT,
        wait_for_workers=False,
        master_listen_fd=listener.detach(),
    )
    context.emit({"kind": "rendezvous", "address": f"{context.host}:{port}"})
    return store


def set_network_environment(context: RankContext) -> None:
    """Sets what the libraries read about a rank's place; DeepSpeed takes its device from LOCAL_RANK.

    gloo and NCCL are held to the interface of the rank's own address: by themselves they would listen on others too. An
    interface that is set already stays.
    """
    os.environ.update(
        RANK=str(context.rank),
        WORLD_SIZE=str(context.world_size),
        LOCAL_RANK=str(context.local_rank),
        LOCAL_WORLD_SIZE=str(context.local_world_size),
    )
    if interface := interface_of(context.host):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", f"={interface}")  # "=": this one, not all that begin so


def interface_of(address: str) -> str | None:
    """The network interface of this machine that has the address; None where none has."""
    if address in ("127.0.0.1", "::1"):
        return "lo"
    import psutil  # here: one machine needs it not

    for name, its in psutil.net_if_addrs().items():
        if any(each.address.partition("%")[0] == address for each in its):
            return str(name)
    return None
