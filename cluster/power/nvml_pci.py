"""A GPU's place on the PCI bus, and NVML's calls that may be missing."""

from collections.abc import Callable
from typing import Any

from joulelaw.cluster.power.nvml_gpu import supported

try:
    import pynvml as nvml
except ImportError:  # the law and its figures install without it
    nvml = None


def bus_id_of(handle: Any) -> str:
    """A GPU's place on the PCI bus, as NVML writes it: "00000000:17:00.0"; empty where it is not told."""
    info = ask("nvmlDeviceGetPciInfo", handle)
    return text(info.busId) if info else ""


def pcie_of(handle: Any) -> tuple[int, int] | None:
    """The PCIe generation that GPU and machine can do, and the lanes in use; None where not told.

    The generation in use falls while a GPU is idle, and says nothing.
    """
    generation, lanes = ask("nvmlDeviceGetMaxPcieLinkGeneration", handle), ask("nvmlDeviceGetCurrPcieLinkWidth", handle)
    return (int(generation), int(lanes)) if generation and lanes else None


def ask(name: str, *arguments: Any) -> Any:
    """What the call gives; None where this pynvml, driver or GPU does not have it, or where it fails."""
    call: Callable[..., Any] | None = getattr(nvml, name, None)
    try:
        return supported(call, *arguments) if call else None
    except nvml.NVMLError:
        return None


def text(value: bytes | str) -> str:
    """A PCI bus id in one spelling."""
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else value).upper()
