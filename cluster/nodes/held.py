"""The devices of one node that a study holds of Ray: one actor each, which has the device to itself."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.inventory import Device, Node
from joulelaw.cluster.nodes.ray_devices import device_of
from joulelaw.cluster.nodes.topology import neighbours
from joulelaw.cluster.ranks.gang import Seat
from joulelaw.cluster.ranks.node_link import NodeLink
from joulelaw.cluster.ranks.remote import Place, RankHost, RemoteRank
from joulelaw.cluster.raycalls import Call

_HOST_THREADS = 3  # a call that waits for the actor's end, one that Ray repeats, and one more
_CPU_SHARE_STEPS = 10_000  # Ray's smallest share of a CPU is 0.0001
_UNTIL_IT_COMES = -1  # of a call whose answer was lost with a link: the actor does each thing once
# An actor that ended before it told its GPU: asked again after so long. Where its node is what ended, Ray's node table
# says so, by default within a minute; a node that is there and on which no actor lives so long is of no use.
_AGAIN_S = 2.0
_GIVE_UP_S = 120.0


@dataclass
class Held:
    """A device that Ray granted, its actor, and the way to its ranks."""

    node_id: str
    device: Device
    place: Place
    actor: Any
    rank: RemoteRank
    leased: bool = False

    def seat(self) -> Seat:
        return Seat(self.device, self.node_id, self.place.host, self.rank, self.place.interface)


@dataclass(eq=False)
class _Ask:
    """A device that Ray was asked for: its actor to be, and that actor's first answer."""

    actor: Any
    place: Call


class NodeDevices:
    """What is held of a node, and asked for.

    Ray grants any of a node's GPUs: which one is known only then, so that all that are missing are asked for at once.
    """

    def __init__(
        self, node: Node, launcher: Any, ray_cpus: float, folders: Mapping[str, str], on_news: Callable[[], None]
    ) -> None:
        """`folders`: what folders of the driver are called on the node, `on_news` is called when a rank has any."""
        self.node = node
        self.held: dict[str, Held] = {}
        self.retired: set[str] = set()  # kept, so that nobody else is granted them, and lent no more
        self._link = NodeLink(launcher, on_news)
        self._folders = folders
        self._on_news = on_news
        self._asks: list[_Ask] = []
        self._to_ask_again = 0
        self._failing_s: float | None = None  # since when no ask came to anything
        self._not_before_s = float("-inf")
        # A CPU a rank, or an even share where the node has fewer CPUs than devices.
        share = min(1.0, int(ray_cpus / len(node.devices) * _CPU_SHARE_STEPS) / _CPU_SHARE_STEPS)
        self._options = {
            "num_gpus": 1,
            "num_cpus": share,
            "max_concurrency": _HOST_THREADS,
            "max_task_retries": _UNTIL_IT_COMES,
            "enable_task_events": False,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.node_id, soft=False),
        }

    @property
    def asked(self) -> int:
        """How many devices Ray has not granted yet."""
        return len(self._asks) + self._to_ask_again

    def count(self, model: str) -> int:
        """The node's devices of a model, held or not."""
        return sum(device.model == model for device in self.node.devices)

    def idle(self) -> Iterator[Held]:
        return (each for each in self.held.values() if not each.leased and each.device.uuid not in self.retired)

    def ask_for_missing(self) -> None:
        if time.monotonic() < self._not_before_s:
            return
        self._to_ask_again = 0
        for _ in range(len(self.node.devices) - len(self.held) - len(self._asks)):
            actor = ray.remote(RankHost).options(**self._options).remote()
            self._asks.append(_Ask(actor, Call(actor.place.remote(), f"a device of node {self.node.node_id[:6]}")))

    def take_grants(self) -> int:
        """How many devices Ray has granted since the last look.

        ClusterError where they are not what they should be, where actors end there again and again, or where nothing
        is left that could launch a rank.
        """
        if self._link.problem:
            raise ClusterError(f"node {self.node.node_id[:6]}: its launcher has ended for good ({self._link.problem})")
        for held in [each for each in self.held.values() if not each.leased]:
            held.rank.look()
            if held.rank.is_lost:
                self.give_back(held)
        answered = [ask for ask in self._asks if ask.place.done]  # looked at once: answers come in another thread
        self._asks = [ask for ask in self._asks if ask not in answered]
        return sum(self._take(ask) for ask in answered)

    def _take(self, ask: _Ask) -> bool:
        try:
            place: Place = ask.place.value()
        except ClusterError as problem:
            self._note_failure(problem)
            return False
        device = device_of(self.node.devices, place.gpu_id)
        if device.uuid in self.held:
            raise ClusterError(f"node {self.node.node_id[:6]}: Ray granted GPU {place.gpu_id} twice")
        rank = RemoteRank(ask.actor, self._link, self._on_news, self._folders)
        self.held[device.uuid] = Held(self.node.node_id, device, place, ask.actor, rank)
        self._failing_s = None
        return True

    def _note_failure(self, problem: ClusterError) -> None:
        now_s = time.monotonic()
        self._failing_s = now_s if self._failing_s is None else self._failing_s
        if now_s - self._failing_s > _GIVE_UP_S:
            raise problem
        self._to_ask_again += 1
        self._not_before_s = now_s + _AGAIN_S

    def choose(self, model: str, number: int, avoid: Collection[str]) -> list[Held]:
        """The idle devices of a model to take together. ClusterError where there are too few."""
        free = {each.device.uuid for each in self.idle()}
        chosen = neighbours(self.node, free, number, model, avoid)
        if len(chosen) < number:
            there = sum(each.device.model == model for each in self.idle())
            raise ClusterError(f"{number} x {model} on node {self.node.node_id[:6]} are not free now: {there} are")
        return [self.held[uuid] for uuid in chosen]

    def give_back(self, held: Held) -> None:
        del self.held[held.device.uuid]
        ray.kill(held.actor)

    def ask_no_more(self) -> None:
        for ask in self._asks:
            ray.kill(ask.actor)
        self._asks, self._to_ask_again = [], 0

    def lose(self, what: str, cause: Cause) -> None:
        """The node is gone: its ranks end as lost."""
        for held in self.held.values():
            held.rank.lose(what, cause)
        self.close()

    def close(self) -> None:
        """Gives all back to Ray."""
        self.ask_no_more()
        for held in list(self.held.values()):
            self.give_back(held)
