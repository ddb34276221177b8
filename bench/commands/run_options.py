"""Options that say what is trained, on what, how much of it, and what that costs: of every command that asks for it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from joulelaw import InputError


def _option(name: str, metavar: str, text: str) -> typer.models.OptionInfo:
    made: typer.models.OptionInfo = typer.Option(name, metavar=metavar, help=text)
    return made


Model = Annotated[
    str | None,
    _option("--model", "NAME", "Hugging Face name, config.json or its folder; BERT and GPT-2 families."),
]
GpuModel = Annotated[
    str | None, _option("--gpu-model", "NAME", "As nvidia-smi names it, such as 'NVIDIA A100-SXM4-80GB'.")
]
GpuCount = Annotated[int | None, _option("--gpu-count", "N", "GPUs in all; 1 else.")]
NodeCount = Annotated[int | None, _option("--node-count", "N", "Nodes that they are on; 1 else.")]
Strategy = Annotated[
    str | None,
    _option("--strategy", "NAME", "single, ddp, fsdp, tp, fsdp_tp, zero1, zero2 or zero3; on one GPU single else."),
]
TensorParallel = Annotated[
    int | None, _option("--tensor-parallel", "N", "GPUs that share each layer with fsdp_tp; 2 else.")
]
MicroBatchSize = Annotated[
    int | None,
    _option("--micro-batch-size", "N", "Sequences of one forward pass on one GPU (per_device_train_batch_size)."),
]
SequenceLength = Annotated[int | None, _option("--sequence-length", "N", "Tokens of a sequence, padding included.")]
GradAccumulation = Annotated[
    int | None, _option("--grad-accumulation", "N", "Micro-batches of an optimizer step; 1 else.")
]
Precision = Annotated[str | None, _option("--precision", "NAME", "fp32, tf32, fp16 or bf16.")]
Head = Annotated[
    str | None,
    _option("--head", "NAME", "classification or language_model; else classification for BERT, the other for GPT-2."),
]
NumLabels = Annotated[int | None, _option("--num-labels", "N", "Classes of a classification; 2 else.")]
Dropout = Annotated[float | None, _option("--dropout", "P", "Probability; 0.1 else.")]
Attention = Annotated[str | None, _option("--attention", "NAME", "sdpa or eager; sdpa else.")]
ActivationCheckpointing = Annotated[
    bool | None,
    typer.Option(
        "--activation-checkpointing", help="Layers are computed again instead of kept (gradient_checkpointing)."
    ),
]
TorchCompile = Annotated[bool | None, typer.Option("--torch-compile", help="Layers are compiled.")]
PowerLimit = Annotated[
    float | None, _option("--power-limit-w", "W", "Enforced power limit of a GPU; the catalogue's default else.")
]
LinkSpeed = Annotated[
    float | None,
    _option("--link-bytes-per-s", "B", "Between GPUs of a node, one direction; the catalogue's else."),
]
NetworkSpeed = Annotated[float | None, _option("--network-bytes-per-s", "B", "Between nodes, one direction, per GPU.")]
DatasetSize = Annotated[int | None, _option("--dataset-size", "N", "Sequences of the data set.")]
Epochs = Annotated[float | None, _option("--epochs", "N", "Times that they are trained on; 1 else.")]
Steps = Annotated[
    int | None, _option("--steps", "N", "Optimizer steps, instead of --dataset-size and --epochs (max_steps).")
]
PricePerKwh = Annotated[float | None, _option("--price-per-kwh", "PRICE", "What a kWh costs: adds the energy's cost.")]
PricePerGpuHour = Annotated[
    float | None, _option("--price-per-gpu-hour", "PRICE", "What an hour of one GPU costs: adds the GPUs' cost.")
]
Currency = Annotated[str | None, _option("--currency", "NAME", "Of both prices, such as EUR.")]
GridIntensity = Annotated[
    float | None, _option("--grid-intensity", "G", "Grams of CO2 equivalent per kWh of the grid: adds CO2e in kg.")
]
Boundary = Annotated[
    str | None,
    _option("--boundary", "NAME", "What the joules are to cover, where the law was fitted on several boundaries."),
]
Devices = Annotated[
    list[Path] | None,
    typer.Option("--devices", metavar="FILE.toml", help="GPUs of your own that the law was not fitted on."),
]

PRICES = {
    "per_kwh": "price_per_kwh",
    "per_gpu_hour": "price_per_gpu_hour",
    "grid_g_per_kwh": "grid_intensity",
    "currency": "currency",
}


def flag(name: str) -> str:
    """How the option of a column, or of a field of `Prices`, is written."""
    return "--" + PRICES.get(name, name).replace("_", "-")


@contextmanager
def told_of_flags() -> Iterator[None]:
    """An InputError about one named option, or one of `prices`, names it as it is written."""
    try:
        yield
    except InputError as error:
        name = error.where.rpartition(".")[2]
        if not name.isidentifier():
            raise
        raise type(error)(error.what, where=flag(name), remedy=error.remedy) from None
