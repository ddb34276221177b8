"""What one trial is: its configuration, its window, and the ids made from their content."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, Self

Precision = Literal["fp32", "tf32", "fp16", "bf16"]
Strategy = Literal["single", "ddp", "fsdp", "tp", "fsdp_tp", "zero1", "zero2", "zero3"]
Attention = Literal["sdpa", "eager"]
Head = Literal["classification", "language_model"]


@dataclass(frozen=True)
class TextData:
    """The user's own labelled texts. Paths are relative to the sweep's folder; `sha256` is of the text file's bytes."""

    path: str
    tokenizer: str
    text_column: str = "text"
    label_column: str = "label"
    sha256: str = ""


@dataclass(frozen=True)
class Configuration:
    """Everything that defines a trial but its repeat. Counts are plain numbers, lengths are in tokens."""

    gpu_model: str
    gpu_count: int
    strategy: Strategy
    num_layers: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    sequence_length: int
    micro_batch_size: int
    grad_accumulation: int = 1
    precision: Precision = "fp32"
    model_family: str = "bert"
    node_count: int = 1
    num_labels: int = 2
    dropout: float = 0.0
    attention: Attention = "sdpa"
    learning_rate: float = 1e-4
    head: Head = "classification"
    tensor_parallel: int = 1
    """Ranks that share each layer: all of them with tp, a divisor of gpu_count with fsdp_tp, else 1."""
    activation_checkpointing: bool = False
    torch_compile: bool = False
    checkpoint: str = ""
    """Folder of a saved model, relative to the sweep's; empty: random weights."""
    data: TextData | None = None
    """None: synthetic."""
    input_size: int | None = None
    """Width of the embeddings of a recurrent network; None: a Transformer's are as wide as its layers."""

    @property
    def data_parallel(self) -> int:
        """Ranks, or groups of tensor-parallel ranks, that each train on their own sequences."""
        return self.gpu_count // self.tensor_parallel

    @cached_property
    def configuration_id(self) -> str:
        """12 hexadecimal digits of the SHA-256 of the canonical JSON: equal content, equal id."""
        values = self.to_dict()
        if self.input_size is None:
            del values["input_size"]  # Transformers' ids are those that they had before there were others
        return _digest(values)

    @cached_property
    def case_id(self) -> str:
        """The id of the case: the configuration without strategy, counts and training details."""
        from joulelaw.model.tables import CASE_COLUMNS  # here: ranks need no pandas

        return _digest({name: getattr(self, name) for name in CASE_COLUMNS})

    @property
    def label(self) -> str:
        """What it is in a few words, for people."""
        accumulation = f" k{self.grad_accumulation}" if self.grad_accumulation > 1 else ""
        nodes = f" on {self.node_count} nodes" if self.node_count > 1 else ""
        return (
            f"{self.model_family} L{self.num_layers} h{self.hidden_size} s{self.sequence_length} "
            f"B{self.micro_batch_size}{accumulation} {self.precision} {self.strategy} x{self.gpu_count}{nodes}"
        )

    def single_device(self) -> Self:
        """The baseline of this configuration's case: the same work on one device."""
        return replace(self, strategy="single", gpu_count=1, node_count=1, tensor_parallel=1)

    def to_dict(self) -> dict[str, Any]:
        """As `asdict`, which takes fifty times as long: a plan has a hundred thousand."""
        values = {name: getattr(self, name) for name in _FIELDS}
        return values if self.data is None else values | {"data": asdict(self.data)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        data = known.pop("data", None)
        return cls(**known, data=TextData(**data) if isinstance(data, dict) else None)


_FIELDS = tuple(each.name for each in fields(Configuration))


@dataclass(frozen=True)
class Window:
    """How long a trial warms up and is measured.

    The window goes on until both minima hold and the energy per step is known within `tolerance` (a share, at 95 %;
    None: whatever is known of it), and at most `max_s`. The warm-up has `warmup_steps`, and then goes on until steps
    are steady and devices warm, at most `warmup_max_s`; 0: no rule, None: as the kind of device has it.
    """

    warmup_steps: int = 3
    min_steps: int = 20
    min_s: float = 0.0
    max_s: float = 600.0
    tolerance: float | None = None
    warmup_max_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """What is None is left out: so are windows in plans from before there was more than the first four."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class TrialSpec:
    """One trial to run: a configuration, its repeat number, the data seed and the window."""

    configuration: Configuration
    repeat: int = 0
    seed: int = 0
    window: Window = Window()

    @property
    def trial_id(self) -> str:
        return f"{self.configuration.configuration_id}-r{self.repeat}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"window": self.window.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        return cls(
            configuration=Configuration.from_dict(values["configuration"]),
            repeat=values["repeat"],
            seed=values["seed"],
            window=Window(**values["window"]),
        )


def _digest(values: dict[str, Any]) -> str:
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
