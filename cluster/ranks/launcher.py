"""The launcher: the actor on every node that owns its fork server, and by it the node's ranks."""

import contextlib
import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import ray

from joulelaw import InputError
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.ray_devices import inspect_offered
from joulelaw.cluster.ranks.node_ranks import Heard, NodeRanks, Order
from joulelaw.cluster.ranks.server import ForkServer, ServerStatus

# A call that waits for news, one that Ray repeats, one that waits for the libraries, and what is said meanwhile.
THREADS = 6
_UNTIL_IT_COMES = -1  # of a call whose answer was lost with a link
FILES_REMEDY = "submit the job with a --working-dir that holds them, or put them on every node at the same path"


class Launcher:
    """Knows its node's devices and keeps a fork server there, which ends with this actor. Several calls run at once."""

    def __init__(self, preload: Sequence[str], env: Mapping[str, str]) -> None:
        usual_priority()
        self._server = ForkServer(preload, env)
        self._serving = threading.Lock()
        self._server.start()  # the libraries load while the driver goes on
        self._ranks = NodeRanks(self._address)

    def inspect(self, node_id: str, cores_per_device: int, ray_gpus: int) -> Node:
        """The node, with the devices that Ray offers on it."""
        return inspect_offered(node_id, cores_per_device, ray_gpus)

    def find_files(self, root: str, working: str, sha256: Mapping[str, str]) -> str:
        """What the folder `root` of the driver's machine is called here, by the files in it and their SHA-256.

        Below the driver's working folder it is looked for below this actor's: Ray puts a copy of a job's working folder
        on every node. InputError where a file is not here, or another.
        """
        candidates = [Path(root)]
        with contextlib.suppress(ValueError):
            candidates.insert(0, Path.cwd() / Path(root).relative_to(working))
        wrong = {folder: wrong_files(folder, sha256) for folder in candidates}
        for folder, names in wrong.items():
            if not names:
                return str(folder)
        names = min(wrong.values(), key=len)
        shown = f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''}"
        raise InputError(f"{shown} not found there, or other content", remedy=FILES_REMEDY)

    def status(self) -> ServerStatus:
        """Once the server can fork."""
        with self._serving:
            return self._server.wait_ready()

    @ray.method(max_task_retries=_UNTIL_IT_COMES)  # type: ignore[untyped-decorator]
    def obey(self, life: str, first: int, orders: Sequence[Order]) -> None:
        """See NodeRanks."""
        self._ranks.obey(life, first, orders)

    def listen(self, life: str, first: int, wait_s: float) -> Heard:
        """See NodeRanks."""
        return self._ranks.listen(life, first, wait_s)

    def stop(self) -> None:
        """Ends the server and its ranks, and waits for them: killing the actor alone would not wait."""
        with self._serving:
            self._server.close()

    def _address(self) -> str:
        with self._serving:
            return self._server.address


def usual_priority(*, ahead: int = 0) -> None:
    """The raylet's, our parent's: Ray gives its workers a niceness of 15, and ranks and samplers would inherit it.

    On a busy node they would wait for anything else. On a cluster that we did not start only root may take it back;
    for others it is `RAY_worker_niceness=0 ray start`. `ahead`: by how much before others, as far as one may. Of this
    thread and those that it starts.
    """
    usual = os.getpriority(os.PRIO_PROCESS, os.getppid())
    for niceness in (usual, usual - ahead):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, niceness)


def wrong_files(folder: Path, sha256: Mapping[str, str]) -> list[str]:
    """The files that the folder lacks or has with other content."""
    return [name for name, digest in sha256.items() if _sha256(folder / name) != digest]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
