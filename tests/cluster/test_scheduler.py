"""Groups take the nodes that they fill."""

from joulelaw.cluster.scheduling.scheduler import choose_nodes


def test_nodes_are_filled_tightly_and_shared_evenly() -> None:
    assert choose_nodes({"a": 8, "b": 2, "c": 4}, 2) == ("b",)
    assert choose_nodes({"a": 8, "b": 2, "c": 4}, 8, node_count=2) == ("c", "a")
    assert choose_nodes({"a": 8, "b": 2}, 8, node_count=2) is None
    assert choose_nodes({"a": 8, "b": 8}, 3, node_count=2) is None
