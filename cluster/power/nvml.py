"""NVIDIA GPUs through NVML: which there are, and what they draw. The one file that touches pynvml.

NVML needs no CUDA context and knows nothing of CUDA_VISIBLE_DEVICES; devices are named by UUID throughout.
A MIG slice has no meter of its own: its GPU is metered, and `covers` says which slices share it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from joulelaw import InputError
from joulelaw.cluster.power.meter import GPU_LOST, DeviceLike, MeterKind, MeterUnavailableError, Reading, Surrounding
from joulelaw.cluster.power.sensor import Sensor

try:
    import pynvml as nvml
except ImportError:  # the law and its figures install without it
    nvml = None

# By preference: what a card draws now, then its 1 s average, both by name; the older call means either, by card.
POWER_FIELDS = ("NVML_FI_DEV_POWER_INSTANT", "NVML_FI_DEV_POWER_AVERAGE")
VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t
TEMPERATURE_EVERY_NS = 1_000_000_000  # degrees change over seconds; each call costs the sampler time


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
        with _library():
            driver = str(nvml.nvmlSystemGetDriverVersion())
            return [_describe(handle, index, driver) for index, handle in _all_handles()]
    except (nvml.NVMLError_LibraryNotFound, nvml.NVMLError_DriverNotLoaded):
        return []
    except nvml.NVMLError as error:
        raise InputError(
            f"the NVIDIA driver answers: {error}", where="NVML", remedy="see that nvidia-smi works, then try again"
        ) from error


@contextmanager
def _library() -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _all_handles() -> Iterator[tuple[int, Any]]:
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            logging.getLogger(__name__).warning("GPU %d is left out: %s", index, error)
            continue
        slices = _slices(handle)
        yield from ((index, part) for part in slices or [handle])


def _slices(gpu: Any) -> list[Any]:
    """The handles of a GPU's MIG slices; none where it is whole."""
    if (_supported(nvml.nvmlDeviceGetMigMode, gpu) or [0])[0] == 0:
        return []
    slices = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            slices.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
        except nvml.NVMLError_NotFound:
            continue  # a place on the GPU where no slice was made
    return slices


def _describe(handle: Any, index: int, driver: str) -> NvmlDevice:
    memory = _supported(nvml.nvmlDeviceGetMemoryInfo, handle)
    limit_mw = _supported(nvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    capability = _supported(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    machine_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return NvmlDevice(
        uuid=str(nvml.nvmlDeviceGetUUID(handle)),
        name=str(nvml.nvmlDeviceGetName(handle)),
        index=index,
        memory_bytes=int(memory.total) if memory else machine_bytes,  # not supported: memory shared with the host
        power_limit_w=None if limit_mw is None else limit_mw / 1000,
        driver=driver,
        compute_capability=(int(capability[0]), int(capability[1])) if capability else None,
    )


def _supported(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call gives, or None where this device, driver or slice does not have it."""
    try:
        return call(*arguments)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound, nvml.NVMLError_InvalidArgument):
        return None


def _field_w(field_id: int, handle: Any) -> float:
    value = nvml.nvmlDeviceGetFieldValues(handle, [field_id])[0]
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    return float(getattr(value.value, VALUE_FIELDS[value.valueType])) / 1000


def _usage_w(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def _counter_j(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def _celsius(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


@dataclass
class _Gpu:
    """One metered GPU: which calls it answers is asked once, and again only while it gave an error instead."""

    uuid: str
    handle: Any
    asked: bool = False
    counter: Callable[[Any], float] | None = None
    power: Callable[[Any], float] | None = None
    power_name: str = ""
    celsius: Callable[[Any], float] | None = None
    temperature_c: float | None = None
    temperature_ns: int = -TEMPERATURE_EVERY_NS

    def ask(self) -> None:
        self.counter = _counter_j if _supported(_counter_j, self.handle) is not None else None
        self.celsius = _celsius if _supported(_celsius, self.handle) is not None else None
        fields: list[tuple[str, Callable[[Any], float]]] = [
            (name, partial(_field_w, getattr(nvml, name))) for name in POWER_FIELDS
        ]
        for name, call in [*fields, ("nvmlDeviceGetPowerUsage", _usage_w)]:
            if _supported(call, self.handle) is not None:
                self.power, self.power_name = call, name
                break
        self.asked = True

    def read(self) -> Reading:
        begin_ns = time.monotonic_ns()
        counter_j = power_w = None
        time_ns = begin_ns
        errors = []
        try:
            if not self.asked:
                self.ask()
                begin_ns = time.monotonic_ns()
            counter_j = self.counter(self.handle) if self.counter else None
        except nvml.NVMLError as error:
            errors.append(_error_text("energy counter", error))
        time_ns = (begin_ns + time.monotonic_ns()) // 2
        try:
            power_w = self.power(self.handle) if self.power else None
            self._read_temperature(time_ns)
        except nvml.NVMLError as error:
            errors.append(_error_text("power or temperature", error))
        if self.asked and not self.counter and not self.power:
            errors.append("this GPU gives neither energy nor power")
        return Reading(self.uuid, time_ns, power_w, counter_j, self.temperature_c, _worst(errors))

    def _read_temperature(self, now_ns: int) -> None:
        if self.celsius and now_ns - self.temperature_ns >= TEMPERATURE_EVERY_NS:
            self.temperature_c = None  # an old value must not outlive a failed call
            self.temperature_c = self.celsius(self.handle)
            self.temperature_ns = now_ns

    def describe(self) -> str:
        counter = "nvmlDeviceGetTotalEnergyConsumption" if self.counter else "no energy counter"
        return f"energy: {counter}; power: {self.power_name or 'none'}"


def _error_text(what: str, error: Any) -> str:
    lost = isinstance(error, (nvml.NVMLError_GpuIsLost, nvml.NVMLError_GpuNotFound, nvml.NVMLError_ResetRequired))
    return f"{GPU_LOST}: {error}" if lost else f"{what}: {error}"


def _worst(errors: list[str]) -> str:
    """The loss of a GPU is said once and first, as the verdict looks for it there."""
    return "; ".join(dict.fromkeys(sorted(errors, key=lambda text: not text.startswith(GPU_LOST))))


class NvmlMeter:
    """Energy counter and power of whole GPUs. Made by `open_nvml`, which leaves NVML initialised until `close`."""

    name = "nvml"
    kind: MeterKind = "measured"
    boundary = "gpu"

    def __init__(self, device_uuids: tuple[str, ...], gpus: list[_Gpu], covers: Mapping[str, tuple[str, ...]]) -> None:
        self.device_uuids = device_uuids
        self.covers = covers
        self.sensors: Mapping[str, Sensor] = {}
        self.surroundings: Mapping[str, Surrounding] = {}
        self._gpus = gpus

    @property
    def description(self) -> Mapping[str, str]:
        return {gpu.uuid: gpu.describe() for gpu in self._gpus}

    def read(self) -> list[Reading]:
        return [gpu.read() for gpu in self._gpus]

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """NVML meters the GPU, whoever uses it."""

    def close(self) -> None:
        nvml.nvmlShutdown()


def open_nvml(devices: Sequence[DeviceLike]) -> NvmlMeter:
    """Meter these GPUs (or slices), by UUID.

    Raises MeterUnavailableError without NVML, for a device that is no GPU, and for a UUID that NVML does not know.
    """
    where, others = "meter.kind 'nvml'", [device.uuid for device in devices if device.kind != "cuda"]
    if others or not devices:
        what = f"not an NVIDIA GPU: {', '.join(others)}" if others else "there is no GPU to meter"
        raise MeterUnavailableError(what, where=where, remedy="choose 'rapl' or 'estimate' for CPU devices")
    if problem := nvml_problem():
        raise MeterUnavailableError(problem, where=where, remedy="install the NVIDIA driver, or choose another meter")
    nvml.nvmlInit()
    gpus: dict[str, _Gpu] = {}
    covers: dict[str, tuple[str, ...]] = {}
    try:
        for device in devices:
            gpu, shared_by = _locate(device.uuid)
            gpus.setdefault(gpu.uuid, gpu)
            covers[gpu.uuid] = shared_by
    except nvml.NVMLError as error:
        nvml.nvmlShutdown()
        remedy = "compare with `nvidia-smi -L`: the device may have gone, or be hidden from this container"
        raise MeterUnavailableError(f"NVML has no device {device.uuid}: {error}", where=where, remedy=remedy) from error
    return NvmlMeter(tuple(device.uuid for device in devices), list(gpus.values()), covers)


def _locate(uuid: str) -> tuple[_Gpu, tuple[str, ...]]:
    """The GPU that meters the device of this UUID, and all devices whose energy that GPU's meter holds."""
    handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
    if not uuid.startswith("MIG-"):
        return _Gpu(uuid, handle), (uuid,)
    whole = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
    slices = tuple(str(nvml.nvmlDeviceGetUUID(part)) for part in _slices(whole))
    return _Gpu(str(nvml.nvmlDeviceGetUUID(whole)), whole), slices
