"""A gang on this machine, without Ray: ranks forked from a server of this process."""

from collections.abc import Sequence

from joulelaw.cluster.nodes.inventory import Device
from joulelaw.cluster.ranks.gang import GangLimits, RankGang, Seat
from joulelaw.cluster.ranks.rank import RankProcess, RankSpec
from joulelaw.cluster.ranks.server import ForkServer
from joulelaw.cluster.ranks.wire import Message


class LocalRank:
    """A rank forked by `server`, which is started, or started anew, where it does not run."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server
        self._process = RankProcess()

    def launch(self, spec: RankSpec) -> None:
        self._process.launch(self._server.address, spec)

    def poll(self) -> list[Message]:
        return self._process.poll()

    def send(self, message: Message) -> None:
        self._process.send(message)

    def kill(self) -> None:
        self._process.kill()

    def flush(self) -> None:
        """Nothing waits here."""


class LocalGang(RankGang):
    """The Gang over `devices` of this machine. The server outlives it; whoever made the server closes it."""

    def __init__(
        self,
        server: ForkServer,
        devices: Sequence[Device],
        node_id: str = "local",
        limits: GangLimits | None = None,
    ) -> None:
        super().__init__([Seat(device, node_id, "127.0.0.1", LocalRank(server)) for device in devices], limits)
