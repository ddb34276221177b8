"""Entry functions for the tests of rank processes: each shows one thing a rank can do."""

import os
import socket
import subprocess
import sys
import time
from typing import Any

from joulelaw.cluster.ranks.rank import RankContext

COLOUR = "white"  # module state that a rank may change


def tell(payload: dict[str, Any], rank: RankContext) -> None:
    """Who and where this process is."""
    rank.emit({"kind": "ready", "pid": os.getpid(), "device_uuid": rank.device_uuid})
    rank.emit(
        {
            "kind": "told",
            "payload": payload,
            "rank_seen": rank.rank,
            "world_size": rank.world_size,
            "local_rank": rank.local_rank,
            "threads": rank.threads,
            "cores": sorted(os.sched_getaffinity(0)),
            "env": {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "EXTRA")},
            "group": os.getpgid(0),
        }
    )
    print("said by rank", rank.rank)


def paint(payload: dict[str, Any], rank: RankContext) -> None:
    """Shows the colour that it found, and leaves another."""
    global COLOUR
    rank.emit({"kind": "found", "colour": COLOUR})
    COLOUR = payload["colour"]


def flags(payload: dict[str, Any], rank: RankContext) -> None:
    """The same with torch's global switches."""
    import torch

    rank.emit(
        {
            "kind": "found",
            "tf32": torch.backends.cuda.matmul.allow_tf32,
            "math_sdp": torch.backends.cuda.math_sdp_enabled(),
            "grad": torch.is_grad_enabled(),
            "threads": torch.get_num_threads(),
            "cuda_initialized": torch.cuda.is_initialized(),
        }
    )
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cuda.enable_math_sdp(False)
    torch.set_grad_enabled(False)


def echo(payload: dict[str, Any], rank: RankContext) -> None:
    rank.emit({"kind": "ready"})
    rank.emit({"kind": "echo", "message": rank.receive(timeout_s=20)})


def sleep(payload: dict[str, Any], rank: RankContext) -> None:
    """Ready, then silent for a minute."""
    rank.emit({"kind": "ready"})
    time.sleep(60)


def sleep_with_child(payload: dict[str, Any], rank: RankContext) -> None:
    """Starts a process of its own, which must not outlive it."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    rank.emit({"kind": "ready", "grandchild": process.pid})
    time.sleep(60)


def burn(payload: dict[str, Any], rank: RankContext) -> None:
    """Ready; from the first word on so many seconds of CPU time; and stays until the second."""
    rank.emit({"kind": "ready"})
    rank.receive(timeout_s=60)
    end_s = time.process_time() + payload["cpu_s"]
    while time.process_time() < end_s:
        sum(range(10_000))
    rank.receive(timeout_s=60)


def never_ready(payload: dict[str, Any], rank: RankContext) -> None:
    time.sleep(60)


def fail(payload: dict[str, Any], rank: RankContext) -> None:
    """The rank that the payload names raises; the others wait."""
    rank.emit({"kind": "ready"})
    if rank.rank == payload["failing"]:
        raise MemoryError("no room for the optimizer")
    time.sleep(60)


def leave(payload: dict[str, Any], rank: RankContext) -> None:
    sys.exit(payload["code"])


def die(payload: dict[str, Any], rank: RankContext) -> None:
    """The rank that the payload names kills itself; its peers then fail too, as broken connections make them."""
    rank.emit({"kind": "ready"})
    if rank.rank == payload["failing"]:
        os.kill(os.getpid(), payload["signal"])
    time.sleep(0.05)
    raise ConnectionError("connection closed by peer")


def all_reduce(payload: dict[str, Any], rank: RankContext) -> None:
    """A real process group: rank 0 hosts the store on a free port and tells the launcher."""
    import torch
    import torch.distributed as dist

    if rank.rank == 0:
        store = dist.TCPStore(rank.host, 0, rank.world_size, is_master=True, wait_for_workers=False)
        rank.emit({"kind": "rendezvous", "address": f"{rank.host}:{store.port}"})
    else:
        host, port = rank.receive(timeout_s=30)["address"].rsplit(":", 1)
        store = dist.TCPStore(host, int(port), rank.world_size, is_master=False)
    dist.init_process_group("gloo", store=store, rank=rank.rank, world_size=rank.world_size)
    rank.emit({"kind": "ready"})
    value = torch.full((4,), float(rank.rank + 1))
    dist.all_reduce(value)
    rank.emit({"kind": "sum", "value": value.tolist()})
    dist.barrier()
    dist.destroy_process_group()


def shake_hands(payload: dict[str, Any], rank: RankContext) -> None:
    """Over the network: rank 0 listens on its host's own address, the others find it there."""
    names = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    rank.emit({"kind": "ready", "host": rank.host, "env": {name: os.environ.get(name) for name in names}})
    if rank.rank == 0:
        with socket.create_server((rank.host, 0)) as server:
            rank.emit({"kind": "rendezvous", "address": f"{rank.host}:{server.getsockname()[1]}"})
            for _ in range(rank.world_size - 1):
                server.accept()[0].close()
    else:
        host, port = rank.receive(timeout_s=30)["address"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            rank.emit({"kind": "met", "peer": connection.getpeername()[0]})


def listen(payload: dict[str, Any], rank: RankContext) -> None:
    """Repeats what it hears until it is told to stop."""
    rank.emit({"kind": "ready"})
    word = ""
    while word != "stop":
        word = rank.receive(timeout_s=60)["kind"]
        rank.emit({"kind": "heard", "word": word})
