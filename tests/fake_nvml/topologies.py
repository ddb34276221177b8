"""Machines of fake GPUs whose joints are known: each as `FakeGpu`s for the library, with its truth in words."""

from collections.abc import Sequence

from tests.fake_nvml.devices import FakeGpu, SensorClass

# NVLinks between the eight GPUs of a DGX-1 with V100, six each: two squares with a bond each way across.
# NVIDIA, "DGX-1 With Tesla V100 System Architecture" (white paper, 2017), and `nvidia-smi topo -m` on one.
CUBE_MESH = (
    (0, 1, 1, 2, 2, 0, 0, 0),
    (1, 0, 2, 1, 0, 2, 0, 0),
    (1, 2, 0, 2, 0, 0, 1, 0),
    (2, 1, 2, 0, 0, 0, 0, 1),
    (2, 0, 0, 0, 0, 1, 1, 2),
    (0, 2, 0, 0, 1, 0, 2, 1),
    (0, 0, 1, 0, 1, 2, 0, 2),
    (0, 0, 0, 1, 2, 1, 2, 0),
)


def uuid(index: int) -> str:
    return f"GPU-{index:08d}-0000-0000-0000-000000000000"


def switched(count: int = 8, links: int = 12, end: str = "s", p2p: int = 1) -> list[FakeGpu]:
    """Every GPU with all its links to switches, as in a DGX A100: all reach each other at full width."""
    ends = ",".join(f"s{number % 6}" if end == "s" else end for number in range(links))
    return [_gpu(i, f"{i // 4}.{i % 4}.0.0.0", ends, p2p=p2p) for i in range(count)]


def meshed(lanes: Sequence[Sequence[int]] = CUBE_MESH) -> list[FakeGpu]:
    """GPUs joined directly by so many links, the first half on one socket, two below each PCIe switch."""
    half = len(lanes) // 2
    paths = [f"{i // half}.{i % half // 2}.0.0.{i}" for i in range(len(lanes))]
    ends = [",".join(str(other) for other, number in enumerate(row) for _ in range(number)) for row in lanes]
    return [_gpu(i, paths[i], ends[i], sensor="v100") for i in range(len(lanes))]


def bridged(pairs: int = 2, links: int = 4) -> list[FakeGpu]:
    """Pairs with a bridge of so many links, and one more that is down; pairs are on different host bridges."""
    ends = [",".join([*[str(i ^ 1)] * links, "-"]) for i in range(2 * pairs)]
    return [_gpu(i, f"0.{i // 2}.0.0.{i}", ends[i]) for i in range(2 * pairs)]


def plain(paths: Sequence[str], lanes: int = 16) -> list[FakeGpu]:
    """GPUs on PCIe only, at these places ("socket.bridge.switch.switch.board")."""
    return [_gpu(i, path, "", sensor="turing", pcie_lanes=lanes) for i, path in enumerate(paths)]


def _gpu(index: int, path: str, nvlinks: str, sensor: SensorClass = "a100", **settings: int) -> FakeGpu:
    joints = {"path": path, "nvlinks": nvlinks} if nvlinks else {"path": path}
    return FakeGpu(uuid(index), sensor=sensor, settings={**joints, **settings})
