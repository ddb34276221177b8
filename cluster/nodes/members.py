"""The nodes of a cluster as the driver holds them: each on its own way from being there to being of use."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from joulelaw import InputError
from joulelaw.cluster.failures import ClusterError
from joulelaw.cluster.nodes.inventory import Node
from joulelaw.cluster.nodes.node_watch import RayNode
from joulelaw.cluster.nodes.study_files import StudyFiles
from joulelaw.cluster.power.meter import MeterOptions
from joulelaw.cluster.ranks.launcher import THREADS, Launcher
from joulelaw.cluster.ranks.server import ServerStatus
from joulelaw.cluster.raycalls import Call
from joulelaw.cluster.streams.metering import MeterInfo
from joulelaw.cluster.streams.sampler_host import SamplerHost

CORES_LABEL = "joulelaw/cores-per-device"
_JOIN_S = 300.0  # torch, transformers and deepspeed from a cold network disk; the fork server itself gives up before
_RETRIES = 3  # of a call to an actor that is just starting anew


class MemberState(Enum):
    JOINING = "joining"
    USABLE = "usable"
    REFUSED = "refused"
    LOST = "lost"


@dataclass(frozen=True)
class Terms:
    """What a study wants of every node: modules to import, environment, meter, cores per logical device, files."""

    preload: Sequence[str]
    env: Mapping[str, str]
    meter: MeterOptions
    cores_per_device: int
    files: StudyFiles | None = None


class Member:
    """A node and its two actors. `advance` moves it on as its answers come, and waits for none.

    It is of use once its inventory is taken, it has the study's files, its fork server can fork, and its meter is open.
    """

    def __init__(self, entry: RayNode, terms: Terms) -> None:
        self.state = MemberState.JOINING
        self.node_id = entry.node_id
        self.ray_cpus = entry.cpus
        self.node: Node | None = None
        self.status: ServerStatus | None = None
        self.meter: tuple[str, MeterInfo] | None = None  # with the name of the sampler's life
        self.folders: dict[str, str] = {}  # what folders of the driver's machine are called there
        self.lacks: InputError | None = None  # which of the study's files
        self.problem: Exception | None = None
        self.launcher: Any = None
        self.sampler: Any = None
        self._terms = terms
        self._began_s = time.monotonic()
        self._inspecting: Call | None = None
        self._serving: Call | None = None
        self._opening: Call | None = None
        self._finding: Call | None = None
        cores = cores_of(entry, terms.cores_per_device)
        if isinstance(cores, InputError):
            self.refuse(cores)
        else:
            self._begin(cores, entry.gpus)

    def _begin(self, cores_per_device: int, ray_gpus: int) -> None:
        """It tells its inventory and which files it has while its libraries load."""
        self.launcher = _pinned(Launcher, self.node_id, THREADS).remote(self._terms.preload, self._terms.env)
        inspection = self.launcher.inspect.remote(self.node_id, cores_per_device, ray_gpus)
        self._inspecting = self._call(inspection, "taking its inventory")
        if (files := self._terms.files) is not None:
            folder = str(files.root.absolute())
            found = self.launcher.find_files.remote(folder, str(files.working), dict(files.sha256))
            self._finding = self._call(found, "looking for the study's files")
        self._serving = self._call(self.launcher.status.remote(), "its fork server")

    @property
    def is_gone(self) -> bool:
        """Whether it is lost, or cannot be used."""
        return self.state in (MemberState.LOST, MemberState.REFUSED)

    @property
    def is_examined(self) -> bool:
        """Whether its inventory is taken and the study's files are there, be its libraries still loading."""
        return self.node is not None and (self._terms.files is None or bool(self.folders)) and not self.is_gone

    def advance(self, accepted: Callable[[Node], Node]) -> bool:
        """Moves on; whether it has become usable just now.

        `accepted` names the node's devices as the study does, or raises an InputError that tells why it cannot be used.
        """
        if self.state is not MemberState.JOINING:
            return False
        try:
            return self._advance(accepted)
        except (InputError, ClusterError) as problem:
            self.refuse(problem)
            return False

    def _advance(self, accepted: Callable[[Node], Node]) -> bool:
        if self.node is None and self._inspecting is not None and self._inspecting.done:
            self.node = accepted(self._inspecting.value())
            self.sampler = _pinned(SamplerHost, self.node_id).remote(self.node.devices, self._terms.meter)
            self._opening = self._call(self.sampler.info.remote(), "opening its meter")
        if self._finding is not None and self._finding.done and self.node is not None and not self.folders:
            self._find()
        found = self._terms.files is None or bool(self.folders)
        if not found or not all(call is not None and call.done for call in (self._serving, self._opening)):
            if time.monotonic() - self._began_s > _JOIN_S:
                raise ClusterError(f"node {self.node_id[:6]} is not ready after {_JOIN_S:g} s")
            return False
        assert self._opening is not None
        assert self._serving is not None
        self.meter, self.status = self._opening.value(), self._serving.value()
        self.state = MemberState.USABLE
        return True

    def _find(self) -> None:
        """Takes over what the folder with the study's files is called there."""
        assert self._finding is not None
        assert self._terms.files is not None
        try:
            self.folders[str(self._terms.files.root)] = self._finding.value()
        except InputError as lacks:
            self.lacks = lacks
            raise

    def refuse(self, problem: Exception) -> None:
        """It is of no use to this study, whatever comes."""
        self.state, self.problem = MemberState.REFUSED, problem
        self.kill()

    def lose(self) -> None:
        """It is gone."""
        self.state = MemberState.LOST
        self.kill()

    def stops(self) -> list[Any]:
        """Asks its actors to end what they own; the answers to wait for before they are killed."""
        if self.is_gone:
            return []
        return [actor.stop.remote() for actor in (self.launcher, self.sampler) if actor is not None]

    def kill(self) -> None:
        for actor in (self.launcher, self.sampler):
            if actor is not None:
                ray.kill(actor)

    def _call(self, reference: Any, what: str) -> Call:
        return Call(reference, f"node {self.node_id[:6]}: {what}")


def cores_of(entry: RayNode, usual: int) -> int | InputError:
    """A node may be cut into other logical devices than the sweep says, by a label of its Ray."""
    label = entry.labels.get(CORES_LABEL)
    if label is None:
        return usual
    if label.isascii() and label.isdigit() and int(label) > 0:
        return int(label)
    return InputError(
        f"{label!r} is not a number of cores", where=f"node {entry.node_id[:6]}, label {CORES_LABEL}", remedy="say 2"
    )


def _pinned(kind: type, node_id: str, threads: int = 1) -> Any:
    """An actor class that runs on one node, takes none of its resources, and starts anew if it dies."""
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(kind).options(
        num_cpus=0,
        num_gpus=0,
        max_concurrency=threads,
        max_restarts=-1,
        max_task_retries=_RETRIES,
        enable_task_events=False,  # of each call Ray would keep a record that nobody asks for
        scheduling_strategy=strategy,
    )
