"""What joins a trial's devices, measured on its own process group before the model is built, in half a second at most.

Every rank sends to the next and receives from the one before at the same time, first around each node's ranks, then
between ranks of the same place on neighbouring nodes. A rate is bytes sent by the time it took, in one direction and
per device: what nccl-tests call bus bandwidth (doc/PERFORMANCE.md; for sends and receives its factor is 1). That of the
slowest device counts.
"""

import json
import mmap
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from joulelaw.bench.training.process_group import Group
from joulelaw.bench.training.rank_state import synchronize
from joulelaw.bench.training.transports import joined, transports
from joulelaw.cluster.nodes.topology import LinkKind
from joulelaw.cluster.power.nvml_links import nvml_links
from joulelaw.cluster.ranks.rank import RankContext

# Messages grow fourfold until one takes long enough to time, as far as these; then the fastest of some counts.
FIRST_BYTES = 2**16
LAST_BYTES = {"cpu": 2**24, "cuda": 2**26}
LONG_ENOUGH_S = 0.01
REPEAT_S = 0.05
MOST_REPEATS = 20


@dataclass(frozen=True)
class Ring:
    """The other ends of one rank's exchange."""

    send_to: int
    receive_from: int


def probe_links(group: Group, context: RankContext, device: torch.device, nccl_log: Path | None) -> None:
    """Measures, and emits from rank 0 one event:

    {"kind": "links", "transport": str | None, "probed_link_bytes_per_s": float | None,
    "probed_network_bytes_per_s": float | None}. The first rate is within nodes and None with one device on each; the
    second is between nodes and None for one node. `transport` is gloo, or what NCCL's log tells (`transports`).
    """
    within_s, between_s = (_seconds_a_byte(group, device, ring) for ring in rings(context))
    own = {"within": within_s, "between": between_s, "transports": own_transports(context, nccl_log)}
    found = [json.loads(text) for text in group.gather(json.dumps(own))]
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if context.rank != 0:
        return
    context.emit(
        {
            "kind": "links",
            "transport": joined(name for each in found for name in each["transports"]),
            "probed_link_bytes_per_s": _rate([each["within"] for each in found]),
            "probed_network_bytes_per_s": _rate([each["between"] for each in found]),
        }
    )


@contextmanager
def logged_nccl(device: torch.device) -> Iterator[Path | None]:
    """NCCL writes its log to a file for as long as the `with` lasts, if it has not been used before; None on CPU.

    Who set NCCL_DEBUG finds the messages on standard output, where they would have been.
    """
    if device.type == "cpu":
        yield None
        return
    wanted = "NCCL_DEBUG" in os.environ
    with tempfile.TemporaryDirectory(prefix="joulelaw-nccl-") as folder:
        path = Path(folder) / "log"
        os.environ.update(NCCL_DEBUG="INFO", NCCL_DEBUG_SUBSYS="INIT,P2P,SHM,NET", NCCL_DEBUG_FILE=str(path))
        yield path
        if wanted and path.exists():
            print(path.read_text(errors="replace"))


def rings(context: RankContext) -> tuple[Ring | None, Ring | None]:
    """This rank's exchange within its node and that between nodes; None where there is none.

    Ranks of a node are next to each other, and each node has as many.
    """
    rank, size, here = context.rank, context.world_size, context.local_world_size
    first = rank - context.local_rank
    within = Ring(first + (context.local_rank + 1) % here, first + (context.local_rank - 1) % here)
    between = Ring((rank + here) % size, (rank - here) % size)
    return (within if here > 1 else None), (between if size > here else None)


def _seconds_a_byte(group: Group, device: torch.device, ring: Ring | None) -> float | None:
    """By the fastest of some exchanges of the largest message. All ranks must call it."""
    if ring is None:
        return None
    number = FIRST_BYTES
    buffers = _buffers(number, device)
    _exchange(group, device, ring, buffers)  # connects
    while True:
        duration_s = min(_exchange(group, device, ring, buffers) for _ in range(3))  # one may have had to wait
        if group.agree(int(duration_s > LONG_ENOUGH_S or number >= LAST_BYTES[device.type])):
            break
        number *= 4
        buffers = _buffers(number, device)
    repeats = group.agree(min(MOST_REPEATS, int(REPEAT_S / duration_s)))
    return min([duration_s, *(_exchange(group, device, ring, buffers) for _ in range(repeats))]) / number


def _exchange(group: Group, device: torch.device, ring: Ring, buffers: Sequence[torch.Tensor]) -> float:
    """Seconds that it takes this rank to send one buffer and to receive the other."""
    mine, theirs = buffers
    operations = [
        dist.P2POp(dist.isend, mine, ring.send_to),
        dist.P2POp(dist.irecv, theirs, ring.receive_from),
    ]
    group.barrier()
    synchronize(device)
    began_s = time.perf_counter()
    for work in dist.batch_isend_irecv(operations):
        work.wait()
    synchronize(device)
    return time.perf_counter() - began_s


def _buffers(number: int, device: torch.device) -> list[torch.Tensor]:
    """Two of so many bytes, written to so that all pages are there.

    On CPU they come straight from the kernel: a large block that malloc gives and gets back changes how it gives the
    next, and the trial is to find it as it always is.
    """
    if device.type == "cpu":
        tensors = [torch.frombuffer(mmap.mmap(-1, number), dtype=torch.uint8) for _ in range(2)]
    else:
        tensors = [torch.empty(number, dtype=torch.uint8, device=device) for _ in range(2)]
    return [tensor.fill_(1) for tensor in tensors]


def _rate(seconds_a_byte: list[float | None]) -> float | None:
    known = [each for each in seconds_a_byte if each is not None]
    return 1 / max(known) if known else None


def own_transports(context: RankContext, nccl_log: Path | None) -> list[str]:
    """Of this rank's connections, by NCCL's log and by NVML's links between the devices of its node; gloo without."""
    if nccl_log is None:
        return ["gloo"]
    text = nccl_log.read_text(errors="replace") if nccl_log.exists() else ""
    uuids = [f"GPU-{torch.cuda.get_device_properties(i).uuid}" for i in range(context.local_world_size)]
    kinds = {frozenset((link.one, link.other)): link.kind for link in nvml_links()}
    first, here = context.rank - context.local_rank, context.local_world_size

    def between(one: int, other: int) -> LinkKind | None:
        if not all(first <= rank < first + here for rank in (one, other)):
            return None
        return kinds.get(frozenset((uuids[one - first], uuids[other - first])), "host")

    return sorted(transports(text, between))
