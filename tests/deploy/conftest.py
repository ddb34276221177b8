"""One Ray cluster, started as an operator does, for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.deploy.ray_nodes import TOKEN, RayNodes


@pytest.fixture(scope="session")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayNodes]:
    with RayNodes(tmp_path_factory.mktemp("nodes"), TOKEN) as nodes:
        yield nodes
