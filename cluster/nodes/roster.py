"""Who is in the cluster: members for Ray's nodes as they come, and what became of them."""

import time
from collections import Counter

from joulelaw import InputError
from joulelaw.cluster.failures import Cause, ClusterError
from joulelaw.cluster.nodes.changes import ChangeKind, NodeChange
from joulelaw.cluster.nodes.inventory import Node, hostname_hash, named_by_node
from joulelaw.cluster.nodes.members import Member, MemberState, Terms
from joulelaw.cluster.nodes.node_watch import NodeWatch
from joulelaw.cluster.nodes.versions import SOURCE, check_joiner, check_same, installed, usual_versions
from joulelaw.cluster.ranks.launcher import FILES_REMEDY

# A node that did not come to be of use is tried again: what was in its way may pass, such as a node before it on the
# same machine that Ray has not found dead yet, and that still has the devices.
_AGAIN_S = 60.0
_TRIES = 3
# What driver and nodes must have in common: the driver itself trains nothing.
_DRIVERS_OWN = ("python", SOURCE, "ray", "pyarrow")


class Roster:
    """The members by node id. `advance` moves all on, and waits for none."""

    def __init__(self, terms: Terms) -> None:
        self.lost: dict[str, tuple[Cause, str]] = {}
        self._terms = terms
        self._members: dict[str, Member] = {}
        self._tries: Counter[str] = Counter()
        self._again_s: dict[str, float] = {}  # when nodes that cannot be used are tried again
        self._told: dict[str, str] = {}  # why they cannot
        self._software: dict[str, str] | None = None  # of the nodes that the study began with
        self._watch = NodeWatch()
        self._seen = self._watch.nodes

    def advance(self) -> list[NodeChange]:
        """Which nodes have joined, were lost, or cannot be used since the last call."""
        changes = []
        self._seen = self._watch.nodes
        for node_id, seen in self._seen.items():
            member = self._members.get(node_id)
            if seen.death is None and seen.gpus >= 1 and (member is None or self._is_due_again(node_id)):
                self._members[node_id] = new = Member(seen, self._terms)
                self._tries[node_id] += 1
                changes += self._refused(new) if new.problem else []
            elif member is not None and seen.death is not None and member.state is not MemberState.LOST:
                changes += self._lose(member, *seen.death)
        for member in self._members.values():
            if member.node_id not in self._seen and member.state is not MemberState.LOST:
                changes += self._lose(member, Cause.NODE_LOST, "Ray does not know of it any more")
            if member.state is MemberState.JOINING:
                changes += self._advanced(member)
        return changes

    def _advanced(self, member: Member) -> list[NodeChange]:
        if member.advance(self._accepted):
            return [_change("node_joined", member, "joined")]
        if member.problem is None:
            return []
        if self._tries[member.node_id] < _TRIES:
            self._again_s[member.node_id] = time.monotonic() + _AGAIN_S
        return self._refused(member)

    def _is_due_again(self, node_id: str) -> bool:
        due = time.monotonic() >= self._again_s.get(node_id, float("inf"))
        if due:
            del self._again_s[node_id]
        return due

    def _refused(self, member: Member) -> list[NodeChange]:
        """Told once, however often it is tried in vain."""
        change = _refusal(member)
        if self._told.get(member.node_id) == change.text:
            return []
        self._told[member.node_id] = change.text
        return [change]

    def _lose(self, member: Member, cause: Cause, what: str) -> list[NodeChange]:
        before = member.state
        member.lose()
        if before is MemberState.REFUSED:
            return []
        self.lost[member.node_id] = cause, what
        return [_change("node_lost", member, f"is lost: {what}", cause)]

    def _accepted(self, node: Node) -> Node:
        """The node with its devices named as no other's. InputError where it cannot be used with the others."""
        others = self.nodes
        host = self._seen[node.node_id].host
        if sum(each.host == host and each.gpus >= 1 and each.death is None for each in self._seen.values()) > 1:
            node = named_by_node(node)
        taken = {device.uuid: other.node_id for other in others for device in other.devices}
        if twice := [device.uuid for device in node.devices if device.uuid in taken]:
            raise InputError(
                f"node {node.node_id[:6]} offers {twice[0]}, which node {taken[twice[0]][:6]} offers too",
                remedy="start one Ray node per machine, or give each other GPUs by CUDA_VISIBLE_DEVICES",
            )
        if self._software is not None:
            check_joiner(node, self._software)
        return node

    def begin(self) -> None:
        """All nodes that are there at the start have the study's files and the same software, and other machines what
        this process has. One that joins later, and has not, is left out.

        Raises:
            InputError: they differ, naming nodes, packages and versions; or files are missing, naming nodes and files.
        """
        own = tuple(each for each in installed() if each[0] in _DRIVERS_OWN)
        here = Node("driver", hostname_hash(), (), 0, 0, "", software=own)
        elsewhere = any(node.hostname_hash != here.hostname_hash for node in self.nodes)
        check_same([*self.nodes, here] if elsewhere else self.nodes)
        if missing := [f"node {each.node_id[:6]}: {each.lacks.what}" for each in self.members if each.lacks]:
            raise InputError(f"files of the sweep are missing on {'; '.join(missing)}", remedy=FILES_REMEDY)
        self._software = dict(own) | usual_versions(self.nodes)

    def check_any(self) -> None:
        """Raises, where no node is of use or soon will be, why the first is not; InputError where none has devices."""
        if self.nodes:
            return
        if problem := next((member.problem for member in self.members if member.problem is not None), None):
            raise problem
        if self.is_joining:
            raise ClusterError("no node of the Ray cluster has told its devices in time")
        raise InputError(
            "no node of the Ray cluster offers a GPU", remedy="start nodes with --num-gpus, logical ones on a CPU"
        )

    def refuse(self, node_id: str, problem: Exception) -> NodeChange:
        """A node that was of use is so no more, and is not tried again."""
        self._members[node_id].refuse(problem)
        return _refusal(self._members[node_id])

    def member(self, node_id: str) -> Member:
        return self._members[node_id]

    @property
    def members(self) -> tuple[Member, ...]:
        return tuple(self._members.values())

    @property
    def usable(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if member.state is MemberState.USABLE)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Of the members whose inventory is taken and who have not gone."""
        return tuple(member.node for member in self.members if member.node and not member.is_gone)

    @property
    def is_examined(self) -> bool:
        """Whether the inventory of all is taken, and it is known whether they have the study's files."""
        return all(member.is_examined or member.is_gone for member in self.members)

    @property
    def is_joining(self) -> bool:
        """Whether any is on its way."""
        return any(member.state is MemberState.JOINING for member in self.members)

    def close(self) -> None:
        self._watch.close()


def _refusal(member: Member) -> NodeChange:
    return _change("node_refused", member, f"cannot be used: {member.problem}")


def _change(kind: ChangeKind, member: Member, text: str, cause: Cause | None = None) -> NodeChange:
    uuids = tuple(device.uuid for device in member.node.devices) if member.node else ()
    return NodeChange(kind, member.node_id, f"node {member.node_id[:6]} {text}", uuids, cause)
