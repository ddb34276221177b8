"""One NVIDIA GPU as NVML reads it: counter first, power beside it, and about once a second what else goes on there."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from joulelaw.cluster.power.foreign import foreign_of, in_first_pid_namespace
from joulelaw.cluster.power.meter import GPU_LOST, Reading
from joulelaw.cluster.power.moves import Moves
from joulelaw.cluster.power.nvml_sensor import GAIN_BOUND, averaged_s, sensor_class
from joulelaw.cluster.power.sensor import Sensor

try:
    import pynvml as nvml
except ImportError:  # the law and its figures install without it
    nvml = None

# Beside a counter, what the card draws now comes first: it is the counter's check. Where power is all there is, the
# 1 s average does: it misses nothing, whatever the load's rhythm. The older call means either, by card.
INSTANT, AVERAGE = "NVML_FI_DEV_POWER_INSTANT", "NVML_FI_DEV_POWER_AVERAGE"
OLDER_CALL = "nvmlDeviceGetPowerUsage"
# One call under the name that drivers have had since 2023, and the one before; the list of processes since 2021.
THROTTLE_CALLS = ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
PROCESS_CALLS = ("nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2")
VALUE_FIELDS = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t
CONDITIONS_EVERY_NS = 1_000_000_000  # degrees change over seconds; each call costs the sampler time
GPU_SCOPE = 0  # NVML_POWER_SCOPE_GPU: without the CPU of a superchip

Call = Callable[[Any], Any]


def supported(call: Callable[..., Any], *arguments: Any) -> Any:
    """What the call gives, or None where this device, driver or slice does not have it, or does not let us."""
    try:
        return call(*arguments)
    except (
        nvml.NVMLError_NotSupported,
        nvml.NVMLError_FunctionNotFound,
        nvml.NVMLError_InvalidArgument,
        nvml.NVMLError_NoPermission,
        nvml.NVMLLibraryMismatchError,  # pynvml's word for a function that the driver lacks in this version
    ):
        return None


class PowerField:
    """Power (W) by one of NVML's fields, into the same structure each time: pynvml's own call makes a new one."""

    def __init__(self, name: str) -> None:
        self._values = (nvml.c_nvmlFieldValue_t * 1)()
        self._value = self._values[0]
        self._value.fieldId, self._value.scopeId = getattr(nvml, name), GPU_SCOPE

    def __call__(self, handle: Any) -> float:
        call = getattr(nvml.nvmlLib, "nvmlDeviceGetFieldValues", None)
        self._value.nvmlReturn = nvml.NVML_ERROR_NOT_SUPPORTED  # stays where the driver passes over the field
        failed = call(handle, 1, self._values) if call else nvml.NVML_ERROR_FUNCTION_NOT_FOUND
        if failed or (failed := self._value.nvmlReturn):
            raise nvml.NVMLError(failed)
        if self._value.valueType >= len(VALUE_FIELDS):
            raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
        return float(getattr(self._value.value, VALUE_FIELDS[self._value.valueType])) / 1000


def _usage_w(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000


def _counter_j(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000


def _celsius(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))


def _clock_mhz(handle: Any) -> float:
    return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))


def _pids_by(name: str) -> Callable[[Any], list[int]]:
    return lambda handle: [process.pid for process in getattr(nvml, name)(handle)]


def power_calls(has_counter: bool) -> list[tuple[str, Callable[[Any], float]]]:
    """The ways to ask for power, by preference."""
    names = (INSTANT, AVERAGE) if has_counter else (AVERAGE, INSTANT)
    fields = [(name, PowerField(name)) for name in names]
    return [*fields, (OLDER_CALL, _usage_w)]


@dataclass
class NvmlGpu:
    """One metered GPU: which calls it answers is asked once, and again only while it gave an error instead."""

    uuid: str
    handle: Any
    slices: tuple[str, ...] = ()  # UUIDs of its MIG slices
    later_ns: int = 0  # of each second, so that not all GPUs of a node are asked for their conditions at once
    _asked: bool = False
    _name: str = ""
    _tick_s: float | None = None
    _update_s: float | None = None
    _counter: Call | None = None
    _power: Call | None = None
    _power_name: str = ""
    _celsius: Call | None = None
    _clock: Call | None = None
    _throttle: Call | None = None
    _pids: Call | None = None
    _watched: dict[str, tuple[int, ...]] = field(default_factory=dict)
    _same_numbers: bool = field(default_factory=in_first_pid_namespace)
    _temperature_c: float | None = None
    _conditions_ns: int = -CONDITIONS_EVERY_NS

    def prepare(self) -> list[Moves]:
        """Asks what it answers, and gives the numbers to be watched for their rhythm: counter and power, in order."""
        try:
            self._ask()
        except nvml.NVMLError:
            return []  # the first reading asks again, and tells
        calls = [call for call in (self._counter, self._power) if call]
        return [Moves(partial(call, self.handle)) for call in calls]

    def settle(self, seen: Sequence[Moves]) -> None:
        """Takes what was seen of the numbers that `prepare` gave."""
        every_s = [moves.every_s() for moves in seen]
        self._tick_s = every_s[0] if every_s and self._counter else None
        self._update_s = every_s[-1] if every_s and self._power else None

    @property
    def sensor(self) -> Sensor:
        of_class = sensor_class(self._name)
        return Sensor(
            counter_tick_s=self._tick_s,
            power_source=self._power_name,
            power_update_s=self._update_s,
            power_averaged_s=averaged_s(self._power_name, of_class),
            sensor_class=of_class,
            gain_bound=GAIN_BOUND if of_class else None,
        )

    def watch(self, device_uuid: str, pids: Sequence[int]) -> None:
        """These are at work on the GPU, or on this slice of it, and no others of ours."""
        self._watched = {**self._watched, device_uuid: tuple(pids)}

    def read(self) -> Reading:
        time_ns, counter_j, errors = self._read_counter()
        power_w: float | None = None
        try:
            power_w = self._power(self.handle) if self._power else None
        except nvml.NVMLError as error:
            errors.append(_error_text("power", error))
        if self._asked and not self._counter and not self._power:
            errors.append("this GPU gives neither energy nor power")
        if time_ns - self._conditions_ns < CONDITIONS_EVERY_NS or not self._asked:
            return Reading(self.uuid, time_ns, power_w, counter_j, self._temperature_c, _worst(errors))
        clock_mhz, throttle, foreign = self._read_conditions(time_ns, errors)
        return Reading(
            self.uuid, time_ns, power_w, counter_j, self._temperature_c, _worst(errors), clock_mhz, throttle, foreign
        )

    def read_closely(self) -> Reading:
        """The counter alone, or power alone where there is none: for readings a millisecond apart."""
        if not self._counter:
            return self.read()
        time_ns, counter_j, errors = self._read_counter()
        return Reading(self.uuid, time_ns, None, counter_j, self._temperature_c, _worst(errors))

    def _read_counter(self) -> tuple[int, float | None, list[str]]:
        """The counter, and when that was: the reading's time is the counter's."""
        begin_ns, counter_j, errors = time.monotonic_ns(), None, []
        try:
            if not self._asked:
                self._ask()
                begin_ns = time.monotonic_ns()
            counter_j = self._counter(self.handle) if self._counter else None
        except nvml.NVMLError as error:
            errors.append(_error_text("energy counter", error))
        return (begin_ns + time.monotonic_ns()) // 2, counter_j, errors

    def _ask(self) -> None:
        """Raises NVMLError where neither counter nor power works, and one of them may yet."""
        self._name = str(supported(nvml.nvmlDeviceGetName, self.handle) or "")
        counter, counter_failure = self._first_answered([_counter_j])
        self._counter = _counter_j if counter_failure else counter  # its failure may pass, and is told until then
        ways = power_calls(has_counter=self._counter is not None)
        self._power, power_failure = self._first_answered([call for _, call in ways])
        if (failure := counter_failure or power_failure) and not counter and not self._power:
            raise failure
        self._power_name = next((name for name, call in ways if call is self._power), "")
        self._celsius, self._clock = self._if_answered(_celsius), self._if_answered(_clock_mhz)
        self._throttle = self._if_answered(*(getattr(nvml, name) for name in THROTTLE_CALLS))
        self._pids = self._if_answered(*map(_pids_by, PROCESS_CALLS))
        self._asked = True

    def _if_answered(self, *calls: Call) -> Call | None:
        """The first that works. Whatever ails the others, the joules can do without."""
        return self._first_answered(calls)[0]

    def _first_answered(self, calls: Sequence[Call]) -> tuple[Call | None, Exception | None]:
        """The first of these calls that gives something, and how one before it failed."""
        failure = None
        for call in calls:
            try:
                if supported(call, self.handle) is not None:
                    return call, failure
            except nvml.NVMLError as error:
                failure = error
        return None, failure

    def _read_conditions(self, now_ns: int, errors: list[str]) -> tuple[float | None, int | None, int | None]:
        """Temperature, which later readings repeat; SM clock, throttle reasons and processes of others."""
        self._temperature_c = self._beside(self._celsius, "temperature", errors)
        clock_mhz = self._beside(self._clock, "clock", errors)
        throttle = self._beside(self._throttle, "throttle reasons", errors)
        pids = self._beside(self._pids, "processes", errors)
        watched = {pid for named in self._watched.values() for pid in named}
        foreign = None if pids is None else foreign_of(pids, watched, same_numbers=self._same_numbers)
        self._conditions_ns = now_ns - self.later_ns
        self.later_ns = 0
        return clock_mhz, throttle, foreign

    def _beside(self, call: Call | None, what: str, errors: list[str]) -> Any:
        """None where it fails: an old value must not outlive that, nor the failure of one take the others along."""
        try:
            return call(self.handle) if call else None
        except nvml.NVMLError as error:
            errors.append(_error_text(what, error))
            return None

    def describe(self) -> str:
        counter = "nvmlDeviceGetTotalEnergyConsumption" if self._counter else "no energy counter"
        shared = f"; of the whole GPU, cut by MIG into {', '.join(self.slices)}" if self.slices else ""
        return f"energy: {counter}; power: {self._power_name or 'none'}{shared}"


def _error_text(what: str, error: Any) -> str:
    lost = isinstance(error, (nvml.NVMLError_GpuIsLost, nvml.NVMLError_GpuNotFound, nvml.NVMLError_ResetRequired))
    return f"{GPU_LOST}: {error}" if lost else f"{what}: {error}"


def _worst(errors: list[str]) -> str:
    """The loss of a GPU is said once and first, as the verdict looks for it there."""
    if not errors:
        return ""
    return "; ".join(dict.fromkeys(sorted(errors, key=lambda text: not text.startswith(GPU_LOST))))
