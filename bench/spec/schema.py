"""What a sweep file may say: every key, its type, its bounds and its default."""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from joulelaw.bench.spec.configuration import Attention, Head, Precision, Strategy
from joulelaw.cluster.power.meter import MeterChoice
from joulelaw.cluster.scheduling.retries import TRIES

EACH = "each"
"""The gpu_model that stands for every model in the inventory."""


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value,)


def _path(value: Any) -> Any:
    return Path(value) if isinstance(value, str) else value


Count = Annotated[int, Field(ge=1, le=1_000_000)]
Vocabulary = Annotated[int, Field(ge=1, le=100_000_000)]
Labels = Annotated[int, Field(ge=2, le=100_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
# Twelve days where it is seconds.
Positive = Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
# A sweep's and its data set's name: it becomes a folder.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]

T = TypeVar("T")
Axis = Annotated[tuple[T, ...] | None, BeforeValidator(_as_tuple), Field(min_length=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Axes(_Section):
    """One grid: an axis holds one value or a list of them; None where the grid does not name it."""

    gpu_model: Axis[Text] = None
    gpu_count: Axis[Count] = None
    node_count: Axis[Count] = None
    strategy: Axis[Strategy] = None
    model_family: Axis[Text] = None
    num_layers: Axis[Count] = None
    hidden_size: Axis[Count] = None
    num_heads: Axis[Count] = None
    intermediate_size: Axis[Count] = None
    vocab_size: Axis[Vocabulary] = None
    sequence_length: Axis[Count] = None
    micro_batch_size: Axis[Count] = None
    grad_accumulation: Axis[Count] = None
    precision: Axis[Precision] = None
    num_labels: Axis[Labels] = None
    dropout: Axis[Share] = None
    attention: Axis[Attention] = None
    learning_rate: Axis[Positive] = None
    head: Axis[Head] = None
    tensor_parallel: Axis[Count] = None
    activation_checkpointing: Axis[bool] = None
    torch_compile: Axis[bool] = None
    checkpoint: Axis[Text] = None
    input_size: Axis[Count] = None


USUAL_MIN_S = 2.0  # twice what a valid window needs at least


class WindowSection(_Section):
    """How long a trial warms up and is measured.

    `min_s`, where the sweep does not say, is USUAL_MIN_S, or `max_s` if that is less.
    `tolerance`: the window goes on until the energy per step is known within this share, at 95 %; 0 or null: it ends
    with its minima. `warmup_max_s`: after `warmup_steps` the warm-up goes on until steps are steady and devices warm,
    at most so long; null: 60 s on GPUs, 0 elsewhere, which is without that rule.
    """

    warmup_steps: Annotated[int, Field(ge=0, le=100_000)] = 3
    min_steps: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    max_s: Positive = 600.0
    min_s: NotNegative = Field(default_factory=lambda given: min(USUAL_MIN_S, given.get("max_s", USUAL_MIN_S)))
    tolerance: Share | None = 0.01
    warmup_max_s: NotNegative | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "WindowSection":
        if self.min_s > self.max_s:
            raise ValueError(f"min_s {self.min_s:g} is more than max_s {self.max_s:g}")
        return self


class HoldOutSection(_Section):
    """What is kept from the fit: whole groups of trials that agree in `by`, until `fraction` of them is reached."""

    by: Literal["case", "workload", "gpu_model"] = "case"
    fraction: Share = 0.25


class MeteringSection(_Section):
    """Where joules come from. `cpu_w_per_core` is the stated wattage that the estimate multiplies CPU time by.

    Before the first trial the idle power of all devices is measured for `idle_s` seconds; 0: it is not. With
    `cooldown_c` a trial begins once its devices are below that temperature, or after `cooldown_max_s`.
    """

    meter: MeterChoice = "auto"
    rate_hz: Annotated[float, Field(ge=0.001, le=1000, allow_inf_nan=False)] = 20.0
    cpu_w_per_core: Positive | None = None
    replay_path: Annotated[Path | None, BeforeValidator(_path)] = None
    idle_s: Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)] = 3.0
    cooldown_c: Annotated[float, Field(gt=0, le=200, allow_inf_nan=False)] | None = None
    cooldown_max_s: NotNegative = 300.0

    @model_validator(mode="after")
    def _replay(self) -> "MeteringSection":
        if (self.meter == "replay") != (self.replay_path is not None):
            raise ValueError("meter: replay and replay_path go together")
        return self


class DevicesSection(_Section):
    """How a machine without GPUs is divided into logical devices, and what becomes of what no device here can run.

    `misfits`: a device model or count that no node has, a precision or a size that none can train. Refused, or set
    aside with the reason while the rest is run: for a sweep that is to serve many machines.
    """

    cores_per_device: Annotated[int, Field(ge=1, le=4096)] = 1
    misfits: Literal["refuse", "set_aside"] = "refuse"


class LimitsSection(_Section):
    """How far trials may go. `hang_s`: without a step, or any other sign of life, for so long a trial has failed.
    `tries`: attempts at a trial in one run, where the machine was at fault. `share_node`: whether groups may run side
    by side on one node; false: a node is one trial's at a time.
    """

    trial_timeout_s: Positive = 1800.0
    hang_s: Positive = 300.0
    tries: Annotated[int, Field(ge=1, le=100)] = TRIES
    share_node: bool = True


class DataSection(_Section):
    """The user's own labelled texts. Both paths are relative to the sweep file, and stay in its folder."""

    path: Text
    tokenizer: Text
    text_column: Text = "text"
    label_column: Text = "label"


class SweepSection(_Section):
    """A whole sweep file."""

    schema_version: Annotated[Literal[1], Field(alias="schema")]
    name: Name
    description: Annotated[str, Field(max_length=2000)] = ""
    seed: Annotated[int, Field(ge=0, lt=2**62)] = 0  # a repeat's own is a little larger, and must fit 64 bits
    repeats: Annotated[int, Field(ge=1, le=1000)] = 1
    defaults: Axes = Axes()
    grids: Annotated[list[Axes], Field(min_length=1, max_length=1000)]
    window: WindowSection = WindowSection()
    hold_out: HoldOutSection = HoldOutSection()
    metering: MeteringSection = MeteringSection()
    devices: DevicesSection = DevicesSection()
    limits: LimitsSection = LimitsSection()
    data: DataSection | None = None
