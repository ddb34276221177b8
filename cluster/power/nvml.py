"""NVIDIA GPUs through NVML: which there are, and their meter. No other file but nvml_gpu.py touches pynvml.

NVML needs no CUDA context and knows nothing of CUDA_VISIBLE_DEVICES; devices are named by UUID throughout.
A MIG slice has no meter of its own: its GPU is metered, and `covers` says which slices share it.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from joulelaw import InputError
from joulelaw.cluster.power.meter import DeviceLike, MeterUnavailableError
from joulelaw.cluster.power.nvml_gpu import NvmlGpu, supported
from joulelaw.cluster.power.nvml_meter import NvmlMeter
from joulelaw.cluster.power.nvml_pci import bus_id_of, pcie_of
from joulelaw.cluster.power.rapl_zones import open_host

try:
    import pynvml as nvml
except ImportError:  # the law and its figures install without it
    nvml = None


@dataclass(frozen=True)
class NvmlDevice:
    """A GPU, or a MIG slice of one, as NVML names it."""

    uuid: str
    name: str
    index: int  # NVML's, of the whole GPU; CUDA may count otherwise
    memory_bytes: int
    power_limit_w: float | None  # enforced; None for a slice and where NVML gives none
    driver: str
    compute_capability: tuple[int, int] | None = None  # None where NVML gives none
    pci_bus_id: str = ""
    pcie: tuple[int, int] | None = None  # generation and lanes; see nvml_pci.pcie_of


def nvml_problem() -> str:
    """Why NVML cannot be used here, or nothing when it can."""
    if nvml is None:
        return "the pynvml module is not installed (pip install nvidia-ml-py)"
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return f"NVML: {error}"
    nvml.nvmlShutdown()
    return ""


def nvml_devices() -> list[NvmlDevice]:
    """All GPUs NVML shows, slices in place of a GPU cut by MIG; none without NVML's library or a driver.

    Raises InputError when there is a driver and it does not work: a GPU machine must not pass for a CPU one.
    """
    if nvml is None:
        return []
    try:
        with library():
            return _listed()
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        return []
    except nvml.NVMLError as error:
        raise InputError(
            f"the NVIDIA driver answers: {error}", where="NVML", remedy="see that nvidia-smi works, then try again"
        ) from error


@contextmanager
def library() -> Iterator[None]:
    """NVML initialised for the length of a `with`."""
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _listed() -> list[NvmlDevice]:
    """Raises the failure of the last GPU where none is left; those we may not use (a container's) are none of ours."""
    driver = str(supported(nvml.nvmlSystemGetDriverVersion) or "")
    found: list[NvmlDevice] = []
    failure = None
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            found += [_describe(part, index, driver) for part in slices_of(handle) or [handle]]
        except nvml.NVMLError as error:
            logging.getLogger(__name__).warning("GPU %d is left out: %s", index, error)
            failure = failure if isinstance(error, nvml.NVMLError_NoPermission) else error
    if failure and not found:
        raise failure
    return found


def slices_of(gpu: Any) -> list[Any]:
    """The handles of a GPU's MIG slices; none where it is whole."""
    if (supported(nvml.nvmlDeviceGetMigMode, gpu) or [0])[0] == 0:
        return []
    slices = []
    for index in range(supported(nvml.nvmlDeviceGetMaxMigDeviceCount, gpu) or 0):
        with contextlib.suppress(nvml.NVMLError_NotFound):  # a place on the GPU where no slice was made
            slices.append(supported(nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, index))
    return [part for part in slices if part is not None]


def _describe(handle: Any, index: int, driver: str) -> NvmlDevice:
    memory = supported(nvml.nvmlDeviceGetMemoryInfo, handle)
    limit_mw = supported(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    capability = supported(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return NvmlDevice(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(supported(nvml.nvmlDeviceGetName, handle) or ""),
        index=index,
        memory_bytes=int(memory.total) if memory else machine_bytes,  # not supported: memory shared with the host
        power_limit_w=None if limit_mw is None else limit_mw / 1000,
        driver=driver,
        compute_capability=(int(capability[0]), int(capability[1])) if capability else None,
        pci_bus_id=bus_id_of(handle),
        pcie=pcie_of(handle),
    )


def open_nvml(devices: Sequence[DeviceLike], root: Path | None = None) -> NvmlMeter:
    """Meter these GPUs (or slices), by UUID; `root` stands for /sys. Leaves NVML initialised.

    Raises MeterUnavailableError without NVML, for a device that is no GPU, and for a UUID that NVML does not know.
    """
    where, others = "meter.kind 'nvml'", [device.uuid for device in devices if device.kind != "cuda"]
    if others or not devices:
        what = f"not an NVIDIA GPU: {', '.join(others)}" if others else "there is no GPU to meter"
        raise MeterUnavailableError(what, where=where, remedy="choose 'rapl' or 'estimate' for CPU devices")
    if problem := nvml_problem():
        raise MeterUnavailableError(problem, where=where, remedy="install the NVIDIA driver, or choose another meter")
    nvml.nvmlInit()
    gpus: dict[str, NvmlGpu] = {}
    try:
        for device in devices:
            gpu = _locate(device.uuid)
            gpus.setdefault(gpu.uuid, gpu)
        beside = [gpu for gpu in _whole_gpus() if gpu.uuid not in gpus]
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        remedy = "compare with `nvidia-smi -L`: the device may have gone, or be hidden from this container"
        raise MeterUnavailableError(f"NVML has no device {device.uuid}: {error}", where=where, remedy=remedy) from error
    uuids = tuple(device.uuid for device in devices)
    return NvmlMeter(uuids, list(gpus.values()), beside, open_host(root), nvml.nvmlShutdown)


def _locate(uuid: str) -> NvmlGpu:
    """The GPU that meters the device of this UUID, which is one of its slices where it is cut by MIG."""
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        if not uuid.startswith("MIG-"):
            return NvmlGpu(uuid, handle)
        return _whole(nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle))
    except nvml.NVMLError_FunctionNotFound:
        for gpu in _whole_gpus():
            if uuid in (gpu.uuid, *gpu.slices):
                return gpu
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_FOUND) from None


def _whole(handle: Any) -> NvmlGpu:
    slices = tuple(str(nvml.nvmlDeviceGetUUID(part)) for part in slices_of(handle))
    return NvmlGpu(str(nvml.nvmlDeviceGetUUID(handle)), handle, slices)


def _whole_gpus() -> list[NvmlGpu]:
    """All that NVML shows and that answer."""
    gpus = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with contextlib.suppress(nvml.NVMLError):  # lost, or not ours to see: the inventory has told
            gpus.append(_whole(nvml.nvmlDeviceGetHandleByIndex(index)))
    return gpus
