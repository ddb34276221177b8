"""What happened to the nodes of a cluster while a study runs, as its driver learns of it."""

from dataclasses import dataclass
from typing import Literal

from joulelaw.cluster.failures import Cause

ChangeKind = Literal["node_joined", "node_lost", "node_refused"]


@dataclass(frozen=True)
class NodeChange:
    """A node that was taken up, was lost, or cannot be used; `text` tells people of it in one line.

    `cause` is NODE_LOST or NETWORK_CUT where it was lost, and None else.
    """

    kind: ChangeKind
    node_id: str
    text: str
    device_uuids: tuple[str, ...] = ()
    cause: Cause | None = None
