"""A real pynvml on the fake NVML library of tests/fake_nvml."""

import pytest

from tests.fake_nvml import build


@pytest.fixture(scope="session")
def fake_nvml() -> build.FakeNvml:
    return build.fake_nvml()
